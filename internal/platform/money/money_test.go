package money_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"stoa/internal/platform/money"
)

func TestAmountsInJSON(t *testing.T) {
	for text, micros := range map[string]int64{
		"0": 0, "12.50": 12_500_000, "0.0025": 2_500, "0.000001": 1, "999999999999.999999": 999_999_999_999_999_999, "007": 7_000_000,
	} {
		var a money.Amount
		if err := json.Unmarshal([]byte(`{"amount":"`+text+`","currency":"USD"}`), &a); err != nil || a.Micros() != micros {
			t.Errorf("%s = %d, %v", text, a.Micros(), err)
		}
		out, err := json.Marshal(a)
		var back money.Amount
		if err != nil || json.Unmarshal(out, &back) != nil || back != a {
			t.Errorf("%s -> %s, %v", text, out, err)
		}
	}
	if out, _ := json.Marshal(money.FromMicros(2500)); string(out) != `{"amount":"0.002500","currency":"USD"}` {
		t.Errorf("out = %s", out)
	}
}

func TestWrongAmounts(t *testing.T) {
	for _, text := range []string{
		`""`, `"-1"`, `"+1"`, `" 5"`, `"5 "`, `"1e3"`, `"1."`, `".5"`, `"1.1234567"`, `"1234567890123"`, `"NaN"`, `"0x1"`, `"1,5"`, `"1.5.5"`,
		`1`, `1.5`, `null`, `[]`, `{}`, `true`, `"٣"`,
	} {
		var a money.Amount
		if err := json.Unmarshal([]byte(`{"amount":`+text+`,"currency":"USD"}`), &a); !errors.Is(err, money.ErrMalformed) {
			t.Errorf("%s = %s, %v", text, a, err)
		}
	}
	for _, currency := range []string{`"usd"`, `"EUR"`, `""`, `null`} {
		var a money.Amount
		if err := json.Unmarshal([]byte(`{"amount":"1","currency":`+currency+`}`), &a); !errors.Is(err, money.ErrCurrency) {
			t.Errorf("currency %s: %v", currency, err)
		}
	}
}

func TestSumsDoNotOverflow(t *testing.T) {
	most, least, one := money.FromMicros(math.MaxInt64), money.FromMicros(math.MinInt64), money.FromMicros(1)
	if sum, err := money.FromMicros(5).Add(money.FromMicros(-7)); err != nil || sum.Micros() != -2 {
		t.Errorf("5 - 7 = %s, %v", sum, err)
	}
	if _, err := most.Add(one); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("overflow: %v", err)
	}
	if _, err := least.Add(money.FromMicros(-1)); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("underflow: %v", err)
	}
	if least.String() != "-9223372036854.775808" || money.FromMicros(-1_500_000).String() != "-1.500000" {
		t.Errorf("texts %s, %s", least, money.FromMicros(-1_500_000))
	}
	if one.Compare(most) != -1 || most.Compare(one) != 1 || one.Compare(one) != 0 || !money.FromMicros(0).IsZero() || one.IsZero() {
		t.Error("order of amounts")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("12.50")
	f.Add("999999999999.999999")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := money.Parse(text)
		if err != nil {
			return
		}
		again, err := money.Parse(a.String())
		if err != nil || again != a || strings.HasPrefix(a.String(), "-") {
			t.Errorf("%q -> %s -> %s, %v", text, a, again, err)
		}
	})
}
