//go:build browser

package api

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser starts Chromium, from STOA_CHROMIUM or the path, and collects whatever it
// complains about and every address that it asks for.
func browser(t *testing.T) (ctx context.Context, complaints, addresses func() []string) {
	t.Helper()
	program := os.Getenv("STOA_CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); program == "" && err == nil {
			program = found
		}
	}
	if program == "" {
		t.Fatal("no Chromium: install it or set STOA_CHROMIUM")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.WindowSize(1280, 1600),
		chromedp.Flag("no-sandbox", true), chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("no-first-run", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stopTab := chromedp.NewContext(allocator)
	t.Cleanup(stopTab)
	var mu sync.Mutex
	var said, asked []string
	err := chromedp.Listen(ctx, func(event any) { // starts the browser too

		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *log.EventEntryAdded:
			if e.Entry.Level != log.EntryLevelVerbose { // hints on style, like a password field outside a form
				said = append(said, e.Entry.Text)
			}
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
				for _, a := range e.Args {
					said = append(said, string(a.Value))
				}
			}
		case *runtime.EventExceptionThrown:
			said = append(said, e.ExceptionDetails.Text)
		case *network.EventRequestWillBeSent:
			asked = append(asked, e.Request.URL)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stopClock := context.WithTimeout(ctx, time.Minute)
	t.Cleanup(stopClock)
	copied := func(list *[]string) func() []string {
		return func() []string {
			mu.Lock()
			defer mu.Unlock()
			return append([]string(nil), *list...)
		}
	}
	return ctx, copied(&said), copied(&asked)
}

// read waits for an element and keeps its text.
func read(into *string, selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) (err error) {
		*into, err = chromedp.Text(chromedp.CSS(selector), chromedp.NodeVisible)(ctx, tab)
		return err
	})
}

func TestBrowserRendersTheDocumentation(t *testing.T) {
	w := newWorld(t)
	ctx, complaints, addresses := browser(t)
	text, result, dialog, listed := "", "", "", ""
	err := chromedp.Do(ctx,
		chromedp.Navigate(w.server.URL+"/docs"),
		chromedp.WaitVisible(chromedp.CSS("#operations-System-get-health")),
		read(&text, "#docs"),
		// An operation opens and is tried, so the page may ask its own server.
		chromedp.Click(chromedp.CSS("#operations-System-get-health .opblock-summary-control")),
		chromedp.Click(chromedp.CSS("#operations-System-get-health .try-out__btn"), chromedp.NodeVisible),
		chromedp.Click(chromedp.CSS("#operations-System-get-health .execute"), chromedp.NodeVisible),
		read(&result, "#operations-System-get-health .live-responses-table tbody .response-col_description"),
		chromedp.Click(chromedp.CSS(".btn.authorize"), chromedp.NodeVisible),
		read(&dialog, ".modal-ux-content"),
		// Signing in with the password form gives the page a token, and it uses it.
		chromedp.SendKeys(chromedp.CSS("#oauth_username"), "a@b.example"),
		chromedp.SendKeys(chromedp.CSS("#oauth_password"), "12345678"),
		chromedp.Click(chromedp.CSS(".auth-container:last-child .btn.authorize")),
		chromedp.WaitVisible(chromedp.CSS(".auth-container:last-child .auth-btn-wrapper .btn.modal-btn.auth.button:not(.authorize)")),
		chromedp.Click(chromedp.CSS(".modal-ux .close-modal")),
		chromedp.Click(chromedp.CSS("#operations-default-list-things .opblock-summary-control")),
		chromedp.Click(chromedp.CSS("#operations-default-list-things .try-out__btn"), chromedp.NodeVisible),
		chromedp.Click(chromedp.CSS("#operations-default-list-things .execute"), chromedp.NodeVisible),
		read(&listed, "#operations-default-list-things .live-responses-table tbody .response-col_description"),
	)
	screenshot, shotErr := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if shotErr != nil {
		t.Error(shotErr)
	}
	if path := os.Getenv("STOA_SCREENSHOT"); path != "" {
		if err := os.WriteFile(path, screenshot, 0o600); err != nil {
			t.Error(err)
		}
	}
	if err != nil {
		t.Fatalf("%v; the browser says %q", err, complaints())
	}
	for _, want := range []string{"Test API", "1.2.3", "/api/v1/things", "Make a thing", "/health"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q: %s", want, text)
		}
	}
	if !strings.Contains(result, `"healthy"`) {
		t.Errorf("trying an operation gave %s", result)
	}
	if !strings.Contains(dialog, "bearer") || !strings.Contains(dialog, "username") {
		t.Errorf("the dialog for credentials is %s", dialog)
	}
	if !strings.Contains(listed, `"has_more"`) {
		t.Errorf("an operation with the token gave %s", listed)
	}
	for _, complaint := range complaints() {
		t.Errorf("the browser complains: %s", complaint)
	}
	for _, address := range addresses() {
		if !strings.HasPrefix(address, w.server.URL+"/") && !strings.HasPrefix(address, "data:") {
			t.Errorf("the page asks for %s", address)
		}
	}
}

func TestBrowserRendersTheErrorCatalogue(t *testing.T) {
	w := newWorld(t)
	ctx, complaints, _ := browser(t)
	text := ""
	if err := chromedp.Do(ctx, chromedp.Navigate(w.server.URL+"/docs/errors#validation_failed"), read(&text, "main")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "validation_failed") || len(complaints()) > 0 {
		t.Errorf("%q: %s", complaints(), text)
	}
}
