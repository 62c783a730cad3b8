package middleware

import (
	"log/slog"
	"net/http"
	"time"
)

// The time-outs of a connection. Writing has to outlive the longest wait that an
// answer may take (60 s) after the slowest body; streams move their own deadline.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 60 * time.Second
	writeTimeout      = 150 * time.Second
	idleTimeout       = 120 * time.Second
	maxHeaderBytes    = 64 << 10
)

// NewServer makes the server of a listener. The caller listens, serves and shuts
// down; the server's own complaints go to log. HTTP/2 needs TLS: in plain text it
// is refused.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:                      endResetFloods(handler),
		ConnContext:                  withPatience,
		HTTP2:                        http2Limits(),
		ReadHeaderTimeout:            readHeaderTimeout,
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
