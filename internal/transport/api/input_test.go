package api

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"stoa/internal/platform/fault"
)

func TestBodyIsStrictJSON(t *testing.T) {
	w := newWorld(t)
	for name, payload := range map[string]string{
		"duplicate":         `{"name":"lamp","name":"lamp"}`,
		"duplicate escaped": `{"name":"lamp","n\u0061me":"lamp"}`,
		"duplicate deep":    `{"name":"lamp","input":{"a":[{"b":1,"b":2}]}}`,
		"trailing":          `{"name":"lamp"}{}`,
		"not JSON":          `name=lamp`,
		"NUL":               `{"name":"la\u0000mp"}`,
		"UTF-8":             "{\"name\":\"la\xffmp\"}",
		"half a surrogate":  `{"name":"la\ud800mp"}`,
		"control":           "{\"name\":\"la\nmp\"}",
		"deep":              `{"name":"lamp","input":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`,
		"byte order mark":   "\ufeff{}",
		"NaN":               `{"name":"lamp","count":NaN}`,
		"comma":             `{"name":"lamp",}`,
		"comment":           `{"name":"lamp"/**/}`,
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(400, "malformed_json", "POST", "/api/v1/things", payload, owner)
		})
	}
	if w.entered != 0 {
		t.Errorf("a handler was reached %d times", w.entered)
	}
}

func TestBodyFitsItsSchema(t *testing.T) {
	w := newWorld(t)
	for payload, pointer := range map[string]string{
		`{}`:                                                              "",
		`{"name":"lamp","colour":"red"}`:                                  "/colour",
		`{"name":"lamp","a<script>":1}`:                                   "/...",
		`{"NAME":"lamp"}`:                                                 "",
		`{"name":"l"}`:                                                    "/name",
		`{"name":5}`:                                                      "/name",
		`{"name":"lamp","email":"canary"}`:                                "/email",
		`{"name":"lamp","count":1.5}`:                                     "/count",
		`{"name":"lamp","count":-1}`:                                      "/count",
		`{"name":"lamp","count":1e400}`:                                   "/count",
		`{"name":"lamp","input":[0,[1e-400]]}`:                            "/input/1/0",
		`{"name":"lamp","count":9300000000000000000}`:                     "/count",
		`{"name":"lamp","items":[{"name":"a"},{"nam":"b"}]}`:              "/items/1",
		`{"name":"lamp","items":[{"name":"a"},{"name":7}]}`:               "/items/1/name",
		`{"name":"lamp","labels":{"a":1}}`:                                "/labels/a",
		`{"name":"lamp","price":{"amount":"-1","currency":"USD"}}`:        "/price/amount",
		`{"name":"lamp","price":{"amount":"1.1234567","currency":"USD"}}`: "/price/amount",
		`{"name":"lamp","price":{"amount":1,"currency":"USD"}}`:           "/price/amount",
		`{"name":"lamp","price":{"amount":"1","currency":"EUR"}}`:         "/price/currency",
		`[]`:     "",
		`"lamp"`: "",
		`null`:   "",
	} {
		p := w.refused(422, "validation_failed", "POST", "/api/v1/things", payload, owner)
		found := false
		for _, place := range p.Errors {
			found = found || place.Pointer == pointer
		}
		if !found {
			t.Errorf("%s: no error at %q in %+v", payload, pointer, p.Errors)
		}
	}
	if w.entered != 0 {
		t.Errorf("a handler was reached %d times", w.entered)
	}
	w.refused(422, "validation_failed", "POST", "/api/v1/things", `{"name":"lamp"}`, owner, "Idempotency-Key: 123456789")
	if got := w.send("POST", "/api/v1/things", `{"name":"lamp","items":null}`, owner); got.StatusCode != 201 {
		t.Errorf("null for an optional member: %d %s", got.StatusCode, got.text)
	}
}

func TestA211NothingOfARequestIsEchoed(t *testing.T) {
	w := newWorld(t)
	const canary = "hunter2%20canary"
	plain := "hunter2 canary"
	for _, got := range []answer{
		w.send("POST", "/api/v1/auth/login", `{"email":"`+plain+`","password":"`+plain+`","x":"`+plain+`"}`),
		w.send("POST", "/api/v1/auth/login", `{"email":"a@b.example","password":"canary"}`),
		w.send("POST", "/api/v1/auth/login", `{"email":"a@b.example","password":"`+plain+`","`+plain+`":1}`),
		w.send("POST", "/api/v1/auth/login", `{"email":"a@b.example","password":"`+plain),
		w.send("POST", "/api/v1/auth/login", `canary`),
		w.send("POST", "/api/v1/auth/login", "password=canary%00", "Content-Type: application/x-www-form-urlencoded"),
		w.send("POST", "/api/v1/auth/login", "canary%20x=1&username=canary&password=canary", "Content-Type: application/x-www-form-urlencoded"),
		w.send("POST", "/api/v1/auth/login", "{}", "Content-Type: canary"),
		w.send("GET", "/api/v1/things?limit="+canary, "", owner),
		w.send("GET", "/api/v1/things?kind="+canary, "", owner),
		w.send("GET", "/api/v1/things?"+canary+"=1", "", owner),
		w.send("GET", "/api/v1/things?cursor="+canary, "", owner),
		w.send("GET", "/api/v1/things/"+canary, ""),
		w.send("GET", "/"+canary, ""),
		w.send("POST", "/api/v1/things", `{"name":"lamp"}`, owner, "Idempotency-Key: "+plain),
		w.send("GET", "/api/v1/things", "", "Authorization: Bearer "+plain),
	} {
		if got.StatusCode < 400 || strings.Contains(got.text, "hunter2") || strings.Contains(got.text, "canary") {
			t.Errorf("%d %s", got.StatusCode, got.text)
		}
		for name, values := range got.Header {
			if strings.Contains(strings.Join(values, ""), "canary") {
				t.Errorf("header %s: %v", name, values)
			}
		}
	}
	if strings.Contains(w.log.String(), "canary") {
		t.Errorf("log: %s", w.log)
	}
}

func TestDepthOf10000IsRefusedBeforeAnyDecoding(t *testing.T) {
	deep := []byte(strings.Repeat(`{"a":[`, 10_000) + strings.Repeat(`]}`, 10_000))
	if err := readStrict(deep); fault.Of(err) == nil || fault.Of(err).Code != "malformed_json" {
		t.Fatalf("err = %v", err)
	}
	// The scan ends at the 65th level, so nothing of the rest is looked at.
	s := scanner{data: deep}
	s.value(0)
	if s.at > 65*6 {
		t.Errorf("read %d bytes", s.at)
	}
}

func TestContentTypes(t *testing.T) {
	w := newWorld(t)
	const good = `{"name":"lamp"}`
	for _, header := range []string{"application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"} {
		if got := w.send("POST", "/api/v1/things", good, owner, "Content-Type: "+header); got.StatusCode != 201 {
			t.Errorf("%s: %d %s", header, got.StatusCode, got.text)
		}
	}
	for _, header := range []string{"text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "application/gzip", "multipart/form-data", "json", "/", "application/json; charset"} {
		got := w.send("POST", "/api/v1/things", good, owner, "Content-Type: "+header)
		if p := got.problem(t); got.StatusCode != 415 || p.Code != "unsupported_media_type" || !strings.Contains(got.text, `"supported":["application/json"]`) {
			t.Errorf("%s: %d %s", header, got.StatusCode, got.text)
		}
	}
	w.refused(415, "unsupported_media_type", "POST", "/api/v1/things", good, owner, "Content-Type:")
	w.refused(415, "unsupported_media_type", "POST", "/api/v1/things", good, owner, "Content-Encoding: gzip")
	w.refused(400, "body_required", "POST", "/api/v1/things", "", owner)
	w.refused(400, "body_required", "POST", "/api/v1/things", "", owner, "Content-Type: application/json")
}

func TestBodySizeIsBounded(t *testing.T) {
	w := newWorld(t)
	exact := `{"name":"lamp","input":"` + strings.Repeat("x", 1<<20-26) + `"}`
	if got := w.send("POST", "/api/v1/things", exact, owner); len(exact) != 1<<20 || got.StatusCode != 201 {
		t.Errorf("%d bytes: %d %s", len(exact), got.StatusCode, got.text)
	}
	got := w.send("POST", "/api/v1/things", exact+" ", owner)
	if p := got.problem(t); got.StatusCode != 413 || p.Code != "body_too_large" || !strings.Contains(got.text, `"limit":1048576`) {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
	// A client that asks first is refused without being told to go on.
	asking := "POST /api/v1/things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner@A\r\nContent-Type: application/json\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n"
	if got := w.rawSend(asking); !strings.HasPrefix(got, "HTTP/1.1 413 ") {
		t.Errorf("asking: %.200s", got)
	}
	// Without a Content-Length the limit is met while reading.
	chunked := "POST /api/v1/raw HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner@A\r\nContent-Type: application/gzip\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"1001\r\n" + strings.Repeat("x", 4097) + "\r\n0\r\n\r\n"
	if got := w.rawSend(chunked); !strings.HasPrefix(got, "HTTP/1.1 413 ") {
		t.Errorf("chunked: %.200s", got)
	}
}

func TestBodyThatDoesNotArriveIsRefused(t *testing.T) {
	w := newWorld(t)
	conn := w.dial()
	fmt.Fprintf(conn, "POST /api/v1/things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner@A\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, conn); !strings.HasPrefix(got, "HTTP/1.1 400 ") || !strings.Contains(got, "body_incomplete") {
		t.Errorf("%s", got)
	}
	broken := "POST /api/v1/things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner@A\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
	if got := w.rawSend(broken); !strings.HasPrefix(got, "HTTP/1.1 400 ") || !strings.Contains(got, "malformed_request") {
		t.Errorf("%s", got)
	}
}

func TestRawBodyBesideJSON(t *testing.T) {
	w := newWorld(t)
	if got := w.send("POST", "/api/v1/raw", "\x1f\x8b{{", owner, "Content-Type: application/gzip"); got.StatusCode != http.StatusNoContent || string(w.raw) != "\x1f\x8b{{" {
		t.Errorf("%d %q %s", got.StatusCode, w.raw, got.text)
	}
	if got := w.send("POST", "/api/v1/raw", `{"name":"lamp"}`, owner); got.StatusCode != http.StatusNoContent || w.raw != nil || w.last.Name != "lamp" {
		t.Errorf("%d %q %+v", got.StatusCode, w.raw, w.last)
	}
	w.refused(422, "validation_failed", "POST", "/api/v1/raw", `{"name":1}`, owner)
	w.refused(400, "body_required", "POST", "/api/v1/raw", "", owner, "Content-Type: application/gzip")
	w.refused(413, "body_too_large", "POST", "/api/v1/raw", strings.Repeat("x", 4097), owner, "Content-Type: application/gzip")
	w.refused(415, "unsupported_media_type", "POST", "/api/v1/raw", "x", owner, "Content-Type: application/zip")
}

func TestFormBesideJSON(t *testing.T) {
	w := newWorld(t)
	const form = "Content-Type: application/x-www-form-urlencoded"
	if got := w.send("POST", "/api/v1/auth/login", `{"email":"a@b.example","password":"12345678"}`); got.StatusCode != 200 {
		t.Errorf("JSON: %d %s", got.StatusCode, got.text)
	}
	for payload, pointer := range map[string]string{
		"username=a@b.example&password=1":               "/password",
		"username=a@b.example":                          "",
		"username=a@b.example&password=12345678&x=1":    "/x",
		"username=a&username=b&password=12345678":       "/username",
		"email=a@b.example&password=12345678":           "/email",
		strings.Repeat("a=1&", 3) + "password=12345678": "/a",
	} {
		p := w.refused(422, "validation_failed", "POST", "/api/v1/auth/login", payload, form)
		if len(p.Errors) == 0 || p.Errors[0].Pointer != pointer {
			t.Errorf("%s: %+v", payload, p.Errors)
		}
	}
	w.refused(400, "malformed_request", "POST", "/api/v1/auth/login", "username=%zz", form)
	w.refused(400, "malformed_request", "POST", "/api/v1/auth/login", "username=%00", form)
	many := ""
	for i := range 200 {
		many += fmt.Sprintf("f%d=1&", i)
	}
	if p := w.refused(422, "validation_failed", "POST", "/api/v1/auth/login", many, form); len(p.Errors) != maxPlaces {
		t.Errorf("%d places", len(p.Errors))
	}
}

func TestWrongPlacesAreBounded(t *testing.T) {
	w := newWorld(t)
	items := strings.TrimSuffix(strings.Repeat(`{"name":1},`, 500), ",")
	p := w.refused(422, "validation_failed", "POST", "/api/v1/things", `{"name":"lamp","items":[`+items+`]}`, owner)
	if len(p.Errors) != maxPlaces {
		t.Errorf("%d places", len(p.Errors))
	}
}

func FuzzReadStrict(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-0.5e+3,"x\u00e9\ud83d\ude00\n",true,false,null,{}]}`, `[]`, `""`, `0`, `-`, `1.`, `1e`, `01`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`,
		`"\ud800"`, `"\u0000"`, "\"\xff\"", `[1,]`, `{"a"}`, `tru`, ` 1 `, `1 2`, `1e400`, `"\x"`, `"`, `{`, `[`, `{"a":`, `"\u12`, `"\u+123"`, `"\ud800\u0041"`, `"\ud800\n"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := readStrict(data)
		if err == nil {
			var v any
			if e := json.Unmarshal(data, &v); e != nil {
				t.Fatalf("accepted what the decoder refuses: %q: %v", data, e)
			}
			return
		}
		refusal := fault.Of(err)
		if refusal == nil || len(refusal.Places) != 1 {
			t.Fatalf("%q: %v", data, err)
		}
		if !json.Valid(data) {
			return
		}
		// Valid for the decoder, refused here: only for one of our own reasons.
		for _, reason := range []string{"twice", "NUL", "surrogate", "deep", "range", "UTF-8"} {
			if strings.Contains(refusal.Places[0].Message, reason) {
				return
			}
		}
		t.Fatalf("refused valid JSON %q: %+v", data, refusal.Places)
	})
}

func TestOptionalBodyMayBeLeftOut(t *testing.T) {
	w := newWorld(t)
	if got := w.send("POST", "/api/v1/optional", ""); got.text != "false\n" {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
	if got := w.send("POST", "/api/v1/optional", `{"name":"a"}`); got.text != "true\n" {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
	chunked := "POST /api/v1/optional HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
	if got := w.rawSend(chunked); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("%s", got)
	}
	w.refused(422, "validation_failed", "POST", "/api/v1/optional", `{"x":"a"}`)
}
