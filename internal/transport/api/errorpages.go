package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"stoa/internal/platform/fault"
)

// errorsPath is where the catalogue of codes is. A code's own page is below it.
const errorsPath = "/docs/errors"

// errorPages are the pages about errors, in memory.
type errorPages struct {
	catalogue []byte
	codes     map[string][]byte
	markdown  []byte
}

// errorPage is what the page of one code says.
type errorPage struct {
	Code, Title, Status, StatusText, Retryable, Detail, Advice string

	Outcome    bool   // the error of an execution, and never an answer's
	Example    string // an answer with the code, or an execution's error
	Everywhere bool   // every operation that is no probe may answer it
	Operations []documentedLink
}

// documentedLink leads to an operation in the interactive documentation.
type documentedLink struct{ ID, Summary, Anchor string }

// renderErrors makes the pages of the codes that the program knows.
func (a *API) renderErrors() errorPages {
	pages := errorPages{codes: map[string][]byte{}, markdown: []byte(ErrorsMarkdown())}
	links := a.documentedLinks()
	var all []errorPage
	for _, f := range fault.All() {
		page := errorPage{
			Code: f.Code, Title: title(f.Code), Status: statusWord(f), StatusText: http.StatusText(statusOf(f)), Retryable: yes(f.Retryable),
			Detail: f.Detail, Advice: adviceOn(f), Outcome: f.Outcome != "", Example: a.exampleOf(f),
		}
		for _, operation := range slices.Sorted(slices.Values(a.refusals[f.Code])) {
			page.Operations = append(page.Operations, links[operation])
		}
		page.Everywhere = len(page.Operations) >= len(a.operations)
		pages.codes[f.Code] = renderPage("code", page)
		all = append(all, page)
	}
	pages.catalogue = renderPage("catalogue", map[string]any{"Head": catalogueHead, "Codes": all})
	return pages
}

// documentedLinks are the operations of the document, by id.
func (a *API) documentedLinks() map[string]documentedLink {
	links := map[string]documentedLink{}
	for _, item := range a.huma.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			tag := "default"
			if len(op.Tags) > 0 {
				tag = op.Tags[0]
			}
			links[op.OperationID] = documentedLink{op.OperationID, op.Summary, "/docs#/" + tag + "/" + op.OperationID}
		}
	}
	return links
}

// exampleOf is how a fault looks to a caller.
func (a *API) exampleOf(f *fault.Fault) string {
	var example any
	if f.Outcome != "" {
		example = map[string]any{"error": map[string]any{"code": f.Code, "message": f.Detail, "retryable": f.Retryable}}
	} else {
		problem := a.problems.example(f)
		problem.RequestID = sampleRequest.String()
		if f.Code == ValidationFailed.Code {
			problem.Errors = []fault.Place{{Pointer: "query/limit", Message: "expected number <= 100"}, {Pointer: "/input", Message: "expected required property to be present"}}
		}
		example = problem
	}
	out, err := json.MarshalIndent(example, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("api: the example of %s does not encode: %v", f.Code, err)) // strings and numbers always encode
	}
	return string(out)
}

func renderPage(name string, data any) []byte {
	var b bytes.Buffer
	if err := errorsTemplate.ExecuteTemplate(&b, name, data); err != nil {
		panic(fmt.Sprintf("api: the page of errors does not render: %v", err)) // made of our own sentences
	}
	return b.Bytes()
}

var errorsTemplate = template.Must(template.New("").Parse(`{{define "head"}}<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.}}</title>
<link rel="icon" type="image/svg+xml" href="/docs/favicon.svg">
<link rel="stylesheet" href="/docs/page.css">
</head>
<body class="plain">
<header class="bar"><a class="mark" href="/docs">Stoa</a><nav><a href="/docs">API</a><a href="/docs/errors">Errors</a><a href="/openapi.json">OpenAPI</a></nav></header>
{{end}}
{{define "catalogue"}}{{template "head" "Errors"}}<main>
<h1>Errors</h1>
<p>{{.Head}} The same list is there <a href="/docs/errors.md">as Markdown</a>.</p>
<div class="wide"><table>
<thead><tr><th>Code</th><th>Status</th><th>Retryable</th><th>Meaning</th></tr></thead>
<tbody>
{{range .Codes}}<tr id="{{.Code}}"><td><a href="/docs/errors/{{.Code}}"><code>{{.Code}}</code></a></td><td>{{.Status}}</td><td>{{.Retryable}}</td><td>{{.Detail}}</td></tr>
{{end}}</tbody>
</table></div>
</main>
</body>
</html>
{{end}}
{{define "code"}}{{template "head" .Title}}<main>
<p class="trail"><a href="/docs/errors">Errors</a></p>
<h1>{{.Title}}</h1>
<dl>
<dt>Code</dt><dd><code>{{.Code}}</code></dd>
<dt>Status</dt><dd>{{if .Outcome}}none: the error of an execution, whose request itself was answered{{else}}{{.Status}} {{.StatusText}}{{end}}</dd>
<dt>Retryable</dt><dd>{{.Retryable}}</dd>
</dl>
<h2>What it means</h2>
<p>{{.Detail}}</p>
<h2>What to do</h2>
<p>{{.Advice}}</p>
<h2>{{if .Outcome}}In the execution{{else}}The answer{{end}}</h2>
<pre><code>{{.Example}}</code></pre>
<h2>Where it comes from</h2>
{{if .Outcome}}<p>The execution's <code>error</code>, wherever an execution is shown.</p>
{{else if .Everywhere}}<p>Every operation may answer this.</p>
{{else if not .Operations}}<p>No operation of this API in particular.</p>
{{else}}<ul>
{{range .Operations}}<li><a href="{{.Anchor}}">{{.Summary}}</a> <code>{{.ID}}</code></li>
{{end}}</ul>
{{end}}</main>
</body>
</html>
{{end}}`))
