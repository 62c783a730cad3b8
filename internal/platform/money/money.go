// Package money holds amounts as integer micro-units (1e-6) of US dollars.
//
// In JSON an amount is {"amount":"0.002500","currency":"USD"}: six places out; in,
// a string of at most 12 digits and 6 places. No float ever touches it.
package money

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
)

// Amount is a signed number of micro-dollars.
type Amount struct{ micros int64 }

// ErrMalformed says that a text is not an amount.
var ErrMalformed = errors.New(`amount must be digits with at most six places, like "12.50"`)

// ErrCurrency says that the currency is not one this installation uses.
var ErrCurrency = errors.New(`currency must be "USD"`)

// ErrOverflow says that a sum leaves the range of an amount.
var ErrOverflow = errors.New("amount out of range")

// FromMicros makes an amount of 1e-6 dollars each.
func FromMicros(micros int64) Amount { return Amount{micros: micros} }

// Micros is the number of 1e-6 dollars.
func (a Amount) Micros() int64 { return a.micros }

// IsZero says that the amount is nothing.
func (a Amount) IsZero() bool { return a.micros == 0 }

// Parse reads `^\d{1,12}(\.\d{1,6})?$`, so an amount from outside is never negative.
func Parse(text string) (Amount, error) {
	whole, part, dotted := strings.Cut(text, ".")
	if len(whole) < 1 || len(whole) > 12 || dotted && (len(part) < 1 || len(part) > 6) {
		return Amount{}, ErrMalformed
	}
	var n int64
	for _, c := range []byte(whole + part) {
		if c < '0' || c > '9' {
			return Amount{}, ErrMalformed
		}
		n = n*10 + int64(c-'0')
	}
	for range 6 - len(part) {
		n *= 10
	}
	return Amount{micros: n}, nil
}

// Add sums two amounts and refuses to overflow.
func (a Amount) Add(b Amount) (Amount, error) {
	sum := a.micros + b.micros
	if a.micros > 0 && b.micros > 0 && sum < 0 || a.micros < 0 && b.micros < 0 && sum >= 0 {
		return Amount{}, ErrOverflow
	}
	return Amount{micros: sum}, nil
}

// Compare orders amounts: -1, 0 or +1.
func (a Amount) Compare(b Amount) int {
	switch {
	case a.micros < b.micros:
		return -1
	case a.micros > b.micros:
		return 1
	}
	return 0
}

// String is the decimal text with six places.
func (a Amount) String() string {
	n, sign := a.micros, ""
	if n == math.MinInt64 {
		return "-9223372036854.775808"
	}
	if n < 0 {
		n, sign = -n, "-"
	}
	return fmt.Sprintf("%s%d.%06d", sign, n/1_000_000, n%1_000_000)
}

type wire struct {
	Amount   *string `json:"amount"`
	Currency string  `json:"currency"`
}

// MarshalJSON writes the money object.
func (a Amount) MarshalJSON() ([]byte, error) {
	text := a.String()
	return json.Marshal(wire{Amount: &text, Currency: "USD"})
}

// UnmarshalJSON reads the money object strictly.
func (a *Amount) UnmarshalJSON(data []byte) error {
	var w wire
	if err := json.Unmarshal(data, &w); err != nil || w.Amount == nil {
		return ErrMalformed
	}
	if w.Currency != "USD" {
		return ErrCurrency
	}
	parsed, err := Parse(*w.Amount)
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}
