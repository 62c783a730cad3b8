package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"stoa/internal/platform/cache"
	"stoa/internal/transport/middleware"
)

// Answers are the public answers that are kept ready: those of the operations
// that are Shared, to requests without a credential, under the address as it was
// asked for. They change with the catalogue; Tags says by what name.
type Answers = cache.Cache[*middleware.Prepared]

// tagCatalogue is the tag of answers that any change of the catalogue may alter:
// lists. An answer about one package has the package's id for a tag.
const tagCatalogue = "catalogue"

// AnswerTags are the tags of the answers that a change of these packages alters.
func AnswerTags[ID fmt.Stringer](packages []ID) []string {
	tags := make([]string, 0, len(packages)+1)
	for _, p := range packages {
		tags = append(tags, p.String())
	}
	if len(tags) > 0 {
		tags = append(tags, tagCatalogue)
	}
	return tags
}

// AnswerSize is about how many bytes an answer takes: its own and, for the
// encodings that clients ask for later, half as many again.
func AnswerSize(p *middleware.Prepared) int { return len(p.Body())*3/2 + 1000 }

// answerHead is what a shared answer's first line says.
type answerHead struct {
	Operation string      `json:"operation"`
	Header    http.Header `json:"header"`
}

// EncodeAnswer is an answer as one text, for instances to share.
func EncodeAnswer(p *middleware.Prepared) []byte {
	head, err := json.Marshal(answerHead{p.Operation(), p.Header()})
	if err != nil {
		panic(err) // strings of ours
	}
	return append(append(head, '\n'), p.Body()...)
}

// DecodeAnswer reads what EncodeAnswer made.
func DecodeAnswer(data []byte) (*middleware.Prepared, error) {
	line, body, ok := bytes.Cut(data, []byte("\n"))
	var head answerHead
	if !ok || json.Unmarshal(line, &head) != nil || head.Header.Get("Content-Type") == "" {
		return nil, errors.New("api: a shared answer without a head")
	}
	return middleware.NewPrepared(head.Operation, head.Header, body), nil
}

// Ready answers from memory what it can. What is not there is made by the usual
// way, once for all who wait for it, and then kept; everything else goes on to
// next.
func (a *API) Ready(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.isShared(r) {
			next.ServeHTTP(w, r)
			return
		}
		if p, ok := a.Answers.Get(r.RequestURI); ok {
			p.ServeHTTP(w, r)
			return
		}
		made := &making{}
		p, _, err := a.Answers.Load(r.Context(), r.RequestURI, func(ctx context.Context) (cache.Made[*middleware.Prepared], error) {
			return made.answer(a, w, r), nil
		})
		switch {
		case err != nil: // the client went away while it waited for somebody else's making
			a.problems.Write(w, r, err)
		case p == nil:
			made.refuse(w)
		default:
			p.ServeHTTP(w, r)
		}
	})
}

// isShared says whether the answer to a request may be anybody's.
func (a *API) isShared(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || r.Header["Authorization"] != nil || r.Header["Cookie"] != nil {
		return false
	}
	for _, prefix := range a.shared {
		if strings.HasPrefix(r.URL.Path, prefix) {
			return true
		}
	}
	return false
}

// share notes an operation as one whose answers are kept.
func (a *API) share(op operation) {
	prefix, _, _ := strings.Cut(op.Path, "{")
	a.shared = append(a.shared, prefix)
}

// making is an answer that is being made. It is a ResponseWriter of its own: the
// answer is complete before anybody gets a byte of it.
type making struct {
	header http.Header
	status int
	body   bytes.Buffer

	operation string // "" unless it is Shared
	tag       string
}

type makingKey struct{}

// makingOf is the answer that is being made with ctx, or nil.
func makingOf(ctx context.Context) *making {
	m, _ := ctx.Value(makingKey{}).(*making)
	return m
}

// dependsOn names the package that the answer in hand is made from; without it a
// shared answer depends on the whole catalogue.
func dependsOn(ctx context.Context, p fmt.Stringer) {
	if m := makingOf(ctx); m != nil {
		m.tag = p.String()
	}
}

// answer makes the answer to GET. The client's going away does not end it: others
// wait for it too. nil is a refusal.
func (m *making) answer(a *API, w http.ResponseWriter, r *http.Request) cache.Made[*middleware.Prepared] {
	m.header, m.tag = w.Header().Clone(), tagCatalogue
	r = r.WithContext(context.WithValue(context.WithoutCancel(r.Context()), makingKey{}, m))
	r.Method = http.MethodGet
	a.serve(m, r)
	if m.status != http.StatusOK || m.operation == "" {
		return cache.Made[*middleware.Prepared]{}
	}
	header := http.Header{"Content-Type": m.header["Content-Type"]}
	if link := m.header["Link"]; link != nil {
		header["Link"] = link
	}
	p := middleware.NewPrepared(m.operation, header, bytes.Clone(m.body.Bytes()))
	return cache.Made[*middleware.Prepared]{Value: p, Tag: m.tag, Keep: true, Share: m.tag != tagCatalogue || !madeUp(r.URL.RawQuery)}
}

// madeUp says that a query filters by words of the caller's own, of which there is no
// end; all other filters are choices of ours, and cursors are made here.
func madeUp(query string) bool {
	for part := range strings.SplitSeq(query, "&") {
		switch name, _, _ := strings.Cut(part, "="); name {
		case "limit", "sort", "runtime", "free", "visibility", "cursor", "":
		default:
			return true
		}
	}
	return false
}

// refuse sends what was answered instead.
func (m *making) refuse(w http.ResponseWriter) {
	h := w.Header()
	clear(h)
	for name, values := range m.header {
		h[name] = values
	}
	w.WriteHeader(m.status)
	_, _ = w.Write(m.body.Bytes()) // the client may be gone
}

func (m *making) Header() http.Header { return m.header }

func (m *making) WriteHeader(status int) {
	if m.status == 0 {
		m.status = status
	}
}

func (m *making) Write(p []byte) (int, error) {
	m.WriteHeader(http.StatusOK)
	return m.body.Write(p)
}
