package middleware

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
)

// maxTagged is the most bytes that ETag keeps to tag them. Bigger answers are
// sent as they come, without a tag of ours.
const maxTagged = 1 << 20

// ETag gives public answers to GET a strong tag, the hash of the bytes that are
// sent, and answers 304 to a client that has them. A private answer has no tag,
// so no tag of another's can match it.
func ETag(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		t := &tagger{ResponseWriter: w, r: r}
		next.ServeHTTP(t, r)
		t.finish()
	})
}

// tagger holds a public answer back until it is complete.
type tagger struct {
	http.ResponseWriter
	r       *http.Request
	status  int
	holding bool
	held    bytes.Buffer
}

// WriteHeader decides by the headers whether the answer is to be tagged.
func (t *tagger) WriteHeader(status int) {
	if status < 200 {
		t.ResponseWriter.WriteHeader(status)
		return
	}
	if t.status != 0 {
		return
	}
	t.status = status
	h := t.Header()
	t.holding = status == http.StatusOK && h.Get("ETag") == "" && strings.HasPrefix(h.Get("Cache-Control"), "public")
	if !t.holding {
		t.ResponseWriter.WriteHeader(status)
	}
}

// Write holds the bytes, or passes them on.
func (t *tagger) Write(p []byte) (int, error) {
	if t.status == 0 {
		t.WriteHeader(http.StatusOK)
	}
	if t.holding && t.held.Len()+len(p) <= maxTagged {
		return t.held.Write(p)
	}
	if err := t.release(); err != nil {
		return 0, err
	}
	return t.ResponseWriter.Write(p)
}

// release gives up tagging and sends what was held.
func (t *tagger) release() error {
	if !t.holding {
		return nil
	}
	t.holding = false
	t.ResponseWriter.WriteHeader(t.status)
	_, err := t.held.WriteTo(t.ResponseWriter)
	return err
}

// FlushError sends what is there: an answer that is flushed is a stream.
func (t *tagger) FlushError() error {
	if t.status == 0 {
		t.WriteHeader(http.StatusOK)
	}
	if err := t.release(); err != nil {
		return err
	}
	return http.NewResponseController(t.ResponseWriter).Flush()
}

// Flush is FlushError for callers that only know http.Flusher.
func (t *tagger) Flush() { _ = t.FlushError() }

// Unwrap lets http.ResponseController reach the connection.
func (t *tagger) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *tagger) finish() {
	if !t.holding {
		return
	}
	sum := sha256.Sum256(t.held.Bytes())
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	h := t.Header()
	h.Set("ETag", tag)
	if matches(t.r.Header.Values("If-None-Match"), tag) {
		h.Del("Content-Length")
		h.Del("Content-Type")
		t.ResponseWriter.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(t.held.Len()))
	t.ResponseWriter.WriteHeader(t.status)
	_, _ = t.held.WriteTo(t.ResponseWriter) // the client may be gone
}

// matches compares weakly, as If-None-Match does: proxies weaken tags.
func matches(headers []string, tag string) bool {
	for _, header := range headers {
		for entry := range strings.SplitSeq(header, ",") {
			entry = strings.TrimSpace(entry)
			if entry == "*" || strings.TrimPrefix(entry, "W/") == tag {
				return true
			}
		}
	}
	return false
}
