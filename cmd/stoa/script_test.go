package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"stoa/internal/apptest"
	"stoa/internal/domain/model/modeltest"
)

// listOfModels is a provider of models that knows one key for the list of its models,
// in either wire format, and returns its address.
func listOfModels(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("X-Api-Key")
		if r.Header.Get("Anthropic-Version") == "" {
			key = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		}
		switch {
		case r.Method != http.MethodGet || r.URL.Path != "/v1/models":
			w.WriteHeader(http.StatusNotFound)
		case key == "sk-busy":
			w.WriteHeader(http.StatusTooManyRequests)
		case key != "sk-a-key-that-nobody-sees":
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "the provider's own words about "+key)
		default:
			_, _ = io.WriteString(w, `{"data":[]}`)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// selfSigned is a certificate for 127.0.0.1 with its key, in PEM.
func selfSigned() (cert, key []byte, err error) {
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	if err != nil {
		return nil, nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(secret)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), err
}

// TestScripts drives the commands as a user does: each script has a home and
// servers of its own.
func TestScripts(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "stoa")); err != nil {
		t.Fatal(err)
	}
	provider := modeltest.New(t)
	provider.Default(modeltest.Reply{Text: "a stoa is a hall"})
	models := listOfModels(t)
	// servers holds the newest server of each script, by its folder.
	var servers sync.Map
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			e.Setenv("MODELS", models)
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "home", "config"))
			return os.WriteFile(filepath.Join(e.WorkDir, "loop.tar.gz"), apptest.Archive("ada/loop", "2s", apptest.EndlessLoop()), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// server NAME=value... starts a server on the data folder and sets STOA_URL.
			"server": func(ts *testscript.TestScript, _ bool, settings []string) {
				settings = append([]string{
					"OPENAI_BASE_URL=" + provider.OpenAI(), "STOA_DEFAULT_MODEL=openai/test-model",
				}, settings...)
				p := serve(t, ts.MkAbs("data"), settings...)
				servers.Store(ts.MkAbs("."), p)
				ts.Setenv("STOA_URL", p.url)
			},
			// certificate writes cert.pem and key.pem for 127.0.0.1, which nobody trusts.
			"certificate": func(ts *testscript.TestScript, _ bool, _ []string) {
				cert, key, err := selfSigned()
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs("cert.pem"), cert, 0o600))
				ts.Check(os.WriteFile(ts.MkAbs("key.pem"), key, 0o600))
			},
			// executing waits until the server executes something.
			"executing": func(ts *testscript.TestScript, _ bool, _ []string) {
				p, _ := servers.Load(ts.MkAbs("."))
				p.(*process).eventually("a worker at work", func() bool { return slices.ContainsFunc(p.(*process).workers(), busy) })
			},
			// kill-server is kill -9.
			"kill-server": func(ts *testscript.TestScript, _ bool, _ []string) {
				p, _ := servers.Load(ts.MkAbs("."))
				p.(*process).kill()
			},
			// keep NAME takes stdout's first word into a variable.
			"keep": func(ts *testscript.TestScript, _ bool, args []string) {
				word, _, _ := strings.Cut(strings.TrimSpace(ts.ReadFile("stdout")), " ")
				ts.Setenv(args[0], word)
			},
			// exits CODE stoa... checks the exit code of a command; its streams follow as
			// after exec.
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec("sh", append([]string{"-c", `"$@"; code=$?; test $code -eq ` + args[0] + ` || { echo "exit code $code" >&2; exit 99; }`, "sh"}, args[1:]...)...)
				ts.Check(err)
			},
			// mode FILE OCTAL checks the permissions of a file.
			"mode": func(ts *testscript.TestScript, _ bool, args []string) {
				info, err := os.Stat(ts.MkAbs(args[0]))
				ts.Check(err)
				if got := strings.TrimLeft(info.Mode().Perm().String(), "-d"); got != args[1] {
					ts.Fatalf("mode of %s is %s, want %s", args[0], got, args[1])
				}
			},
		},
	})
}
