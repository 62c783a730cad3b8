//go:build browser

package app_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"stoa/internal/apptest"
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

// shoot keeps a picture of the page when STOA_SCREENSHOTS names a folder for it.
func shoot(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	folder := os.Getenv("STOA_SCREENSHOTS")
	if folder == "" {
		return
	}
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o600)
	}
	if err != nil {
		t.Error(err)
	}
}

// quiet asserts that the browser complained of nothing, and asked nobody but the
// server.
func quiet(t *testing.T, s *apptest.Server, complaints, addresses func() []string) {
	t.Helper()
	for _, complaint := range complaints() {
		t.Errorf("the browser complains: %s", complaint)
	}
	for _, address := range addresses() {
		if !strings.HasPrefix(address, s.URL+"/") && !strings.HasPrefix(address, "data:") {
			t.Errorf("the page asks for %s", address)
		}
	}
}

// A person signs in on the page, and executes an agent as the example stands there.
func TestBrowserExecutesAnAgentFromTheDocumentation(t *testing.T) {
	needSamples(t)
	s := apptest.Start(t, "", samples)
	p := s.Register()
	ctx, complaints, addresses := browser(t)
	const execute = "#operations-Executions-execute-agent"
	const answer = execute + " .live-responses-table tbody"
	text, dialog, status, output := "", "", "", ""
	err := chromedp.Do(ctx,
		chromedp.Navigate(s.URL+"/docs"),
		chromedp.WaitVisible(chromedp.CSS(execute)),
		read(&text, "body"),
	)
	shoot(ctx, t, "docs")
	if err == nil {
		err = chromedp.Do(ctx,
			chromedp.Click(chromedp.CSS(".btn.authorize"), chromedp.NodeVisible),
			read(&dialog, ".modal-ux-content"),
			chromedp.SendKeys(chromedp.CSS("#oauth_username"), p.Email),
			chromedp.SendKeys(chromedp.CSS("#oauth_password"), p.Password),
			chromedp.Click(chromedp.CSS(".auth-container:last-child .btn.authorize")),
			chromedp.WaitVisible(chromedp.CSS(".auth-container:last-child .auth-btn-wrapper .btn.modal-btn.auth.button:not(.authorize)")),
		)
		shoot(ctx, t, "authorized")
	}
	if err == nil {
		err = chromedp.Do(ctx,
			chromedp.Click(chromedp.CSS(".modal-ux .close-modal")),
			chromedp.Click(chromedp.CSS(execute+" .opblock-summary-control")),
			chromedp.Click(chromedp.CSS(execute+" .try-out__btn"), chromedp.NodeVisible),
		)
		shoot(ctx, t, "try")
	}
	if err == nil {
		err = chromedp.Do(ctx,
			chromedp.Click(chromedp.CSS(execute+" .execute"), chromedp.NodeVisible),
			read(&status, answer+" .response-col_status"),
			read(&output, answer+" .response-col_description"),
		)
	}
	shoot(ctx, t, "executed")
	if err != nil {
		t.Fatalf("%v; the browser says %q", err, complaints())
	}
	for _, want := range []string{"Stoa", "Executions", "/api/v1/agents/{package_id}/execute", "/health"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q: %s", want, text)
		}
	}
	if !strings.Contains(dialog, "bearer") || !strings.Contains(dialog, "username") {
		t.Errorf("the dialog for credentials is %s", dialog)
	}
	if !strings.HasPrefix(status, "200") || !strings.Contains(output, `"status": "succeeded"`) ||
		!strings.Contains(output, `"summary": "The harbour board voted to keep the old lighthouse lit."`) {
		t.Errorf("executing gave %s: %s", status, output)
	}
	quiet(t, s, complaints, addresses)
}

func TestBrowserRendersThePagesOfErrors(t *testing.T) {
	s := apptest.Start(t, "", nil)
	ctx, complaints, addresses := browser(t)
	catalogue, marked, page, operation := "", "", "", ""
	err := chromedp.Do(ctx,
		chromedp.Navigate(s.URL+"/docs/errors#validation_failed"),
		read(&catalogue, "main"),
		read(&marked, "tr:target"), // the anchors that problems named before their codes had pages
	)
	shoot(ctx, t, "errors")
	if err == nil {
		err = chromedp.Do(ctx,
			chromedp.Click(chromedp.CSS(`#package_not_found a`)),
			read(&page, "dl"),
			read(&page, "main"),
		)
		shoot(ctx, t, "error")
	}
	if err == nil { // an operation of the page opens in the interactive documentation
		err = chromedp.Do(ctx,
			chromedp.Click(chromedp.CSS(`a[href="/docs#/Packages/get-package"]`)),
			read(&operation, "#operations-Packages-get-package .opblock-description"),
		)
		shoot(ctx, t, "operation")
	}
	if err != nil {
		t.Fatalf("%v; the browser says %q", err, complaints())
	}
	if !strings.Contains(catalogue, "rate_limited") || !strings.HasPrefix(marked, "validation_failed") {
		t.Errorf("%s: %s", marked, catalogue)
	}
	for _, want := range []string{"Package not found", "404 Not Found", "What to do", `"code": "package_not_found"`, "execute-agent"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q: %s", want, page)
		}
	}
	if !strings.Contains(operation, "The package with one of its versions") {
		t.Errorf("the operation is %s", operation)
	}
	quiet(t, s, complaints, addresses)
}
