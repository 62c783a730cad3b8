package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"stoa/agent"
)

func fleet(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/fleet.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func ask(t *testing.T, document, query string) output {
	t.Helper()
	out, err := run(nil, input{JSON: json.RawMessage(document), Query: query})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return out
}

// values are the selected values, compacted, with spaces between them.
func values(t *testing.T, out output) string {
	t.Helper()
	var all []string
	for _, m := range out.Matches {
		var compact bytes.Buffer
		if err := json.Compact(&compact, m.Value); err != nil {
			t.Fatalf("%s: %v", m.Path, err)
		}
		all = append(all, compact.String())
	}
	return strings.Join(all, " ")
}

func paths(out output) string {
	var all []string
	for _, m := range out.Matches {
		all = append(all, m.Path)
	}
	return strings.Join(all, " ")
}

func TestSelectingFromARealisticDocument(t *testing.T) {
	for query, want := range map[string]string{
		`$.region`:                                          `"eu-north"`,
		`$['region']`:                                       `"eu-north"`,
		`$ .servers [0] .name`:                              `"web-1"`,
		`$.servers[*].name`:                                 `"web-1" "web-2" "db-1" "db-2" "batch"`,
		`$.servers[-1].name`:                                `"batch"`,
		`$.servers[1:3].name`:                               `"web-2" "db-1"`,
		`$.servers[::-2].name`:                              `"batch" "db-1" "web-1"`,
		`$.servers[0]['name', 'cores', "none"]`:             `"web-1" 8`,
		`$.servers[0,0,2].cores`:                            `8 8 32`,
		`$..used`:                                           `401 112 4001 3990 3`,
		`$..tags[0]`:                                        `"web" "web" "db" "db"`,
		`$..[?@ == 'primary']`:                              `"primary"`,
		`$.servers[?@.cpu > 0.7].name`:                      `"web-1" "db-1"`,
		`$.servers[?@.cpu>=0.72&&@.cores<32].name`:          `"web-1"`,
		`$.servers[?@.cpu < 0.2 || @.cores == 64].name`:     `"db-2" "batch"`,
		`$.servers[?!@.cpu].name`:                           `"batch"`,
		`$.servers[?@.maintenance].name`:                    `"db-2"`,
		`$.servers[?@.note == null].name`:                   `"web-2"`,
		`$.servers[?@.maintenance != true].name`:            `"web-1" "web-2" "db-1" "batch"`,
		`$.servers[?(@.cores == 8) && !(@.cpu > 0.5)].name`: `"web-2"`,
		`$.servers[?contains(@.tags, 'db')].name`:           `"db-1" "db-2"`,
		`$.servers[?starts_with(@.name, 'web')].cores`:      `8 8`,
		`$.servers[?ends_with(@['name'], "-2")].name`:       `"web-2" "db-2"`,
		`$.servers[?contains(@.name, 'atc')].name`:          `"batch"`,
		`$.servers[?length(@.tags) == 2].name`:              `"web-1" "db-1"`,
		`$.servers[?length(@.name) > 4].name`:               `"web-1" "web-2" "batch"`,
		`$.servers[?count(@.*) == 6].name`:                  `"web-2" "db-2"`,
		`$.servers[?value(@..total) == 1024].name`:          `"batch"`,
		`$.servers[?@.tags[?@ == 'public']].name`:           `"web-1"`,
		`$.servers[?@.disk == $.servers[0].disk].name`:      `"web-1"`,
		`$["owner's note"]['a/b']`:                          `1`,
		`$['owner\'s note'].serial`:                         `12345678901234567890`,
		`$..['na\u00efve key']`:                             `"zwölf \"Stück\""`,
		`$.*[?@ == 12345678901234567890]`:                   `12345678901234567890`,
		`$.*[?@ == 12345678901234567891]`:                   ``,
		`$.servers[?@.name < 'db-2'].name`:                  `"db-1" "batch"`,
		`$.servers[?@.cores <= 8].name`:                     `"web-1" "web-2"`,
		`$.region.none`:                                     ``,
		`$.servers.name`:                                    ``,
		`$.region[0]`:                                       ``,
		`$[0]`:                                              ``,
		`$[?false == true]`:                                 ``,
	} {
		t.Run(query, func(t *testing.T) {
			out := ask(t, fleet(t), query)
			if got := values(t, out); got != want {
				t.Errorf("values\n got %s\nwant %s", got, want)
			}
			if out.Count != len(out.Matches) || out.Truncated {
				t.Errorf("count = %d of %d, truncated %v", out.Count, len(out.Matches), out.Truncated)
			}
		})
	}
}

func TestSlices(t *testing.T) {
	for query, want := range map[string]string{
		`$[:]`: "0 1 2 3 4 5", `$[::]`: "0 1 2 3 4 5", `$[1:]`: "1 2 3 4 5", `$[:2]`: "0 1", `$[-2:]`: "4 5", `$[:-4]`: "0 1",
		`$[ 1 : 5 : 2 ]`: "1 3", `$[5:1:-2]`: "5 3", `$[::-1]`: "5 4 3 2 1 0", `$[0:3:0]`: "", `$[4:2]`: "", `$[2:4:-1]`: "",
		`$[-100:2]`: "0 1", `$[4:100]`: "4 5", `$[100:]`: "", `$[100::-4]`: "5 1", `$[:-100:-3]`: "5 2", `$[6]`: "", `$[-6]`: "0", `$[-7]`: "",
		`$[9007199254740991]`: "", `$[-9007199254740991::9007199254740991]`: "0",
	} {
		if got := values(t, ask(t, `[0,1,2,3,4,5]`, query)); got != want {
			t.Errorf("%s = %q, want %q", query, got, want)
		}
	}
}

func TestNormalizedPaths(t *testing.T) {
	const document = `{"a":[{"b c":1}],"it's":{"\\":2,"\u0001\n\t\b\f\r":3,"é😀":4},"":5}`
	want := `$['a'] $['it\'s'] $[''] $['a'][0] $['a'][0]['b c'] $['it\'s']['\\'] $['it\'s']['\u0001\n\t\b\f\r'] $['it\'s']['é😀']`
	out := ask(t, document, `$..*`)
	if got := paths(out); got != want {
		t.Errorf("paths\n got %s\nwant %s", got, want)
	}
	if got := paths(ask(t, document, `$`)); got != "$" {
		t.Errorf("path of the root = %s", got)
	}
	for _, m := range out.Matches { // a normalized path selects what it names
		again := ask(t, document, m.Path)
		if len(again.Matches) != 1 || again.Matches[0].Path != m.Path || string(again.Matches[0].Value) != string(m.Value) {
			t.Errorf("%s selects %s", m.Path, paths(again))
		}
	}
}

func TestDescendantsComeInTheOrderOfTheText(t *testing.T) {
	out := ask(t, `{"a":{"x":1,"b":{"x":2}},"x":[3,{"x":4}]}`, `$..x`)
	if got := values(t, out); got != `[3,{"x":4}] 1 2 4` {
		t.Errorf("values = %s", got)
	}
	if got := values(t, ask(t, `[[1],[2,[3]]]`, `$..[0]`)); got != `[1] 1 2 3` {
		t.Errorf("values = %s", got)
	}
}

func TestComparisons(t *testing.T) {
	const document = `[{"a":1,"b":1.0,"c":"x","d":[1,{"k":2,"l":3}],"e":[1.0,{"l":3,"k":2}],"f":null,"g":{},"h":1e400,"i":"\u0078","j":true,"k":[],"m":[1e400],"n":[1e400 ],"o":[2],"q":{"x":[],"y":{"z":1}},"r":{"y":{"z":1},"x":[]},"t":{"x":[],"w":{"z":1}}}]`
	for condition, want := range map[string]bool{
		`@.a == @.b`: true, `@.a != @.b`: false, `@.a == '1'`: false, `@.c == "x"`: true, `@.c == @.i`: true,
		`@.d == @.e`: true, `@.d == @.k`: false, `@.g == @.k`: false, `@.d == @.d`: true, `@.k == @.o`: false, `@.m == @.n`: true,
		`@.q == @.r`: true, `@.q == @.t`: false, `@.f == null`: true, `@.none == null`: false, `@.none == @.nothing`: true, `@.none != @.nothing`: false, `@.none != 1`: true,
		`@.none < 1`: false, `@.none <= @.nothing`: true, `@.a < 'x'`: false, `@.j == true`: true, `@.j != false`: true, `@.j < true`: false, `@.j <= true`: true,
		`@.c < 'y'`: true, `'y' > @.c`: true, `@.c >= 'x'`: true, `@.a > 0.5`: true, `1 >= @.a`: true, `-1e2 < @.a`: true, `@.h > 1e308`: true,
		`@.f`: true, `@.none`: false, `!@.none`: true, `!(@.a == 1)`: false, `!contains(@.c, 'x')`: false, `@.a == 1 && @.c == 'x' || @.none`: true,
		`@.none && @.a || @.c`: true, `@.a && (@.none || @.f)`: true, `@['a','b']`: true, `$[0].a == 1`: true,
		`length(@.c) == 1`: true, `length(@.g) == 0`: true, `length(@.a) == length(@.none)`: true, `length('zwölf') == 5`: true, `length(value(@..l)) == 2`: false,
		`count(@..k) == 3`: true, `count(@.none) == 0`: true, `value(@..k) == 2`: false, `value(@..none) == @.none`: true, `value(@.a) == 1`: true,
		`contains(@.d, 1)`: true, `contains(@.d, @.none)`: false, `contains(@.a, 1)`: false, `contains(@.c, 1)`: false, `contains(@.g, 'x')`: false,
		`starts_with(@.c, 'x')`: true, `starts_with(@.c, '')`: true, `ends_with(@.c, 'xx')`: false, `starts_with(@.a, '1')`: false,
	} {
		out := ask(t, document, `$[?`+condition+`]`)
		if got := out.Count == 1; got != want {
			t.Errorf("%s = %v, want %v", condition, got, want)
		}
	}
}

func TestDocumentsThatCannotBeAnsweredAreRefused(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for document, want := range map[string]string{
		`{"a":1,"b":2,"\u0061":3}`: "input: an object of the document has two members of the same name",
		`[{"a":{"x":1,"x":1}}]`:    "input: an object of the document has two members of the same name",
		deep(deepestDocument + 1):  "input: the document is nested deeper than 60 levels",
	} {
		if _, err := run(nil, input{JSON: json.RawMessage(document)}); err == nil || err.Error() != want {
			t.Errorf("%.30s: %v, want %s", document, err, want)
		}
	}
	if out := ask(t, deep(deepestDocument), `$..*`); out.Count != deepestDocument-1 {
		t.Errorf("count = %d", out.Count)
	}
}

func TestDocumentsOfEveryKind(t *testing.T) {
	for document, kind := range map[string]nodeKind{
		`null`: kindNull, ` false `: kindFalse, "\n\ttrue": kindTrue, `-1.5e+3`: kindNumber, `"a\"\\"`: kindString, `[ ]`: kindArray, ` { } `: kindObject,
	} {
		d, err := index([]byte(document))
		if err != nil || len(d.nodes) != 1 || d.nodes[0].kind != kind || string(d.raw(0)) != strings.TrimSpace(document) {
			t.Errorf("%q: nodes %+v", document, d.nodes)
		}
	}
}

func TestBadQueriesSayWhere(t *testing.T) {
	deep := strings.Repeat("[?@", 40)
	for query, want := range map[string]string{
		`servers`:                      `at character 1: a query begins with $`,
		`@.a`:                          `at character 1: a query begins with $`,
		`$.`:                           `at character 3: want a name or *`,
		`$..`:                          `at character 4: want a name or *`,
		`$.1`:                          `at character 3: want a name or *`,
		`$.a b`:                        `at character 4: want . or [ or the end`,
		`$.zwölf x`:                    `at character 8: want . or [ or the end`,
		`$ `:                           `at character 2: want . or [ or the end`,
		`$[`:                           `at character 3: want a quoted name, an index, a slice, * or ?`,
		`$[]`:                          `at character 3: want a quoted name, an index, a slice, * or ?`,
		`$[a]`:                         `at character 3: want a quoted name, an index, a slice, * or ?`,
		`$[0`:                          `at character 4: want , or ]`,
		`$[0,]`:                        `at character 5: want a quoted name, an index, a slice, * or ?`,
		`$[01]`:                        `at character 3: want an integer without leading zeros, of at most 2^53-1`,
		`$[-0]`:                        `at character 3: want an integer without leading zeros, of at most 2^53-1`,
		`$[-]`:                         `at character 3: want an integer without leading zeros, of at most 2^53-1`,
		`$[9007199254740992]`:          `at character 3: want an integer without leading zeros, of at most 2^53-1`,
		`$[99999999999999999999]`:      `at character 3: want an integer without leading zeros, of at most 2^53-1`,
		`$['a]`:                        `at character 3: the quote has no end`,
		`$['a\x']`:                     `at character 6: want an escape`,
		`$["\'"]`:                      `at character 5: want an escape`,
		"$['a\nb']":                    `at character 5: a control character must be written as an escape`,
		`$['\u12']`:                    `at character 5: want four hexadecimal digits`,
		`$['\u12`:                      `at character 5: want four hexadecimal digits`,
		`$['\ud800']`:                  `at character 10: a surrogate must come in a pair`,
		`$['\ud800\u0041']`:            `at character 16: a surrogate must come in a pair`,
		`$['\udc00\ud800']`:            `at character 10: a surrogate must come in a pair`,
		`$[?]`:                         `at character 4: want @, $, a literal or a function`,
		`$[?@.a ==]`:                   `at character 10: want @, $, a literal or a function`,
		`$[?@.a = 1]`:                  `at character 8: want , or ]`,
		`$[?1]`:                        `at character 5: want a comparison like == or <`,
		`$[?'a']`:                      `at character 7: want a comparison like == or <`,
		`$[?length(@.a)]`:              `at character 15: want a comparison like == or <`,
		`$[?@.* == 1]`:                 `at character 7: only a query for a single node can be compared`,
		`$[?1 == @..a]`:                `at character 9: only a query for a single node can be compared`,
		`$[?length(@.*) == 1]`:         `at character 11: only a query for a single node can be compared`,
		`$[?count(1) == 1]`:            `at character 10: count() takes a query`,
		`$[?contains(@, 'a') == true]`: `at character 20: contains() is true or false already and cannot be compared`,
		`$[?match(@.a, 'b')]`:          `at character 4: there is no function of this name; there are length, count, value, contains, starts_with and ends_with`,
		`$[?length(@.a, 1) == 1]`:      `at character 14: want )`,
		`$[?contains(@.a)]`:            `at character 16: want ,`,
		`$[?(@.a]`:                     `at character 8: want )`,
		`$[?@.a == 01]`:                `at character 11: want a number as JSON writes it`,
		`$[?@.a == 1.]`:                `at character 11: want a number as JSON writes it`,
		`$[?@.a == -]`:                 `at character 11: want a number as JSON writes it`,
		`$[?@.a == 1e999]`:             `at character 11: want a number as JSON writes it`,
		`$[?@.a == True]`:              `at character 11: want @, $, a literal or a function`,
		`$[?@.a == undefined]`:         `at character 11: want @, $, a literal or a function`,
		`$` + deep:                     `at character 50: is nested too deeply`,
	} {
		_, err := run(nil, input{JSON: json.RawMessage(`{}`), Query: query})
		if err == nil || err.Error() != "input.query: "+want {
			t.Errorf("%.30s\n got %v\nwant input.query: %s", query, err, want)
		}
	}
}

func TestTheDocumentMayBeGivenAsText(t *testing.T) {
	text := " {\"a\": [1, 2]} "
	out, err := run(nil, input{Text: &text, Query: "$.a[1]"})
	if err != nil || values(t, out) != "2" {
		t.Errorf("output = %+v, %v", out, err)
	}
	if out, err = run(nil, input{Text: &text}); err != nil || values(t, out) != `{"a":[1,2]}` {
		t.Errorf("without a query: %+v, %v", out, err)
	}
	for bad, want := range map[string]string{
		"":                        "input.text: is not JSON at line 1, column 1",
		"{\n \"ä\": 1,,\n}":       "input.text: is not JSON at line 2, column 9",
		"[1":                      "input.text: is not JSON at line 1, column 2",
		"[1] x":                   "input.text: is not JSON at line 1, column 5",
		strings.Repeat("[", 11e3): "input.text: is not JSON at line 1, column 10001",
	} {
		if _, err := run(nil, input{Text: &bad}); err == nil || err.Error() != want {
			t.Errorf("text %.20q: %v, want %s", bad, err, want)
		}
	}
	if _, err := run(nil, input{Text: &text, JSON: json.RawMessage("1")}); err == nil || err.Error() != "input: want json or text, not both" {
		t.Errorf("both: %v", err)
	}
	if _, err := run(nil, input{}); err == nil || err.Error() != "input.json: is missing" {
		t.Errorf("none: %v", err)
	}
}

func TestLargeAnswersAreCutAndCounted(t *testing.T) {
	many := ask(t, "["+strings.Repeat("1,", 19_999)+"1]", `$[*]`)
	if many.Count != 20_000 || len(many.Matches) != mostMatches || !many.Truncated {
		t.Errorf("count %d, %d matches, truncated %v", many.Count, len(many.Matches), many.Truncated)
	}
	nested := ask(t, strings.Repeat("[", 50)+`"`+strings.Repeat("x", 100_000)+`"`+strings.Repeat("]", 50), `$..*`)
	size := 0
	for _, m := range nested.Matches {
		size += len(m.Path) + len(m.Value)
	}
	if nested.Count != 50 || len(nested.Matches) != 20 || !nested.Truncated || size > mostBytes {
		t.Errorf("count %d, %d matches, %d bytes, truncated %v", nested.Count, len(nested.Matches), size, nested.Truncated)
	}
	whole := ask(t, "["+strings.Repeat("1,", mostValues)+"1]", `$`)
	if whole.Count != 1 || len(whole.Matches) != 0 || !whole.Truncated {
		t.Errorf("count %d, %d matches, truncated %v", whole.Count, len(whole.Matches), whole.Truncated)
	}
}

// TestHardQueriesEnd holds queries whose work grows with a power of the document's
// size: they are stopped by their steps or nodes, not by the clock.
func TestHardQueriesEnd(t *testing.T) {
	wide := "[" + strings.TrimSuffix(strings.Repeat(`{"a":[1,2,3],"s":"`+strings.Repeat(`\n`, 20)+`"},`, 3000), ",") + "]"
	long := `{"s":"` + strings.Repeat(`x\n`, 100_000) + `","a":[` + strings.Repeat("1,", 1000) + `1]}`
	twins := `{"x":[` + strings.Repeat("0,", 50_000) + `0],"y":[` + strings.Repeat("0,", 50_000) + `0.0],"a":[` + strings.Repeat("1,", 1000) + `1]}`
	for _, test := range []struct{ name, document, query, want string }{
		{"filters in filters", wide, `$..[?@..[?@..[?$..a]]]`, errSteps.Error()},
		{"steps below steps", "[" + strings.Repeat(strings.Repeat("[", 50)+strings.Repeat("]", 50)+",", 200) + "1]", `$..*..*..*`, errNodes.Error()},
		{"selectors in rows", wide, `$[` + strings.TrimSuffix(strings.Repeat("*,", 2000), ",") + `]`, errNodes.Error()},
		{"long texts read again", long, `$.a[?contains($.s, 'y')]`, errSteps.Error()},
		{"large arrays compared again", twins, `$.a[?$.x == $.y]`, errSteps.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := run(nil, input{JSON: json.RawMessage(test.document), Query: test.query})
			if err == nil || err.Error() != test.want {
				t.Errorf("error = %v, want %s", err, test.want)
			}
		})
	}
}

func TestTheProtocolEndToEnd(t *testing.T) {
	serve := func(in string) string {
		var out, log bytes.Buffer
		line := `{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":` + in + `,"deadline_ms":20000,"execution_id":"exe_1"}}` + "\n"
		if err := agent.ServeIO(strings.NewReader(line), &out, &log, run); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out.String())
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(fleet(t))); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		`{"json":` + compact.String() + `,"query":"$.servers[?@.cpu > 0.9].name"}`: `"result":{"output":{"matches":[{"path":"$['servers'][2]['name']","value":"db-1"}],"count":1,"truncated":false}}`,
		`{"json":null,"query":"$"}`:    `"result":{"output":{"matches":[{"path":"$","value":null}],"count":1,"truncated":false}}`,
		`{"json":[],"query":"$[*]"}`:   `"result":{"output":{"matches":[],"count":0,"truncated":false}}`,
		`{"json":{"a":1},"query":"a"}`: `"error":{"code":-32602,"message":"input.query: at character 1: a query begins with $"}`,
	} {
		if got := serve(in); got != `{"jsonrpc":"2.0","id":1,`+want+`}` {
			t.Errorf("answer\n got %s\nwant %s", got, want)
		}
	}
}

// FuzzQuery checks that no query breaks the parser or the evaluation, and that what
// is selected is named by its path.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{
		`$`, `$.a['b',"c"][0][-1:5:2]..*`, `$[?@.a == 'x\u00e9\ud83d\ude00' && !(@.b < 1.5e-3 || count(@..*) >= 2)]`,
		`$..[?contains(@.tags, $.x) || length(value(@..n)) != -0]`, `$ [ ?( @ ) , : , '\'' ]`, `$[?@[?@[?@]]]`, "$['\xff']", `$.é`,
	} {
		f.Add(query, `{"a":[{"b":"x","tags":["é\n"]},[1,2.5,null,true]],"c":{"n":{}}}`)
	}
	f.Fuzz(func(t *testing.T, query, document string) {
		if !json.Valid([]byte(document)) || len(document) > 2000 {
			return
		}
		out, err := run(nil, input{JSON: json.RawMessage(document), Query: query})
		if err != nil {
			return
		}
		if len(out.Matches) > 50 || strings.ContainsRune(paths(out), '\ufffd') || strings.Contains(document, `\u`) {
			return // paths of broken text cannot be read back
		}

		for _, m := range out.Matches {
			again, err := run(nil, input{JSON: json.RawMessage(document), Query: m.Path})
			if err != nil || len(again.Matches) != 1 {
				t.Fatalf("%s: path %s selects %d, %v", strconv.Quote(query), m.Path, len(again.Matches), err)
			}

		}
	})
}
