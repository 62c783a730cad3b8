package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"stoa/client"
	"stoa/internal/config"
)

// The exit codes beside 0. Those of an execution say how it ended.
const (
	exitFailure = 1
	exitUsage   = 2
	exitFailed  = 3
	exitTimeout = 4
	exitCancel  = 5
	exitExpired = 6
)

// usageError is a command line that cannot be used.
type usageError struct{ error }

// usagef makes a usageError.
func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// ended is an end that has been told already, with its exit code.
type ended struct{ code int }

func (ended) Error() string { return "" }

// statusCode is the exit code for how an execution ended.
func statusCode(s client.Status) int {
	switch s {
	case client.Succeeded:
		return 0
	case client.TimedOut:
		return exitTimeout
	case client.Canceled:
		return exitCancel
	case client.Expired:
		return exitExpired
	}
	return exitFailed
}

// exitCode is the code of an error.
func exitCode(err error) int {
	var told ended
	var wrong *config.Error
	var usage *usageError
	switch {
	case errors.As(err, &told):
		return told.code
	case errors.As(err, &wrong), errors.As(err, &usage):
		return exitUsage
	}
	return exitFailure
}

// explain is an error with what to do about it; what came from a server cannot
// move the cursor or hide.
func explain(err error) string {
	var refused *client.Error
	var network net.Error
	var untrusted *tls.CertificateVerificationError
	text := err.Error()
	switch {
	case errors.Is(err, context.Canceled):
		text = "interrupted"
	case errors.As(err, &refused) && refused.Code == "unauthenticated":
		text = "nobody is signed in at this server (unauthenticated); run: stoa login"
	case errors.As(err, &refused):
		// What follows it is where.
		text = strings.Replace(text, "; errors says where. ", ": ", 1) + adviceOn(refused)
	case errors.Is(err, client.ErrNoSession):
		text = "nobody is signed in; run: stoa login"
	case errors.Is(err, http.ErrSchemeMismatch):
		text += "; begin its address (--url) with http://"
	case errors.As(err, &untrusted):
		text += "; when you trust the certificate, name its file in SSL_CERT_FILE"
	case errors.As(err, &network):
		text += "; check that the server runs and that its address (--url) is right"
	case strings.HasPrefix(text, "the answer is not that of a Stoa server"):
		text += "; check the server's address (--url)"
	}
	var wrong *config.Error
	if errors.As(err, &wrong) {
		return text // one line for each setting
	}
	return printable(text)
}

func adviceOn(refused *client.Error) string {
	switch {
	case refused.Code == "invalid_credentials":
		return ""
	case refused.Code == "" && refused.Status == http.StatusBadRequest: // how a TLS server answers plain text
		return "; check the server's address (--url): does it begin with https://?"
	case refused.Code == "package_not_found":
		return "; a package is named publisher~name, see: stoa packages"
	case refused.Code == "", refused.Code == "not_found": // no server, or none at this path
		return "; check the server's address (--url)"
	case refused.Status == http.StatusUnauthorized:
		return "; run: stoa login"
	case refused.RetryAfter > 0:
		return fmt.Sprintf("; try again in %s", refused.RetryAfter)
	case refused.Status >= http.StatusInternalServerError && refused.RequestID != "":
		return "; the server's log has more under request " + refused.RequestID
	}
	return ""
}
