// Package account knows people, their organizations and their sessions.
//
// A person registers with a username, an e-mail address and a password, and gets a
// personal organization of the same name. Signing in makes a session: a short-lived
// access token that says which session it belongs to, and a refresh token that is
// good for one use. E-mail address and profile are stored sealed under the person's
// own key; the address is found by its keyed fingerprint.
package account

import (
	"net/netip"
	"time"

	"stoa/internal/domain/access"
	"stoa/internal/platform/db"
	"stoa/internal/platform/fault"
	"stoa/internal/platform/id"
)

// Faults of this package.
var (
	// InvalidAccount: a field of a registration or profile is against its rule.
	InvalidAccount = fault.Define("invalid_account", fault.Invalid,
		"Some of what describes the account is not acceptable.")
	// UsernameTaken: a person or organization has the name.
	UsernameTaken = fault.Define("username_taken", fault.Conflict,
		"This username belongs to somebody else.")
	// EmailTaken: an account with the e-mail address exists.
	EmailTaken = fault.Define("email_taken", fault.Conflict,
		"An account with this e-mail address exists already.")
	// InvalidCredentials: unknown account or wrong password; which of them is never said.
	InvalidCredentials = fault.Define("invalid_credentials", fault.Unauthenticated,
		"The account or the password is wrong.")
	// InvalidRefreshToken: malformed, expired, revoked or used before.
	InvalidRefreshToken = fault.Define("invalid_refresh_token", fault.Unauthenticated,
		"The refresh token is not valid (any more). Sign in again.")
	// LoginThrottled: too many failed tries for this account or from this address.
	LoginThrottled = fault.Define("login_throttled", fault.TooManyRequests,
		"Too many failed sign-ins. Wait before the next try.", fault.Retryable())
	// SignInBusy: more passwords wait to be checked than the queue takes.
	SignInBusy = fault.Define("sign_in_busy", fault.Unavailable,
		"Too many people are signing in at this moment. Try again shortly.", fault.Retryable())
)

// User is a person, with the personal data in clear.
type User struct {
	ID          id.User
	Username    string
	Email       string
	DisplayName string
	// Organization is the person's own one.
	Organization id.Organization
	CreatedAt    db.Time
	UpdatedAt    db.Time
}

// Membership is a person's place in one organization.
type Membership struct {
	Organization id.Organization
	Handle       string
	Role         access.Role
}

// Profile is a person and the organizations that they belong to.
type Profile struct {
	User
	Memberships []Membership
}

// Tokens are what a session is used with. Both are bearer secrets.
type Tokens struct {
	Access    string
	Refresh   string
	ExpiresIn time.Duration // of the access token
}

// Client is where a request came from, as far as it is known. It enters the audit
// log sealed under the person's key.
type Client struct {
	Address netip.Addr `json:"address,omitzero"`
	Agent   string     `json:"agent,omitempty"`
}

// kindPersonal is the kind of a person's own organization.
const kindPersonal = "personal"
