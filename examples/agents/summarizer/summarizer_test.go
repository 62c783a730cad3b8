package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"stoa/agent"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func sentencesOf(text string) []string {
	var all []string
	for _, s := range split(text) {
		all = append(all, tidy(text[s.start:s.end]))
	}
	return all
}

func indexes(out output) []int {
	var all []int
	for _, s := range out.Sentences {
		all = append(all, s.Index)
	}
	return all
}

func TestSentencesAreFound(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"plain", "One. Two! Three? Four", []string{"One.", "Two!", "Three?", "Four"}},
		{"titles and initials", "Dr. J. K. Lee met Mrs. Hall. They left.", []string{"Dr. J. K. Lee met Mrs. Hall.", "They left."}},
		{"decimals and addresses", "Pi is 3.14. See example.com or v1.2.3. Done.", []string{"Pi is 3.14.", "See example.com or v1.2.3.", "Done."}},
		{"abbreviations in a sentence", "Use tools, e.g. Make, i.e. the old one, etc. and so on.", []string{"Use tools, e.g. Make, i.e. the old one, etc. and so on."}},
		{"abbreviation at the end", "He works at Acme Inc. The firm is old.", []string{"He works at Acme Inc.", "The firm is old."}},
		{"acronym", "The U.S. Senate met. It voted in the U.S. Then it rested.", []string{"The U.S. Senate met.", "It voted in the U.S.", "Then it rested."}},
		{"quotation goes on", `"Stop!" he said. "Why?" She left.`, []string{`"Stop!" he said.`, `"Why?"`, "She left."}},
		{"ellipsis", "Well... maybe. Wait... What? No… Never.", []string{"Well... maybe.", "Wait...", "What?", "No…", "Never."}},
		{"stops in a row", "Really?! Yes!!! OK.", []string{"Really?!", "Yes!!!", "OK."}},
		{"brackets", "It rained (hard.) We stayed. [3] is a note.", []string{"It rained (hard.)", "We stayed.", "[3] is a note."}},
		{"footnotes", "It was late.[3] We slept.", []string{"It was late.", "[3] We slept."}},
		{"year at the end", "It began in 1969. Men landed.", []string{"It began in 1969.", "Men landed."}},
		{"numbers", "See Fig. 3 and No. 7. Is it? No. They know.", []string{"See Fig. 3 and No. 7.", "Is it?", "No.", "They know."}},
		{"vitamin C", "Oranges have vitamin C. The peel has more. So do I. Yes.", []string{"Oranges have vitamin C.", "The peel has more.", "So do I.", "Yes."}},
		{"German ordinals", "Am 3. Oktober kam z. B. Frau Dr. Roth. Sie blieb ca. 2 Tage.", []string{"Am 3. Oktober kam z. B. Frau Dr. Roth.", "Sie blieb ca. 2 Tage."}},
		{"German quotation", "„Komm!“, rief er. „Nein.“ Dann ging sie.", []string{"„Komm!“, rief er.", "„Nein.“", "Dann ging sie."}},
		{"French spacing", "Est-ce vrai ? Oui ! « Bien », dit-il. Fin.", []string{"Est-ce vrai ?", "Oui !", "« Bien », dit-il.", "Fin."}},
		{"Spanish", "¿Dónde está? ¡Aquí! Vale.", []string{"¿Dónde está?", "¡Aquí!", "Vale."}},
		{"Japanese", "雨が降った。「傘は？」と聞いた。", []string{"雨が降った。", "「傘は？」", "と聞いた。"}},
		{"Hindi and Urdu and Armenian", "यह घर है। वह बड़ा है॥ کیا؟ ہاں۔ Այո։", []string{"यह घर है।", "वह बड़ा है॥", "کیا؟", "ہاں۔", "Այո։"}},
		{"wrapped lines", "A line that\nis wrapped. Next\none.", []string{"A line that is wrapped.", "Next one."}},
		{"paragraphs and headings", "A heading\n\nText here.\n# Next\nMore text", []string{"A heading", "Text here.", "# Next", "More text"}},
		{"lists", "We need:\n- bread\n- milk\n1. First\n2) Second\n• Third", []string{"We need:", "- bread", "- milk", "1. First", "2) Second", "• Third"}},
		{"nothing", " \n\t...!? -- \n\n", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := sentencesOf(test.text); !slices.Equal(got, test.want) {
				t.Errorf("sentences\n got %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestSummaryOfANewsReport(t *testing.T) {
	out := summarize(read(t, "lighthouse.en.txt"), 3)

	if len(out.Sentences) != 3 || out.Sentences[0].Index != 0 {
		t.Fatalf("sentences = %v, want three, the opening one first", indexes(out))
	}
	for _, fact := range []string{"voted", "keep the old lighthouse lit", "trust"} {
		if !strings.Contains(out.Summary, fact) {
			t.Errorf("the summary does not say %q: %s", fact, out.Summary)
		}
	}
	if want := (statistics{
		Language: "en", Characters: 2145, Words: 397, Sentences: 22, SummaryWords: out.Statistics.SummaryWords,
		Compression: round(float64(out.Statistics.SummaryWords) / 397),
	}); out.Statistics != want {
		t.Errorf("statistics = %+v, want %+v", out.Statistics, want)
	}
	if got := len(strings.Fields(out.Summary)); got != out.Statistics.SummaryWords {
		t.Errorf("summary_words = %d, the summary has %d", out.Statistics.SummaryWords, got)
	}
}

func TestSummariesInOtherLanguages(t *testing.T) {
	for _, test := range []struct{ file, language, about string }{
		{"moor.de.txt", "de", "Moore"},
		{"levain.fr.txt", "fr", "levain"},
		{"bees.ja.txt", "und", "ミツバチ"},
	} {
		t.Run(test.file, func(t *testing.T) {
			text := read(t, test.file)
			out := summarize(text, 2)
			if out.Statistics.Language != test.language {
				t.Errorf("language = %s, want %s", out.Statistics.Language, test.language)
			}
			if len(out.Sentences) != 2 || !strings.Contains(out.Summary, test.about) {
				t.Errorf("the summary is not about %s: %s", test.about, out.Summary)
			}
		})
	}
}

func TestWideScriptsAreJoinedWithoutSpaces(t *testing.T) {
	out := summarize(read(t, "bees.ja.txt"), 2)
	if strings.Contains(out.Summary, " ") {
		t.Errorf("summary has a space: %s", out.Summary)
	}
}

func TestSentencesStandInTheOrderOfTheText(t *testing.T) {
	text := read(t, "lighthouse.en.txt")
	for limit := 1; limit <= mostSentences; limit++ {
		out := summarize(text, limit)
		if len(out.Sentences) != limit || !slices.IsSorted(indexes(out)) {
			t.Errorf("limit %d: sentences %v", limit, indexes(out))
		}
		best := 0.0
		for _, s := range out.Sentences {
			best = max(best, s.Score)
			if s.Score < 0 || s.Score > 1 {
				t.Errorf("score %v is outside 0 to 1", s.Score)
			}
		}
		if best != 1 {
			t.Errorf("limit %d: the best score is %v, want 1", limit, best)
		}
	}
}

func TestRepetitionsAreTakenOnce(t *testing.T) {
	const news = "The council of Millbrook approved a new bridge across the river Tarn. "
	text := strings.Repeat(news, 5) + "Work on the bridge begins in spring with the northern pier of the river. " + news
	out := summarize(text, 5)
	if got := strings.Count(out.Summary, "approved"); got != 1 {
		t.Errorf("the same sentence stands %d times in the summary: %s", got, out.Summary)
	}
}

func TestShortTextsAreTheirOwnSummary(t *testing.T) {
	for _, test := range []struct {
		text, want string
		sentences  int
	}{
		{"Cats sleep a lot.", "Cats sleep a lot.", 1},
		{"Title", "Title", 1},
		{"", "", 0},
		{" \n\n ", "", 0},
		{"!!! ... ---", "", 0},
	} {
		out := summarize(test.text, 3)
		if out.Summary != test.want || len(out.Sentences) != test.sentences || out.Sentences == nil {
			t.Errorf("summarize(%q) = %+v", test.text, out)
		}
	}
}

func TestLongTextsAreCutAndStillSummarized(t *testing.T) {
	news := read(t, "lighthouse.en.txt")
	var book strings.Builder
	for book.Len() < 1<<20 {
		book.WriteString("Nobody spoke of chapter " + string(rune('A'+book.Len()%26)) + ". It was so. ")
		if book.Len()%70 == 0 {
			book.WriteString(news)
		}
	}
	out := summarize(book.String(), 4)
	if !out.Statistics.Truncated || out.Statistics.Sentences <= maxSentences || len(out.Sentences) != 4 {
		t.Errorf("statistics = %+v with %d sentences", out.Statistics, len(out.Sentences))
	}
}

func TestATextWithoutAnyStopIsCutIntoPieces(t *testing.T) {
	for name, text := range map[string]string{
		"words": strings.Repeat("endless words without any stop ", 2000),
		"runes": strings.Repeat("é", 40_000),
	} {
		t.Run(name, func(t *testing.T) {
			for _, s := range split(text) {
				if s.end-s.start > 2*maxSentenceBytes+utf8.UTFMax {
					t.Fatalf("a piece has %d bytes", s.end-s.start)
				}
				if !utf8.ValidString(text[s.start:s.end]) {
					t.Fatal("a piece cuts a character")
				}
			}
		})
	}
}

// serve sends one input through the protocol.
func serve(t *testing.T, in string) (result struct {
	Result *struct{ Output output }
	Error  *struct {
		Code    int
		Message string
	}
}) {
	t.Helper()
	var out, log bytes.Buffer
	line := `{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":` + in + `,"deadline_ms":20000,"execution_id":"exe_1"}}` + "\n"
	if err := agent.ServeIO(strings.NewReader(line), &out, &log, run); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		t.Fatalf("%v: %s", err, out.Bytes())
	}
	return result
}

func TestTheProtocolEndToEnd(t *testing.T) {
	text, err := json.Marshal(read(t, "lighthouse.en.txt"))
	if err != nil {
		t.Fatal(err)
	}
	got := serve(t, `{"text":`+string(text)+`}`)
	if got.Error != nil || len(got.Result.Output.Sentences) != defaultSentences || got.Result.Output.Statistics.Language != "en" {
		t.Errorf("answer = %+v", got)
	}
	for _, n := range []string{"-1", "21"} {
		got = serve(t, `{"text":"A. B.","max_sentences":`+n+`}`)
		if got.Error == nil || got.Error.Code != -32602 || got.Error.Message != "input.max_sentences: want 1 to 20" {
			t.Errorf("max_sentences %s: answer = %+v", n, got.Error)
		}
	}
}

// FuzzSummarize checks that any text has ordered, whole sentences and a summary
// made of them.
func FuzzSummarize(f *testing.F) {
	for _, name := range []string{"lighthouse.en.txt", "moor.de.txt", "levain.fr.txt", "bees.ja.txt"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), 3)
	}
	f.Add("a.\x00b\xff. ..\n\n#\n- \n1. x", 20)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit < 1 || limit > mostSentences {
			return
		}
		at := 0
		for _, s := range split(text) {
			if s.start < at || s.end <= s.start || s.end > len(text) {
				t.Fatalf("sentence %+v after %d of %d", s, at, len(text))
			}
			at = s.end
		}
		out := summarize(text, limit)
		if len(out.Sentences) > limit || out.Statistics.SummaryWords > out.Statistics.Words {
			t.Fatalf("output = %+v", out)
		}
		if _, err := json.Marshal(out); err != nil {
			t.Fatal(err)
		}
	})
}
