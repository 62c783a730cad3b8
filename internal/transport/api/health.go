package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// HealthCheck looks at one thing that the product stands on. Check honours its
// context; its error goes to the log, never to the caller. When a critical check
// fails the instance is unhealthy, otherwise degraded.
type HealthCheck struct {
	Name     string
	Critical bool
	Check    func(ctx context.Context) error
}

const (
	healthy   = "healthy"
	degraded  = "degraded"
	unhealthy = "unhealthy"

	// healthAge is how old the checks of an answer may be.
	healthAge = time.Second
	// healthTimeout ends one look; what takes longer is not healthy.
	healthTimeout = 2 * time.Second
)

// HealthReport is the answer of /health.
type HealthReport struct {
	Status    string                 `json:"status" enum:"healthy,degraded,unhealthy"`
	Timestamp timestamp              `json:"timestamp" doc:"When the checks ran; at most a second ago."`
	Version   string                 `json:"version"`
	Uptime    int64                  `json:"uptime" doc:"Seconds since this instance started."`
	Checks    map[string]CheckReport `json:"checks"`
}

// CheckReport is one check of a HealthReport.
type CheckReport struct {
	Status     string `json:"status" enum:"healthy,unhealthy"`
	DurationMS int64  `json:"duration_ms"`
}

// health runs the checks, at most once a second however many ask.
type health struct {
	checks  []HealthCheck
	now     func() time.Time
	log     *slog.Logger
	version string
	started time.Time

	// mu is held while the checks run: whoever comes meanwhile waits for the same
	// answer. healthTimeout bounds the wait.
	mu   sync.Mutex
	last HealthReport
	at   time.Time
}

func newHealth(deps Deps) *health {
	h := &health{checks: deps.Checks, now: deps.Now, log: deps.Log, version: deps.Version}
	if h.now != nil {
		h.started = h.now()
	}
	return h
}

// report gives the state of the instance, at most healthAge old.
func (h *health) report(ctx context.Context) HealthReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if age := now.Sub(h.at); h.at.IsZero() || age < 0 || age >= healthAge {
		before := h.last.Checks
		h.last = h.look(context.WithoutCancel(ctx)) // one caller's hurry is not everybody's answer
		h.at = h.now()
		h.last.Timestamp = at(h.at)
		for _, check := range h.checks {
			if is, was := h.last.Checks[check.Name].Status, before[check.Name].Status; is == healthy && was == unhealthy {
				h.log.InfoContext(ctx, "health check recovered", "check", check.Name)
			}
		}
	}
	report := h.last
	report.Uptime = int64(now.Sub(h.started).Seconds())
	return report
}

func (h *health) look(ctx context.Context) HealthReport {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	type result struct {
		err  error
		took time.Duration
	}
	results := make([]chan result, len(h.checks))
	for i, check := range h.checks {
		results[i] = make(chan result, 1) // buffered: a check that ignores its context ends alone
		go func() {
			start := h.now()
			err := check.Check(ctx)
			results[i] <- result{err, h.now().Sub(start)}
		}()
	}
	report := HealthReport{Status: healthy, Version: h.version, Checks: map[string]CheckReport{}}
	for i, check := range h.checks {
		var got result
		select {
		case got = <-results[i]:
		case <-ctx.Done():
			got = result{ctx.Err(), healthTimeout}
		}
		state := healthy
		if got.err != nil {
			state = unhealthy
			if h.last.Checks[check.Name].Status != unhealthy {
				h.log.ErrorContext(ctx, "health check failed", "check", check.Name, "error", got.err)
			}
			if check.Critical {
				report.Status = unhealthy
			} else if report.Status == healthy {
				report.Status = degraded
			}
		}
		report.Checks[check.Name] = CheckReport{Status: state, DurationMS: got.took.Milliseconds()}
	}
	return report
}

func (a *API) getHealth(w http.ResponseWriter, r *http.Request) {
	report := a.health.report(r.Context())
	status := http.StatusOK
	if report.Status == unhealthy {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, report)
}

// instanceState is the answer of /livez and /readyz.
type instanceState struct {
	Status string `json:"status"`
}

// getAlive says that the process answers; it looks at nothing else.
func (a *API) getAlive(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, instanceState{"alive"})
}

// getReady says whether to send requests here. It is false from the moment that
// the instance begins to drain, before its listener closes.
func (a *API) getReady(w http.ResponseWriter, r *http.Request) {
	switch {
	case a.Draining():
		writeJSON(w, http.StatusServiceUnavailable, instanceState{"draining"})
	case a.health.report(r.Context()).Status == unhealthy:
		writeJSON(w, http.StatusServiceUnavailable, instanceState{unhealthy})
	default:
		writeJSON(w, http.StatusOK, instanceState{"ready"})
	}
}

// writeJSON writes a small answer of our own making.
func writeJSON(w http.ResponseWriter, status int, v any) {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own shapes encode; recovered as internal_error otherwise
	}
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(status)
	_, _ = w.Write(append(out, '\n')) // the client may be gone
}
