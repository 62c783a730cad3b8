package model

import (
	"encoding/json"
	"strconv"
)

// Provenance says where usage numbers come from.
type Provenance string

// The provenances. The zero value means that no model answered.
const (
	FromProvider Provenance = "provider"  // both numbers are the provider's
	Estimated    Provenance = "estimated" // at least one is ours: the provider sent none, or one that cannot be
)

// Usage is what an answer, or the part of it that came, cost in tokens. Numbers
// are never negative, and at most a few thousand million. An estimate is a token
// for every four bytes of text, as English has it; it does not see what a model
// thought without writing it.
type Usage struct {
	Input      int64
	Output     int64
	Provenance Provenance
}

const (
	maxPlausible  = 1e9 // tokens that one call could conceivably use
	bytesPerToken = 4
)

// reported is what a provider said of its usage. A number that is absent or
// cannot be is nil.
type reported struct{ input, output *int64 }

// readUsage takes the numbers out of a usage object. The first of inputs must be
// there; the others are parts that providers count apart. Numbers are parsed
// here because an SDK makes something of every wrong one.
func readUsage(object map[string]json.RawMessage, inputs []string, output string) reported {
	r := reported{output: tokens(object[output])}
	var sum int64
	for i, name := range inputs {
		if part := object[name]; i > 0 && (part == nil || string(part) == "null") {
			continue
		}
		n := tokens(object[name])
		if n == nil {
			return r
		}
		sum += *n
	}
	r.input = &sum
	return r
}

// tokens parses one number; nil when no call could have used that many.
func tokens(raw json.RawMessage) *int64 {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n < 0 || n > maxPlausible {
		return nil
	}
	return &n
}

// usage is what was reported, completed by estimates for a request and the bytes
// that were answered to it. It is the zero Usage when there is nothing to count:
// nothing was reported and nothing written.
func (r reported) usage(req Request, written int) Usage {
	if r.input == nil && r.output == nil && written == 0 {
		return Usage{}
	}
	u := Usage{Provenance: FromProvider}
	if r.input == nil || r.output == nil {
		u.Provenance = Estimated
	}
	u.Input = orEstimate(r.input, len(req.System)+len(req.User)+len(req.Schema))
	u.Output = orEstimate(r.output, written)
	return u
}

func orEstimate(n *int64, bytes int) int64 {
	if n != nil {
		return *n
	}
	return int64((bytes + bytesPerToken - 1) / bytesPerToken)
}
