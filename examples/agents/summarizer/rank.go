package main

import (
	"math"
	"slices"
)

// ranked is a sentence with its score; 1 is the best of the text.
type ranked struct {
	sentence int
	score    float64
}

// weighted is one term of a sentence's vector.
type weighted struct {
	term   int32
	weight float64
}

// Weights of the ranking: a text opens with what it is about, a paragraph less so;
// very short sentences, and those that point back, need their neighbors.
const (
	damping       = 0.85
	rounds        = 30
	converged     = 1e-5
	openingBonus  = 0.5 // of the first sentence, fading over the first tenth of the text
	paragraphGain = 0.12
	closingGain   = 0.05
	leaningLoss   = 0.15
	diversity     = 0.35 // share of novelty against relevance in the choice
)

// pick returns the limit sentences that together say most, best first.
func pick(doc document, limit int) []ranked {
	vectors := vectorize(doc)
	candidates := shortlist(doc, vectors)
	scores := textRank(doc, vectors, candidates)
	best := 0.0
	for i, c := range candidates {
		scores[i] *= prior(doc, c)
		best = max(best, scores[i])
	}
	pool := make([]ranked, len(candidates))
	for i, c := range candidates {
		pool[i] = ranked{sentence: c}
		if best > 0 {
			pool[i].score = scores[i] / best
		}
	}
	return diversify(pool, vectors, limit)
}

// vectorize weighs each sentence's terms by how rare they are among sentences and
// brings every vector to length 1. Terms of more than half of the sentences of a
// longer text are left out: they tell nothing apart and would cost the most.
func vectorize(doc document) [][]weighted {
	frequency := make([]int, doc.terms)
	seen := make([]int32, doc.terms) // last sentence that had the term, from 1
	for i, s := range doc.sentences {
		for _, term := range s.terms {
			if seen[term] != int32(i+1) {
				seen[term] = int32(i + 1)
				frequency[term]++
			}
		}
	}
	n := len(doc.sentences)
	vectors := make([][]weighted, n)
	var sorted []int32
	for i, s := range doc.sentences {
		sorted = append(sorted[:0], s.terms...)
		slices.Sort(sorted)
		vector := make([]weighted, 0, len(sorted))
		norm := 0.0
		for at := 0; at < len(sorted); {
			term, count := sorted[at], 0
			for ; at < len(sorted) && sorted[at] == term; at++ {
				count++
			}
			if n > 8 && frequency[term] > n/2 {
				continue
			}
			w := (1 + math.Log(float64(count))) * math.Log(1+float64(n)/float64(frequency[term]))
			vector = append(vector, weighted{term, w})
			norm += w * w
		}
		norm = math.Sqrt(norm)
		for j := range vector {
			vector[j].weight /= norm
		}
		vectors[i] = vector
	}
	return vectors
}

// shortlist returns the sentences to rank, in order, each of several alike once. Of
// a long text those are the ones nearest to the text's own vector, which costs one
// pass.
func shortlist(doc document, vectors [][]weighted) []int {
	var all []int
	seen := make(map[uint64]bool, len(doc.sentences))
	for i, s := range doc.sentences {
		key := fingerprint(s.terms)
		if (s.complete || s.words >= 4) && !seen[key] {
			all = append(all, i)
			seen[key] = true
		}
	}
	if len(all) == 0 { // nothing but headings
		for i := range doc.sentences {
			all = append(all, i)
		}
	}
	if len(all) <= maxCandidates {
		return all
	}
	center := make([]float64, doc.terms)
	for _, vector := range vectors {
		for _, w := range vector {
			center[w.term] += w.weight
		}
	}
	near := make([]ranked, len(all))
	for i, c := range all {
		near[i].sentence = c
		for _, w := range vectors[c] {
			near[i].score += w.weight * center[w.term]
		}
		near[i].score *= prior(doc, c)
	}
	slices.SortStableFunc(near, func(a, b ranked) int { return compare(b.score, a.score) })
	short := make([]int, maxCandidates)
	for i := range short {
		short[i] = near[i].sentence
	}
	slices.Sort(short)
	return short
}

// fingerprint is equal for sentences with the same terms in the same order (FNV-1a).
func fingerprint(terms []int32) uint64 {
	hash := uint64(14695981039346656037)
	for _, term := range terms {
		hash = (hash ^ uint64(term)) * 1099511628211
	}
	return hash
}

// textRank is PageRank on the graph of sentences whose edges are the cosines of
// their vectors. A sentence without neighbors keeps the base rank.
func textRank(doc document, vectors [][]weighted, candidates []int) []float64 {
	edges := similarities(doc, vectors, candidates)
	n := len(candidates)
	total := make([]float64, n)
	for i, row := range edges {
		for _, e := range row {
			total[i] += e.weight
		}
	}
	rank, next := make([]float64, n), make([]float64, n)
	for i := range rank {
		rank[i] = 1
	}
	for range rounds {
		for i := range next {
			next[i] = 1 - damping
		}
		for i, row := range edges {
			if total[i] == 0 {
				continue
			}
			share := damping * rank[i] / total[i]
			for _, e := range row {
				next[e.term] += share * e.weight
			}
		}
		change := 0.0
		for i := range rank {
			change += math.Abs(next[i] - rank[i])
		}
		rank, next = next, rank
		if change < converged*float64(n) {
			break
		}
	}
	return rank
}

// similarities returns per candidate its neighbors: their number among the
// candidates, and the cosine. Only sentences that share a term are compared.
func similarities(doc document, vectors [][]weighted, candidates []int) [][]weighted {
	postings := make([][]weighted, doc.terms) // per term: candidate and weight
	edges := make([][]weighted, len(candidates))
	dots := make([]float64, len(candidates))
	for i, c := range candidates {
		clear(dots[:i])
		for _, w := range vectors[c] {
			for _, p := range postings[w.term] {
				dots[p.term] += w.weight * p.weight
			}
			postings[w.term] = append(postings[w.term], weighted{int32(i), w.weight})
		}
		for j, dot := range dots[:i] {
			// Near copies of a sentence must not lift each other: an edge
			// between them says nothing about the rest of the text.
			if dot > 0.01 && dot < 0.95 {
				edges[i] = append(edges[i], weighted{int32(j), dot})
				edges[j] = append(edges[j], weighted{int32(i), dot})
			}
		}
	}
	return edges
}

// prior is what place and length say about a sentence, whatever its words.
func prior(doc document, i int) float64 {
	s := doc.sentences[i]
	p := 1.0
	opening := max(3, float64(len(doc.sentences))/10)
	if at := float64(i); at < opening {
		p += openingBonus * (1 - at/opening)
	}
	if s.first && s.paragraph > 0 {
		p += paragraphGain
	}
	if i == len(doc.sentences)-1 && i > 2 {
		p += closingGain
	}
	if s.leans {
		p -= leaningLoss
	}
	switch {
	case s.words < 4:
		p *= 0.3
	case s.words < 8:
		p *= 0.75
	case s.words > 60:
		p *= 0.6
	case s.words > 40:
		p *= 0.85
	}
	if !s.complete {
		p *= 0.5
	}
	return p
}

// diversify takes sentences from pool by maximal marginal relevance: each time the
// one with the best balance of its score and its distance to those taken already.
func diversify(pool []ranked, vectors [][]weighted, limit int) []ranked {
	nearest := make([]float64, len(pool)) // similarity to the nearest taken one
	taken := make([]bool, len(pool))
	picked := make([]ranked, 0, limit)
	for len(picked) < min(limit, len(pool)) {
		best, value := -1, math.Inf(-1)
		for i, p := range pool {
			if v := (1-diversity)*p.score - diversity*nearest[i]; !taken[i] && v > value {
				best, value = i, v
			}
		}
		if nearest[best] > 0.95 {
			break // nothing is left but repetitions
		}
		taken[best] = true
		picked = append(picked, pool[best])
		for i, p := range pool {
			nearest[i] = max(nearest[i], cosine(vectors[p.sentence], vectors[pool[best].sentence]))
		}
	}
	return picked
}

// cosine of two vectors of length 1 whose terms are sorted.
func cosine(a, b []weighted) float64 {
	dot := 0.0
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i].term < b[j].term:
			i++
		case a[i].term > b[j].term:
			j++
		default:
			dot += a[i].weight * b[j].weight
			i, j = i+1, j+1
		}
	}
	return dot
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
