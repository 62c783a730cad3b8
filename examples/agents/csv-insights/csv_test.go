package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

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

func insights(t *testing.T, in input) output {
	t.Helper()
	out, err := run(nil, in)
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	return out
}

// only is the single column of values.
func only(t *testing.T, values ...string) column {
	t.Helper()
	header := true
	out := insights(t, input{CSV: "x\n" + strings.Join(values, "\n") + "\n", Delimiter: "|", Header: &header})
	if len(out.Columns) != 1 {
		t.Fatalf("%d columns", len(out.Columns))
	}
	return out.Columns[0]
}

func TestInsightsOfARealisticTable(t *testing.T) {
	out := insights(t, input{CSV: read(t, "orders.csv")})

	if out.Rows != 16 || out.Delimiter != "," || !out.Header || out.DuplicateRows != 1 || out.RaggedRows != 1 {
		t.Errorf("table = %d rows, %q, header %v, %d duplicate, %d ragged", out.Rows, out.Delimiter, out.Header, out.DuplicateRows, out.RaggedRows)
	}
	types := map[string]columnType{}
	byName := map[string]column{}
	for _, c := range out.Columns {
		types[c.Name], byName[c.Name] = c.Type, c
	}
	want := map[string]columnType{
		"order_id": typeInteger, "ordered_at": typeDate, "customer": typeText, "country": typeText,
		"items": typeInteger, "total": typeNumber, "express": typeBoolean, "zip": typeText,
	}
	if !reflect.DeepEqual(types, want) {
		t.Errorf("types = %v, want %v", types, want)
	}
	total := byName["total"]
	if total.Present != 15 || total.Missing != 1 || total.Distinct != 14 {
		t.Errorf("total: present %d, missing %d, distinct %d", total.Present, total.Missing, total.Distinct)
	}
	if n := *total.Numbers; n.Min != 18.40 || n.Max != 1890 || n.Median != 61.75 || n.Q1 != 35.375 || n.Q3 != 85.25 {
		t.Errorf("total: %+v", n)
	}
	if o := total.Outliers; o.Method != "iqr" || o.Count != 1 || o.Values[0] != (outlier{Row: 10, Value: 1890}) || o.Upper != 160.0625 {
		t.Errorf("total: outliers %+v", o)
	}
	if d := byName["ordered_at"].Dates; *d != (dates{"2024-01-03", "2024-01-13"}) {
		t.Errorf("ordered_at: %+v", d)
	}
	if top := byName["country"].Top[0]; top.Value != "DE" || top.Count != 4 {
		t.Errorf("country: top %+v", top)
	}
	if c := byName["customer"]; c.Distinct != 15 || c.Lengths.Min != 7 || c.Lengths.Max != 12 {
		t.Errorf("customer: distinct %d, lengths %+v", c.Distinct, c.Lengths)
	}
	if c := byName["express"]; c.Missing != 1 || c.Mismatched != 0 {
		t.Errorf("express: %+v", c)
	}
	for _, sentence := range []string{
		"16 rows and 8 columns, separated by commas. 1 row repeated. 1 row with too many or too few fields.",
		"- total: number, 18.4 to 1890, median 61.75, mean 180.759; 1 missing; 1 outlier, the farthest 1890 in row 10",
		"- ordered_at: date, 2024-01-03 to 2024-01-13",
		"- country: text, 11 different values, mostly \"DE\" (4x)",
		"- express: boolean, false 11x, true 4x; 1 missing",
	} {
		if !strings.Contains(out.Summary, sentence) {
			t.Errorf("the summary does not say %q:\n%s", sentence, out.Summary)
		}
	}
}

func TestSemicolonsAndDecimalCommas(t *testing.T) {
	out := insights(t, input{CSV: "\ufeff" + read(t, "wetter.csv")})
	if out.Delimiter != ";" || !out.Header || out.Columns[0].Name != "Datum" {
		t.Fatalf("delimiter %q, header %v, columns %+v", out.Delimiter, out.Header, out.Columns)
	}
	if d := out.Columns[0].Dates; *d != (dates{"2024-03-01", "2024-03-04"}) {
		t.Errorf("dates = %+v", d)
	}
	if n := out.Columns[2].Numbers; n == nil || n.Max != 1204.5 || n.Min != 0 {
		t.Errorf("rain = %+v", n)
	}
	if n := out.Columns[3].Numbers; n == nil || n.Min != -1 || n.Max != 8.9 {
		t.Errorf("temperature = %+v", n)
	}
}

func TestDelimitersAreFound(t *testing.T) {
	for text, want := range map[string]string{
		"a,b\n1,2\n":                    ",",
		"a;b;c\n1,5;2;3\n2,5;3;4\n":     ";",
		"a\tb\n1\t2, or 3\n":            "\t",
		"a|b|c\n1|2|x, y\n":             "|",
		"one column\nonly\n":            ",",
		"\"a;b\",c\n\"d;e\",f\n":        ",",
		"t,\"x\ny\"\n1,2\n3,4\n":        ",",
		strings.Repeat("a,b;c\n", 9000): ",",
		strings.Repeat("x", 70_000):     ",",
	} {
		out := insights(t, input{CSV: text})
		if out.Delimiter != want {
			t.Errorf("delimiter of %.20q = %q, want %q", text, out.Delimiter, want)
		}
	}
}

func TestHeadersAreFound(t *testing.T) {
	yes, no := true, false
	for _, test := range []struct {
		text   string
		header *bool
		want   bool
		name   string
		rows   int
	}{
		{"id,name\n1,x\n2,y\n", nil, true, "id", 2},
		{"1,x\n2,y\n", nil, false, "column_1", 2},
		{"city,country\nRome,Italy\nOslo,Norway\n", nil, true, "city", 2},
		{"a,b\nc,d\na,e\n", nil, false, "column_1", 3},
		{"id,id\n1,2\n", nil, false, "column_1", 2},
		{"id,\n1,2\n", nil, false, "column_1", 2},
		{"id,name\n", nil, false, "column_1", 1},
		{"id,name\n", &yes, true, "id", 0},
		{"id,name\n1,x\n", &no, false, "column_1", 2},
		{" ,b\n1,2\n", &yes, true, "column_1", 1},
	} {
		out := insights(t, input{CSV: test.text, Header: test.header})
		if out.Header != test.want || out.Columns[0].Name != test.name || out.Rows != test.rows {
			t.Errorf("%q: header %v, name %q, %d rows", test.text, out.Header, out.Columns[0].Name, out.Rows)
		}
	}
}

func TestTypesOfColumns(t *testing.T) {
	for _, test := range []struct {
		name   string
		values []string
		want   columnType
	}{
		{"integers", []string{"1", "-2", "+3", "4,000", "1,234,567", "5%", "$6", "7 €"}, typeInteger},
		{"numbers", []string{"1.5", "-.5", "1e3", "2E-2", "1,234.5", "$ 3.00", "£2"}, typeNumber},
		{"codes with leading zeros", []string{"007", "0123", "00456"}, typeText},
		{"broken groups", []string{"1,23", "12,3456", ",123", "1,,234", "1,2a3"}, typeText},
		{"not numbers", []string{"0x10", "1_000", "Infinity", "1e999", "--1", "1.2.3", "$", "1.5.", "٣"}, typeText},
		{"a point alone", []string{".", "+", "1.x", strings.Repeat("9", 60)}, typeText},
		{"booleans", []string{"yes", "No", "TRUE", "f"}, typeBoolean},
		{"zeros and ones are numbers", []string{"0", "1", "1"}, typeInteger},
		{"dates", []string{"2024-01-31", "2023-12-01"}, typeDate},
		{"times", []string{"2024-01-31T10:00:00Z", "2023-12-01T10:00:00+02:00"}, typeDate},
		{"words for months", []string{"3 Mar 2024", "12 Apr 2023"}, typeDate},
		{"impossible dates", []string{"2024-13-01", "2024-02-31"}, typeText},
		{"versions", []string{"1.2.3", "1.10.0"}, typeText},
		{"missing only", []string{"NA", "null", "-"}, typeEmpty},
		{"mixed", []string{"1", "x", "2"}, typeText},
	} {
		t.Run(test.name, func(t *testing.T) {
			if c := only(t, test.values...); c.Type != test.want {
				t.Errorf("type of %q = %s, want %s", test.values, c.Type, test.want)
			}
		})
	}
}

func TestAFewValuesOfAnotherTypeAreCounted(t *testing.T) {
	values := append(strings.Split(strings.Repeat("7 ", 59)+"8", " "), "seven", "", "N/A")
	c := only(t, values...)
	if c.Type != typeInteger || c.Mismatched != 1 || c.Missing != 1 || c.Present != 61 {
		t.Errorf("column = %+v", c) // the empty line is no row
	}
}

func TestDayAndMonthAreToldApartByTheColumn(t *testing.T) {
	for _, test := range []struct {
		values []string
		want   dates
	}{
		{[]string{"01/02/2024", "31/01/2024"}, dates{"2024-01-31", "2024-02-01"}},
		{[]string{"01/02/2024", "01/31/2024"}, dates{"2024-01-02", "2024-01-31"}},
		{[]string{"2024-01-02 09:30", "2024-01-02 08:15"}, dates{"2024-01-02T08:15:00Z", "2024-01-02T09:30:00Z"}},
	} {
		if c := only(t, test.values...); c.Dates == nil || *c.Dates != test.want {
			t.Errorf("dates of %q = %+v, want %+v", test.values, c.Dates, test.want)
		}
	}
}

func TestStatisticsAreThoseOfATextbook(t *testing.T) {
	// 2 4 4 4 5 5 7 9 has mean 5 and sample variance 32/7.
	c := only(t, "2", "4", "4", "4", "5", "5", "7", "9")
	want := numbers{Min: 2, Max: 9, Sum: 40, Mean: 5, Median: 4.5, Q1: 4, Q3: 5.5, P5: 2.7, P95: 8.3, Stddev: 2.13809}
	if *c.Numbers != want {
		t.Errorf("numbers = %+v\nwant %+v", *c.Numbers, want)
	}
	// 4-1.5*1.5 = 1.75 and 5.5+1.5*1.5 = 7.75
	if o := c.Outliers; o.Lower != 1.75 || o.Upper != 7.75 || o.Count != 1 || o.Values[0] != (outlier{8, 9}) {
		t.Errorf("outliers = %+v", o)
	}
	if c := only(t, "5"); c.Numbers.Stddev != 0 || c.Outliers != nil {
		t.Errorf("a single value: %+v, %+v", c.Numbers, c.Outliers)
	}
	if c := only(t, "0.1", "0.2"); c.Numbers.Sum != 0.3 {
		t.Errorf("0.1 + 0.2 = %v", c.Numbers.Sum)
	}
}

func TestOutliersAmongEqualValues(t *testing.T) {
	c := only(t, "5", "5", "5", "5", "5", "5", "5", "5", "5", "90")
	if o := c.Outliers; o == nil || o.Method != "robust_z" || o.Count != 1 || o.Values[0] != (outlier{10, 90}) {
		t.Errorf("outliers = %+v", c.Outliers)
	}
	if c := only(t, "5", "5", "5", "5", "5", "5"); c.Outliers != nil {
		t.Errorf("equal values have outliers: %+v", c.Outliers)
	}
}

func TestHugeNumbersStayNumbers(t *testing.T) {
	c := only(t, "1e308", "1e308", "-1e308", "1.7e308", "1.7e308", "-1.7e308")
	for _, x := range []float64{c.Numbers.Sum, c.Numbers.Mean, c.Numbers.Stddev, c.Outliers.Lower, c.Outliers.Upper} {
		if math.IsInf(x, 0) || math.IsNaN(x) {
			t.Errorf("a statistic is %v: %+v", x, c.Numbers)
		}
	}
	if finite(math.NaN()) != 0 || finite(math.Inf(-1)) != -math.MaxFloat64 {
		t.Error("finite lets something through")
	}
}

func TestQuotesAreReadLeniently(t *testing.T) {
	for text, want := range map[string][]string{
		"12\" pipe,3\n":             {"12\" pipe", "3"},
		"\"a \"\"b\"\"\",4":         {"a \"b\"", "4"},
		"\"two\r\nlines\",\"\"\r\n": {"two\r\nlines", ""},
		"\"a \"b\" c\",5":           {"a \"b\" c", "5"},
		"\"open,5\n":                {"open,5\n"},
		"\"end\"":                   {"end"},
		"\n \r\n,\n":                {"", ""},
		"a,\r\n":                    {"a", ""},
		"\"x\"y,z":                  {"x\"y,z"},
		"\"last\"\r\n":              {"last"},
	} {
		r := readRecords(text, ',', 10)
		var got []string
		for column := range len(r.fields) {
			got = append(got, r.value(0, column))
		}
		if len(r.rows) != 1 || !slices.Equal(got, want) {
			t.Errorf("%q is read as %q, want %q", text, got, want)
		}
	}
}

func TestLongValuesAreClipped(t *testing.T) {
	c := only(t, strings.Repeat("é", 500), "b")
	if got := []rune(c.Top[1].Value); len(got) != 121 || got[120] != '…' {
		t.Errorf("value has %d characters", len(got))
	}
	if c.Lengths.Max != 500 {
		t.Errorf("lengths = %+v", c.Lengths)
	}
}

func TestSummariesOfOddTables(t *testing.T) {
	no := false
	out := insights(t, input{CSV: "a\t\nb\t\n", Header: &no})
	want := "2 rows and 2 columns, separated by tabs, without a header.\n- column_1: text, every value different\n- column_2: empty"
	if out.Summary != want {
		t.Errorf("summary = %q\nwant %q", out.Summary, want)
	}
	wide := insights(t, input{CSV: strings.Repeat("a|", 19) + "a\n" + strings.Repeat("1|", 19) + "x\n"})
	if !strings.HasSuffix(wide.Summary, "\n- and 8 more columns") || !strings.Contains(wide.Summary, "separated by bars") {
		t.Errorf("summary = %q", wide.Summary)
	}
	if s := insights(t, input{CSV: "k;v\n1;x\n2;x\n3;\n"}).Summary; !strings.Contains(s, "- v: text, 1 different value, mostly \"x\" (2x); 1 missing") || !strings.Contains(s, "semicolons") {
		t.Errorf("summary = %q", s)
	}
	if s := insights(t, input{CSV: "n\n" + strings.Repeat("1\n", 30) + "x\n"}).Summary; !strings.Contains(s, "1 not of that type") {
		t.Errorf("summary = %q", s)
	}
}

func TestBadTablesAreRefused(t *testing.T) {
	for _, test := range []struct {
		in   input
		want string
	}{
		{input{CSV: " \n\n"}, "input.csv: has no rows"},
		{input{CSV: "\ufeff"}, "input.csv: has no rows"},
		{input{CSV: ",\n", Delimiter: "#"}, "input.delimiter: want one of , ; | or a tab"},
		{input{CSV: "a", Delimiter: ",;"}, "input.delimiter: want one of , ; | or a tab"},
		{input{CSV: strings.Repeat("a,", 600)}, "input.csv: has more than 500 columns"},
	} {
		if _, err := run(nil, test.in); err == nil || err.Error() != test.want {
			t.Errorf("run(%.20q) = %v, want %s", test.in.CSV, err, test.want)
		}
	}
}

func TestTheProtocolEndToEnd(t *testing.T) {
	text, err := json.Marshal(read(t, "orders.csv"))
	if err != nil {
		t.Fatal(err)
	}
	serve := func(in string) string {
		var out, log bytes.Buffer
		line := `{"jsonrpc":"2.0","id":1,"method":"run","params":{"input":` + in + `,"deadline_ms":20000,"execution_id":"exe_1"}}` + "\n"
		if err := agent.ServeIO(strings.NewReader(line), &out, &log, run); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	var answer struct{ Result struct{ Output output } }
	if err := json.Unmarshal([]byte(serve(`{"csv":`+string(text)+`,"header":true}`)), &answer); err != nil {
		t.Fatal(err)
	}
	if want := insights(t, input{CSV: read(t, "orders.csv")}); !reflect.DeepEqual(answer.Result.Output, want) {
		t.Errorf("output = %+v\nwant %+v", answer.Result.Output, want)
	}
	if got := serve(`{"csv":" "}`); !strings.Contains(got, `"error":{"code":-32602,"message":"input.csv: has no rows"}`) {
		t.Errorf("answer = %s", got)
	}
}

// FuzzDescribe checks that every readable table is described with numbers that JSON
// can hold and counts that add up.
func FuzzDescribe(f *testing.F) {
	for _, name := range []string{"orders.csv", "wetter.csv"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), "")
	}
	f.Add("a;1e308\n\"b\";-1e308\n\n,", ";")
	f.Add("\ufeff\"x\"\"\t1,234.5%\r\n12/31/99\x00", "\t")
	f.Fuzz(func(t *testing.T, text, delimiter string) {
		out, err := run(nil, input{CSV: text, Delimiter: delimiter})
		if err != nil {
			return
		}
		if _, err := json.Marshal(out); err != nil {
			t.Fatal(err)
		}
		for _, c := range out.Columns {
			if c.Present+c.Missing != out.Rows || c.Mismatched < 0 || c.Distinct > c.Present || c.Type == "" {
				t.Fatalf("%d rows, column %+v", out.Rows, c)
			}
		}
	})
}
