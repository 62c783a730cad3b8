package middleware

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Prepared is a public answer that is ready to be sent again and again: its bytes
// in every encoding, each with a strong tag and its length, and its headers. An
// encoding is made when the first client asks for it. It is safe for concurrent
// use, and changes nothing of what it was given.
//
// Nothing else is compressed or tagged. An answer that holds both a secret and a
// piece of the request gives the secret away by its compressed size, and a tag of
// a private answer could match another's.
type Prepared struct {
	operation string
	header    http.Header
	plain     *encoding
	gzip      func() *encoding
	zstd      func() *encoding
}

// encoding is the answer in one content encoding. Its header values are slices so
// that they go into a header as they are.
type encoding struct {
	name   []string // nil for the plain one
	body   []byte
	tag    []string
	length []string
}

// preparedVary says that an answer with a credential is another, and one in another
// encoding.
var preparedVary = []string{"Authorization, Accept-Encoding"}

// minCompressed is the least bytes that are compressed: below, a packet is a packet.
const minCompressed = 1024

// NewPrepared prepares the answer 200 of an operation, with its Content-Type and
// whatever else is in header; the headers of caching are added. The caller must not
// change header or body any more.
func NewPrepared(operation string, header http.Header, body []byte) *Prepared {
	header.Set("Cache-Control", "public, no-cache")
	sum := sha256.Sum256(body)
	tag := hex.EncodeToString(sum[:16])
	p := &Prepared{operation: operation, header: header, plain: newEncoding("", tag, body)}
	lazily := func(name string, compress func([]byte) []byte) func() *encoding {
		return sync.OnceValue(func() *encoding {
			if packed := compress(body); len(packed) < len(body) {
				return newEncoding(name, tag, packed)
			}
			return p.plain
		})
	}
	p.gzip, p.zstd = lazily("gzip", packGzip), lazily("zstd", packZstd)
	return p
}

func newEncoding(name, tag string, body []byte) *encoding {
	e := &encoding{body: body, length: []string{strconv.Itoa(len(body))}}
	if name != "" {
		e.name = []string{name}
		tag += "-" + name
	}
	e.tag = []string{`"` + tag + `"`}
	return e
}

// Operation is whose answer it is.
func (p *Prepared) Operation() string { return p.operation }

// Header is what it was prepared with; not to be changed.
func (p *Prepared) Header() http.Header { return p.header }

// Body is the plain bytes; not to be changed.
func (p *Prepared) Body() []byte { return p.plain.body }

// ServeHTTP sends the answer, or 304 to a client that has it.
func (p *Prepared) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	Note(r.Context(), p.operation, "")
	e := p.choose(r.Header["Accept-Encoding"])
	h := w.Header()
	for name, values := range p.header {
		h[name] = values
	}
	if h["Vary"] == nil {
		h["Vary"] = preparedVary
	} else { // it depends on the origin too
		h.Add("Vary", preparedVary[0])
	}
	h["Etag"] = e.tag
	if asked := r.Header["If-None-Match"]; asked != nil && matches(asked, e.tag[0]) {
		delete(h, "Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h["Content-Length"] = e.length
	if e.name != nil {
		h["Content-Encoding"] = e.name
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(e.body) // the client may be gone; the server drops it for HEAD
}

// choose picks the encoding that the client likes best, the smaller of equals.
func (p *Prepared) choose(accept []string) *encoding {
	if len(accept) == 0 || len(p.plain.body) < minCompressed {
		return p.plain
	}
	var gzip, zstd float64
	for _, header := range accept {
		for part := range strings.SplitSeq(header, ",") {
			name, parameter, _ := strings.Cut(strings.TrimSpace(part), ";")
			quality := 1.0
			if q, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q="); ok {
				var err error
				if quality, err = strconv.ParseFloat(q, 64); err != nil {
					quality = 0
				}
			}
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "gzip":
				gzip = quality
			case "zstd":
				zstd = quality
			}
		}
	}
	switch {
	case zstd > 0 && zstd >= gzip:
		return p.zstd()
	case gzip > 0:
		return p.gzip()
	}
	return p.plain
}

func packGzip(data []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := z.Write(data)
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		panic(fmt.Sprintf("middleware: gzip into memory: %v", err)) // a buffer takes everything
	}
	return out.Bytes()
}

var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(fmt.Sprintf("middleware: compression options: %v", err)) // constants above
	}
	return e
})

func packZstd(data []byte) []byte { return zstdEncoder().EncodeAll(data, nil) }

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
