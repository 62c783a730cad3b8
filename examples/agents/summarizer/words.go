package main

import "strings"

// languages are the ISO 639-1 codes of the languages whose function words are
// known, by number; 0 is none of them.
var languages = [...]string{"und", "en", "de", "fr", "es", "it", "pt", "nl"}

// stopWords are each language's commonest function words: they say which language
// a text is in and nothing about its subject.
var stopWords = [...]string{
	1: `a about above after again against all also although am an and any are aren't as at be because been before being below between both but
		by can can't cannot could couldn't did didn't do does doesn't doing don't down during each even every few for from further had hadn't has
		hasn't have haven't having he her here hers herself him himself his how however i i'm if in into is isn't it it's its itself just let's
		like many may me might more most much must my myself no nor not now of off often on once one only or other others our ours out over own
		perhaps rather same shall she should since so some still such than that that's the their theirs them themselves then there these they
		this those though through thus to too under until up upon us very was wasn't we were weren't what when where which while who whom whose
		why will with within without won't would wouldn't yet you your yours yourself`,
	2: `aber alle allem allen aller alles als also am an andere anderen auch auf aus bei beim bereits bin bis bist da dabei dadurch dafür dagegen
		daher damit danach dann daran darauf das dass davon dazu dein dem den denn dennoch der deren des dessen die dies diese diesem diesen
		dieser dieses doch dort du durch ein eine einem einen einer eines er erst es etwa etwas euch für gegen hat hatte hatten hier ihm ihn ihnen
		ihr ihre ihrem ihren ihrer im immer in ist ja jede jedem jeden jeder jedes jedoch kann kein keine keinen können konnte man mehr mein
		mich mir mit muss müssen nach nicht nichts noch nun nur ob obwohl oder ohne schon sehr sein seine seinem seinen seiner seit sich sie sind
		so sogar sondern soll sollte sowie über um und uns unser unter viel viele vom von vor war waren warum was weder weil weiter welche
		welcher wenn wer werden wie wieder will wir wird wo wurde wurden zu zum zur zwar zwischen`,
	3: `ainsi alors après au aucun aucune aussi autre autres aux avait avant avec avoir beaucoup bien car ce cela celle celui cependant ces cet
		cette ceux chaque chez comme comment contre dans de depuis des deux devant doit donc dont du elle elles en encore entre est et étaient
		était être eu eux fait font furent fut grâce il ils je jusqu la là le les leur leurs lors lorsque lui mais malgré même mêmes moins mon
		ne ni nos notre nous on ont or ou où par parce pas pendant peu peut plus plusieurs pour pourquoi quand que quel quelle quelques qui
		quoi sa sans se selon ses seulement si son sont sous sur ta tandis tous tout toute toutes très trop tu un une vers vos votre vous y`,
	4: `al algo algunos ante antes aquel aquella aquí así aún aunque cada casi como con contra cual cuando de debe del desde después donde dos
		durante e el él ella ellas ellos en entonces entre era eran es esa ese eso esta está están estas este esto estos fue fueron ha había
		habían han hasta hay la las le les lo los más me mi mientras mismo mucho muchos muy nada ni no nos nosotros nuestra nuestro o os otra
		otras otro otros para pero poco por porque puede pueden pues que qué quien quienes se sea según ser si sí sido sin sino sobre son su
		sus también tan tanto te tenía tiene tienen toda todas todavía todo todos tras tu un una uno unos usted y ya yo`,
	5: `a abbiamo agli ai al alcuni alla alle allo anche ancora avere aveva avevano c'è che chi ci ciò coi col come con contro cosa così cui da
		dagli dai dal dalla dalle dallo degli dei del dell della delle dello dentro di dopo dove due dunque e è ed era erano essere fa fino fra fu
		furono gli già ha hanno i il in infatti invece io l la le lei li lo loro lui ma mai me mentre mi mia mio molti molto ne negli nei nel
		nell nella nelle nello noi non nostra nostro o ogni oltre ora per perché però più poco poi prima proprio può qua quale quali quando
		quanto quasi quella quelle quelli quello questa queste questi questo qui se sé secondo sei sempre senza si sia sono sopra sotto stata
		stato su sua subito sue sugli sui sul sulla sulle suo suoi tra tutta tutti tutto un una uno vi voi`,
	6: `a ainda além algumas alguns ao aos apenas após aquela aquele aqui as até cada com como contra da das de dela dele deles depois desde
		dessa desse desta deste deve do dois dos durante e é ela elas ele em embora enquanto então entre era eram essa esse esta está este
		estes eu foi for foram há isso isto já lhe lo mais mas me mesma mesmo meu minha muito muitos na não nas nem nessa nesta no nos nós
		nossa nosso num numa o os ou outra outras outro outros para pela pelas pelo pelos pode podem pois por porém porque quais qual quando que quem
		são se seja sem ser será seu seus só sob sobre sua suas também tão tem têm tinha toda todas todo todos tudo um uma umas uns você`,
	7: `aan al alle alleen als altijd andere ben bij daar dan dat de der deze die dit doch door dus echter een eerst elk en er ging haar had
		hadden heb hebben heeft hem het hier hij hoe hun ik in is ja je jij kan konden kon kunnen maar me meer men met mijn moet moeten na naar
		niet niets nog nu of om omdat onder ons ook op over reeds sinds te tegen terwijl toch toen tot tussen uit uw van veel vooral voor
		waar waren was wat we wel werd werden wie wij wil worden wordt zal ze zelf zich zij zijn zo zonder zou zouden`,
}

// languageOf has every function word, with a bit for each language that has it.
var languageOf = wordSets()

func wordSets() map[string]uint16 {
	all := make(map[string]uint16, 1500)
	for number, words := range stopWords {
		for word := range strings.FieldsSeq(words) {
			all[word] |= 1 << number
		}
	}
	return all
}

// titles stand before a name, so no sentence ends with their dot.
var titles = set(`mr mrs ms mx dr prof rev hon st gen col lt capt sgt maj adm gov sen rep pres fr sr sra hr fam dipl ing
	mme mlle m sig sig.ra dott dhr mevr prof.dr`)

// counters stand before a number; before anything else their dot is an end.
var counters = set(`fig figs eq no nos nr nrs vol vols pp p ch sec art abb abs abt bd kap tab ref refs`)

// abbreviations may end a sentence, but most often do not.
var abbreviations = set(`e.g i.e etc vs viz cf al approx appr est ca c ed eds edn dept inc ltd co corp bros llc plc jr sr phd md esq
	jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun a.m p.m ave blvd rd bldg mt ft
	z.b d.h u.a u.s.w usw bzw evtl ggf inkl exkl sog str tel vgl vs zzgl mio mrd geb gest jh chr jhdt min max std
	av env p.ex c.-à-d pág págs aprox ud uds ej p.ej es ecc pag art.n bijv blz enz m.b.t o.a resp`)

// months follow an ordinal in the languages that write it with a dot.
var months = set(`januar jänner februar märz april mai juni juli august september oktober november dezember
	januari februari maart mei augustus december`)

// leaning words at the start of a sentence point at the sentence before it.
var leaning = set(`he she it they this that these those his her its their such also but however therefore then there here
	er sie es dies diese dieser dieses dabei damit dadurch daher aber auch doch dort hier so il elle ils elles ce cela ces cette mais donc aussi ainsi là
	él ella ellos ellas esto esta este estos estas eso pero también así egli lui lei loro questo questa questi queste ma anche
	ele ela elas isto isso este esta mas também hij zij ze dit dat deze maar ook daar`)

func set(words string) map[string]bool {
	all := map[string]bool{}
	for word := range strings.FieldsSeq(words) {
		all[word] = true
	}
	return all
}
