// Command summarizer is the agent stoa/summarizer: it picks the sentences that say
// most of what a text says. It needs no language model.
//
// Sentences are ranked by TextRank over their rare words, favored by place and
// length, and chosen by maximal marginal relevance so that they do not repeat
// each other. Cost grows with the length of the text; the ranking itself works on
// a bounded number of candidates.
package main

import (
	"slices"
	"strings"
	"unicode/utf8"

	"stoa/agent"
)

// Bounds of the work. maxSentences is how many sentences of a text are looked at;
// the ranking takes the best maxCandidates of them.
const (
	defaultSentences = 3
	mostSentences    = 20
	maxSentences     = 20_000
	maxCandidates    = 400
)

type input struct {
	Text         string `json:"text"`
	MaxSentences int    `json:"max_sentences"`
}

type output struct {
	Summary    string     `json:"summary"`
	Sentences  []chosen   `json:"sentences"`
	Statistics statistics `json:"statistics"`
}

// chosen is one sentence of the summary.
type chosen struct {
	Text  string  `json:"text"`
	Index int     `json:"index"` // place among the sentences of the text, from 0
	Score float64 `json:"score"` // 1 is the best sentence of the text
}

type statistics struct {
	Language     string  `json:"language"` // ISO 639-1, or und
	Characters   int     `json:"characters"`
	Words        int     `json:"words"`
	Sentences    int     `json:"sentences"`
	SummaryWords int     `json:"summary_words"`
	Compression  float64 `json:"compression"` // summary words to words of the text
	Truncated    bool    `json:"truncated"`   // more than maxSentences sentences
}

func main() { agent.Serve(run) }

func run(_ *agent.Run, in input) (output, error) {
	if in.MaxSentences == 0 {
		in.MaxSentences = defaultSentences
	}
	if in.MaxSentences < 1 || in.MaxSentences > mostSentences {
		return output{}, agent.BadInput("input.max_sentences: want 1 to 20")
	}
	return summarize(in.Text, in.MaxSentences), nil
}

// summarize returns the limit most telling sentences of text in their own order.
func summarize(text string, limit int) output {
	spans := split(text)
	stats := statistics{Characters: utf8.RuneCountInString(text), Sentences: len(spans)}
	if len(spans) > maxSentences {
		spans, stats.Truncated = spans[:maxSentences], true
	}
	doc := index(text, spans)
	stats.Language = doc.language
	stats.Words = doc.words

	picked := pick(doc, limit)
	slices.SortFunc(picked, func(a, b ranked) int { return a.sentence - b.sentence })
	out := output{Sentences: make([]chosen, 0, len(picked))}
	var summary strings.Builder
	for i, p := range picked {
		s := tidy(text[spans[p.sentence].start:spans[p.sentence].end])
		out.Sentences = append(out.Sentences, chosen{Text: s, Index: p.sentence, Score: round(p.score)})
		if i > 0 && !endsWide(out.Sentences[i-1].Text) {
			summary.WriteByte(' ')
		}
		summary.WriteString(s)
		stats.SummaryWords += doc.sentences[p.sentence].words
	}
	out.Summary = summary.String()
	if stats.Words > 0 {
		stats.Compression = round(float64(stats.SummaryWords) / float64(stats.Words))
	}
	out.Statistics = stats
	return out
}

// tidy joins the lines of a sentence that was wrapped.
func tidy(sentence string) string { return strings.Join(strings.Fields(sentence), " ") }

// endsWide says that a sentence ends with punctuation that brings its own space.
func endsWide(sentence string) bool {
	last, _ := utf8.DecodeLastRuneInString(sentence)
	return isWideStop(last) || last == '」' || last == '』'
}

// round keeps four decimals: more would suggest a precision that is not there.
func round(x float64) float64 { return float64(int(x*10_000+0.5)) / 10_000 }
