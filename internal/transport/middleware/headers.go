package middleware

import "net/http"

// SecurityHeaders puts the strictest headers on every answer, before anything is
// decided: a page that needs less sets its own, and adds PageHeaders. Nothing is stored by caches
// unless a handler says that it is public. HSTS is sent where TLS is in use, and
// not for subdomains: those may be somebody else's.
func SecurityHeaders(publicHTTPS bool) func(http.Handler) http.Handler {
	strictest := map[string][]string{ // in their canonical spelling: they go into the header as they are
		"Content-Security-Policy":      {"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"},
		"X-Content-Type-Options":       {"nosniff"},
		"X-Frame-Options":              {"DENY"},
		"Referrer-Policy":              {"no-referrer"},
		"Cross-Origin-Resource-Policy": {"same-origin"},
		"Cache-Control":                {"private, no-store"},
	}
	transport := []string{"max-age=31536000"}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			for name, value := range strictest {
				h[name] = value
			}
			if publicHTTPS || r.TLS != nil {
				h["Strict-Transport-Security"] = transport
			}
			next.ServeHTTP(w, r)
		})
	}
}

// PageHeaders are those that say something about documents only: what a page may
// use, and who may hold on to its window. Before JSON they would be dead weight.
func PageHeaders(h http.Header) {
	h.Set("Permissions-Policy", "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}
