package id_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"stoa/internal/platform/id"
)

func source(ms int64) *id.Source {
	return id.NewSource(func() time.Time { return time.UnixMilli(ms) }, nil)
}

func TestTextRoundTrip(t *testing.T) {
	want := id.New[id.User](source(1_700_000_000_123))
	got, err := id.Parse[id.User](want.String())
	if err != nil || got != want {
		t.Fatalf("Parse(%q) = %v, %v", want, got, err)
	}
	if !strings.HasPrefix(want.String(), "usr_") || len(want.String()) != 30 {
		t.Errorf("text = %q", want)
	}
	if ms := want.Time().UnixMilli(); ms != 1_700_000_000_123 {
		t.Errorf("time = %d", ms)
	}
	raw := want.Bytes()
	if raw[6]>>4 != 7 || raw[8]>>6 != 2 {
		t.Errorf("version and variant of %x are not those of a UUIDv7", raw)
	}
	if id.FromBytes[id.User](raw) != want {
		t.Error("FromBytes does not give the same id")
	}
}

func TestOrderIsTheOrderOfTime(t *testing.T) {
	early, late := id.New[id.Execution](source(1000)), id.New[id.Execution](source(1001))
	if early.Compare(late) >= 0 || early.String() >= late.String() {
		t.Errorf("%s is not before %s", early, late)
	}
}

func TestMalformedTexts(t *testing.T) {
	good := id.New[id.User](source(1)).String()
	for _, text := range []string{
		"", "usr_", "usr", good[:29], good + "0", strings.ToUpper(good), "org" + good[3:],
		"usr_8" + good[5:], "usr_" + strings.Repeat("i", 26), "usr_" + strings.Repeat("\x00", 26), " " + good,
	} {
		if _, err := id.Parse[id.User](text); !errors.Is(err, id.ErrMalformed) {
			t.Errorf("Parse(%q) error = %v, want ErrMalformed", text, err)
		}
	}
}

func TestDatabaseForms(t *testing.T) {
	want := id.New[id.Package](source(5))
	text, err := want.Value()
	if err != nil || len(text.(string)) != 36 {
		t.Fatalf("Value = %v, %v", text, err)
	}
	for _, form := range []any{text, []byte(text.(string)), want.SQLiteValue()} {
		var got id.Package
		if err := got.Scan(form); err != nil || got != want {
			t.Errorf("Scan(%T) = %v, %v", form, got, err)
		}
	}
	var none id.Package
	if v, _ := none.Value(); v != nil || none.SQLiteValue() != nil || none.String() != "" || !none.IsZero() {
		t.Error("the zero id is not NULL")
	}
	got := want
	if err := got.Scan(nil); err != nil || !got.IsZero() {
		t.Errorf("Scan(nil) = %v, %v", got, err)
	}
	for _, bad := range []any{"short", strings.Repeat("z", 36), 12} {
		if err := got.Scan(bad); err == nil {
			t.Errorf("Scan(%v) gave no error", bad)
		}
	}
}

func TestJSONText(t *testing.T) {
	want := id.New[id.Version](source(9))
	text, _ := want.MarshalText()
	var got id.Version
	if err := got.UnmarshalText(text); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	if err := got.UnmarshalText(nil); err != nil || !got.IsZero() {
		t.Errorf("empty text: %v, %v", got, err)
	}
	if err := got.UnmarshalText([]byte("nonsense")); err == nil {
		t.Error("nonsense was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(id.New[id.User](source(1)).String())
	f.Add("usr_7zzzzzzzzzzzzzzzzzzzzzzzzz")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := id.Parse[id.User](text)
		if err == nil && !v.IsZero() && v.String() != text {
			t.Errorf("Parse(%q).String() = %q", text, v)
		}
	})
}
