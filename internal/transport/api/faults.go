package api

import (
	"net/http"

	"stoa/internal/platform/fault"
	"stoa/internal/transport/middleware"
)

// The faults of the edge. Those of the rules stand beside the rules.
var (
	// InternalError: a defect or an outage; the cause is in the log only.
	InternalError = middleware.InternalError
	// Unavailable: something that the request needs is away or too slow.
	Unavailable = fault.Define("unavailable", fault.Unavailable,
		"The service cannot answer this right now.", fault.Retryable())
	// NotFound: nothing is at this address for this actor.
	NotFound = fault.Define("not_found", fault.NotFound,
		"There is nothing at this address.")
	// MethodNotAllowed: the address exists and does not take this method.
	MethodNotAllowed = fault.Define("method_not_allowed", fault.MethodNotAllowed,
		"This address does not take this method; the Allow header lists those that it takes.")
	// MalformedRequest: the address or its query cannot be parsed.
	MalformedRequest = fault.Define("malformed_request", fault.Malformed,
		"The request cannot be parsed.")
	// MalformedJSON: the body is not strict JSON.
	MalformedJSON = fault.Define("malformed_json", fault.Malformed,
		"The body is not valid JSON: UTF-8, no member twice, no NUL character, at most 64 levels deep.")
	// BodyRequired: the operation needs a body and none came.
	BodyRequired = fault.Define("body_required", fault.Malformed,
		"This needs a request body.")
	// BodyIncomplete: the connection ended or stalled before the whole body came.
	BodyIncomplete = fault.Define("body_incomplete", fault.Malformed,
		"The request body did not arrive completely.", fault.Retryable())
	// BodyTooLarge: the body is over the operation's limit.
	BodyTooLarge = fault.Define("body_too_large", fault.TooLarge,
		"The request body is too large.")
	// UnsupportedMediaType: the body's content type or encoding is not taken.
	UnsupportedMediaType = fault.Define("unsupported_media_type", fault.UnsupportedMedia,
		"The Content-Type of this body is not supported here.")
	// ValidationFailed: the request was parsed and does not fit its schema.
	ValidationFailed = fault.Define("validation_failed", fault.Invalid,
		"The request does not fit its schema; errors says where.")
	// InvalidCursor: the cursor was not made by this list with these filters.
	InvalidCursor = fault.Define("invalid_cursor", fault.Malformed,
		"The cursor does not belong to this list with these filters. Start again without it.")
)

// statusOf is the HTTP status of a fault. One code has a status of its own: RFC
// 9110 tells a long address from a large body, and no rule needs that difference.
func statusOf(f *fault.Fault) int {
	if f.Code == middleware.URLTooLong.Code {
		return http.StatusRequestURITooLong
	}
	switch f.Kind {
	case fault.Malformed:
		return http.StatusBadRequest
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.PaymentRequired:
		return http.StatusPaymentRequired
	case fault.Forbidden:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case fault.NotAcceptable:
		return http.StatusNotAcceptable
	case fault.Conflict:
		return http.StatusConflict
	case fault.Gone:
		return http.StatusGone
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.UnsupportedMedia:
		return http.StatusUnsupportedMediaType
	case fault.Invalid:
		return http.StatusUnprocessableEntity
	case fault.PreconditionRequired:
		return http.StatusPreconditionRequired
	case fault.TooManyRequests:
		return http.StatusTooManyRequests
	case fault.HeaderTooLarge:
		return http.StatusRequestHeaderFieldsTooLarge
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
