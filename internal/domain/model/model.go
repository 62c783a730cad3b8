// Package model asks language models for answers.
//
// A Service knows the providers that the installation has configured and asks
// the models of a request in their order of preference: a model whose provider
// is not configured, or that fails, is passed over for the next. Retries are its
// own, few and spread by jitter; the providers' SDKs retry nothing.
//
// Answers are streamed. A caller who asks for it gets the text in pieces as they
// come, and from the first piece on the call is bound to the model that wrote it:
// it is not repeated and no other model is asked, because what was seen cannot be
// taken back. Servers that answer a streamed request with one JSON object, that
// know no stream_options, or that end without their end mark are understood.
//
// What a provider sends is treated as hostile: the size of an answer and the
// silence inside it are bounded, its numbers are checked, and neither its error
// texts nor anything of a prompt or a key reaches an error or a log line. A
// failure is named by a class of a fixed list and the HTTP status alone.
//
// Structured output: with a Schema, an OpenAI-compatible provider gets a
// json_schema response format, strict when the schema has a strict form, and
// otherwise Anthropic gets one tool that it is forced to use, because that takes
// any schema of an object on every model. A schema whose root is no object is
// wrapped into one and the answer unwrapped. The answer is not validated here,
// and it is never handed on in pieces: it may be fenced or wrapped, half of a JSON
// value is of no use, and held back it can still be asked for again.
package model

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"stoa/internal/platform/fault"
)

// Faults of a model call. They appear as the error of an execution.
var (
	// NotConfigured: no configured provider can answer for the models asked for.
	NotConfigured = fault.Define("model_not_configured", fault.Unavailable,
		"No language model is configured for this package. Set OPENAI_API_KEY or ANTHROPIC_API_KEY, or OPENAI_BASE_URL for a compatible server; "+
			"STOA_DEFAULT_MODEL (provider/model) names the model of packages that name none.",
		fault.Outcome("Configure a model, as the message says."))
	// Unavailable: every suitable provider refused the request or failed. Fields:
	// reason (a Class) and, when there was an answer, provider_status.
	Unavailable = fault.Define("model_unavailable", fault.Unavailable, "The language model could not be reached or refused to answer.", fault.Retryable(),
		fault.Outcome("The message ends with the reason. Execute it again later; where the reason is out_of_quota, unauthorized, "+
			"unknown_model, rejected or redirected, tell the operator, because it will not pass by itself."))
	// Interrupted: the answer broke off after a piece of it was handed on. Field:
	// reason (a Class).
	Interrupted = fault.Define("model_interrupted", fault.Unavailable,
		"The language model's answer broke off. The part that came is in the execution's output.delta events.", fault.Retryable(),
		fault.Outcome("The message ends with the reason. Execute it again for a whole answer; the part that came stays in the events."))
	// Refused: the model answered, but declined or was cut off. Field: reason,
	// Declined or CutOff.
	Refused = fault.Define("model_refused", fault.Invalid, "The language model declined to answer or was cut off by its limit.",
		fault.Outcome("The message ends with the reason. refused: change the input. cut_off: ask for less, or ask the publisher for more "+
			"max_tokens; what came before the limit is in the output.delta events of packages without an output schema."))
)

// Kind is the wire format that a provider speaks.
type Kind string

// The wire formats.
const (
	OpenAI    Kind = "openai"    // chat completions, of OpenAI or any compatible server
	Anthropic Kind = "anthropic" // messages
)

// Provider is one place that answers. It counts as configured when it has a key
// or a base URL.
type Provider struct {
	// Name is the part of provider/model before the first slash.
	Name string
	Kind Kind
	// Key is sent as the provider's credential; a compatible server may need none.
	Key string
	// BaseURL is an absolute http or https URL as the provider's SDK takes it
	// (OpenAI's with /v1, Anthropic's without); empty means the provider's own.
	BaseURL string
}

// Options make a Service.
type Options struct {
	Providers []Provider
	// Default is the provider/model for requests that name none; may be empty.
	Default string
	// MaxTokens caps the tokens of one answer, and is what a request that names no
	// number gets. 0 means 8192.
	MaxTokens int
	// AttemptTimeout bounds one attempt, below the deadline of its context. 0 means
	// ten minutes.
	AttemptTimeout time.Duration
	// Silence is the longest that an answer may pause once its text has begun. 0
	// means half a minute: a model that writes sends something every second or two,
	// and providers fill longer pauses with pings, so that is a dead line. Before the
	// text a model may think for minutes without a word; AttemptTimeout bounds that.
	Silence time.Duration
	// HTTP sends the requests; redirects are refused whatever it says.
	HTTP   *http.Client
	Logger *slog.Logger
	Now    func() time.Time
	// Random gives the jitter, in [0, 1); nil means the runtime's generator.
	Random func() float64
	// Sleep waits for d or until ctx ends; nil means a timer.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Request is one call of a model.
type Request struct {
	// Models are provider/model in order of preference; none means the default.
	Models []string
	System string
	User   string
	// Schema is the JSON Schema that the answer should follow; nil means text.
	Schema json.RawMessage
	// SchemaName is what the provider is told the schema is called, 1-64 of
	// [A-Za-z0-9_-]; anything else becomes "answer".
	SchemaName string
	// MaxTokens caps the answer; 0 or more than the installation's cap means that cap.
	MaxTokens int
	// Piece, when there is no Schema, takes the answer's text as it comes: pieces of
	// valid UTF-8, never empty, whose concatenation is the Text of the Answer. It is
	// called in order and from the goroutine of Generate, which reads on when it
	// returns; its error ends the call and is returned.
	Piece func(text string) error
}

// Answer is what a model said.
type Answer struct {
	// Text is valid UTF-8; control characters and markup in it are kept. With a
	// Schema it is meant to be one JSON value, without code fences.
	Text string
	// Model is the provider/model that was asked and answered; the name in the
	// provider's answer is not trusted.
	Model string
	Usage Usage
}

// Limits of what is sent and read.
const (
	maxAnswer        = 4 << 20  // bytes of the text of one answer, or of one that comes as one JSON object
	maxPerToken      = 512      // bytes of a stream for each token asked for, beside maxAnswer: events are 100 to 400 bytes
	maxErrorAnswer   = 64 << 10 // bytes of an answer with an error status
	defaultMaxTokens = 8192
	defaultTimeout   = 10 * time.Minute
	defaultSilence   = 30 * time.Second
)

// Service asks models. It is safe for concurrent use.
type Service struct {
	providers    map[string]*provider
	defaultModel string
	maxTokens    int
	log          *slog.Logger
	now          func() time.Time
	random       func() float64
	sleep        func(context.Context, time.Duration) error
	circuit      *circuit
}

type provider struct {
	client client
	budget *retryBudget
}

// client speaks one wire format. On failure the Answer still carries the usage of
// what was answered. The error is a *failure, a *declined, the Refused fault, or
// that of ctx.
type client interface {
	generate(ctx context.Context, model string, req Request) (Answer, error)
}

// New makes a Service of the configured providers among o.Providers. One whose
// base URL is no http or https URL is logged as an error and left out.
func New(o Options) *Service {
	s := &Service{
		providers:    make(map[string]*provider),
		defaultModel: o.Default,
		maxTokens:    o.MaxTokens,
		log:          o.Logger,
		now:          o.Now,
		random:       o.Random,
		sleep:        o.Sleep,
		circuit:      newCircuit(),
	}
	if s.maxTokens <= 0 {
		s.maxTokens = defaultMaxTokens
	}
	if s.random == nil {
		s.random = rand.Float64
	}
	if s.sleep == nil {
		s.sleep = sleep
	}
	line := wire{http: withoutRedirects(o.HTTP), timeout: o.AttemptTimeout, silence: o.Silence, now: o.Now}
	if line.timeout <= 0 {
		line.timeout = defaultTimeout
	}
	if line.silence <= 0 {
		line.silence = defaultSilence
	}
	for _, p := range o.Providers {
		if p.Key == "" && p.BaseURL == "" {
			continue
		}
		if p.BaseURL != "" && !isWebURL(p.BaseURL) {
			s.log.Error("model provider left out: its base URL is not an http or https URL", "provider", p.Name)
			continue
		}
		made := &provider{budget: newRetryBudget()}
		switch p.Kind {
		case OpenAI:
			made.client = newOpenAI(p, line)
		case Anthropic:
			made.client = newAnthropic(p, line)
		default:
			s.log.Error("model provider left out: its kind is unknown", "provider", p.Name)
			continue
		}
		s.providers[p.Name] = made
	}
	return s
}

// Configured says whether a request for these models would find a provider; no
// models means the default.
func (s *Service) Configured(models []string) bool {
	return len(s.candidates(models)) > 0
}

func isWebURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// withoutRedirects keeps prompts and keys at the address that the operator
// named: a custom key header would follow a redirect to another host.
func withoutRedirects(c *http.Client) *http.Client {
	own := *c
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// candidate is a model whose provider is configured.
type candidate struct {
	provider *provider
	name     string // provider/model
	model    string // as the provider calls it
}

func (s *Service) candidates(models []string) []candidate {
	if len(models) == 0 && s.defaultModel != "" {
		models = []string{s.defaultModel}
	}
	var found []candidate
	for _, name := range models {
		prefix, model, ok := strings.Cut(name, "/")
		if p := s.providers[prefix]; ok && model != "" && p != nil {
			found = append(found, candidate{provider: p, name: name, model: model})
		}
	}
	return found
}
