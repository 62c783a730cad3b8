// Command json-query is the agent stoa/json-query: it selects parts of a JSON
// document with a JSONPath query (RFC 9535). It needs no language model.
//
// The document is indexed once; a query costs a bounded number of steps and ends
// with an error when it would need more.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"

	"stoa/agent"
)

// Bounds of an answer: how many matches are listed, how many bytes their values and
// paths may have, and how many values there may be inside them. The count is always
// complete.
const (
	mostMatches = 10_000
	mostBytes   = 2 << 20
	mostValues  = 100_000
)

type input struct {
	JSON  json.RawMessage `json:"json"`
	Text  *string         `json:"text"`
	Query string          `json:"query"`
}

type output struct {
	Matches   []match `json:"matches"`
	Count     int     `json:"count"`
	Truncated bool    `json:"truncated"` // more matches than are listed
}

// match is one selected value with its normalized path.
type match struct {
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

func main() { agent.Serve(run) }

func run(_ *agent.Run, in input) (output, error) {
	source, err := in.document()
	if err != nil {
		return output{}, err
	}
	if in.Query == "" {
		in.Query = "$"
	}
	query, err := parse(in.Query)
	if err != nil {
		return output{}, err
	}
	doc, err := index(source)
	if err != nil {
		return output{}, err
	}
	nodes, err := evaluate(doc, query)
	if err != nil {
		return output{}, err
	}
	return list(doc, nodes), nil
}

// document is the JSON text to query: either given as JSON, or as a text that holds JSON.
func (in input) document() ([]byte, error) {
	switch {
	case in.JSON != nil && in.Text != nil:
		return nil, agent.BadInput("input: want json or text, not both")
	case in.JSON != nil:
		return in.JSON, nil
	case in.Text == nil:
		return nil, agent.BadInput("input.json: is missing")
	}
	text := []byte(*in.Text)
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		at := len(text)
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			at = min(int(syntax.Offset), len(text))
		}
		before := text[:max(at-1, 0)]
		line := bytes.Count(before, []byte{'\n'}) + 1
		column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
		return nil, agent.BadInput("input.text: is not JSON at line " + strconv.Itoa(line) + ", column " + strconv.Itoa(column))
	}
	return whole, nil
}

// list shows the selected nodes, within the bounds of an answer.
func list(doc *document, nodes []int32) output {
	out := output{Matches: []match{}, Count: len(nodes)}
	bytesLeft, valuesLeft := mostBytes, mostValues
	for _, n := range nodes {
		value := doc.raw(n)
		path := doc.path(n)
		bytesLeft -= len(value) + len(path)
		valuesLeft -= int(doc.nodes[n].after - n)
		if bytesLeft < 0 || valuesLeft < 0 || len(out.Matches) == mostMatches {
			out.Truncated = true
			break
		}
		out.Matches = append(out.Matches, match{Path: path, Value: value})
	}
	return out
}
