package account

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"stoa/internal/platform/id"
)

const (
	accessType     = "at+jwt" // RFC 9068
	accessAudience = "stoa/api"
	// maxAccessToken is the most bytes that are looked at; ours have about 500.
	maxAccessToken = 4096
	// leeway forgives the difference of two instances' clocks.
	leeway = 2 * time.Second
)

// errAccessToken says that a bearer token is not an access token of ours.
var errAccessToken = errors.New("account: not a valid access token")

// claims of an access token, checked.
type claims struct {
	person
	session id.Session
}

// wireClaims are the claims as they stand in the token.
type wireClaims struct {
	jwt.RegisteredClaims
	Organization string `json:"org"`
	Session      string `json:"sid"`
}

// accessTokens writes and reads access tokens: JWT, HS256 only, with a header of
// exactly alg and typ. A token that names a key or an algorithm of its own is
// refused before any of that is looked at.
type accessTokens struct {
	key    []byte
	issuer string
	ttl    time.Duration
}

func newAccessTokens(key []byte, issuer string, ttl time.Duration) accessTokens {
	return accessTokens{key: key, issuer: issuer, ttl: ttl}
}

func (t accessTokens) sign(c claims, now time.Time, jti []byte) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, wireClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: t.issuer, Audience: jwt.ClaimStrings{accessAudience}, Subject: c.user.String(),
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(t.ttl)),
			ID: base64.RawURLEncoding.EncodeToString(jti),
		},
		Organization: c.organization.String(), Session: c.session.String(),
	})
	token.Header["typ"] = accessType
	signed, err := token.SignedString(t.key)
	if err != nil {
		return "", fmt.Errorf("account: sign an access token: %w", err)
	}
	return signed, nil
}

// parse verifies a token. Every refusal is errAccessToken.
func (t accessTokens) parse(text string, now time.Time) (claims, error) {
	if len(text) > maxAccessToken || strings.ContainsAny(text, "\r\n") { // base64 decoders skip line breaks
		return claims{}, errAccessToken
	}
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithStrictDecoding(),
		jwt.WithIssuer(t.issuer), jwt.WithAudience(accessAudience), jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(), jwt.WithLeeway(leeway), jwt.WithTimeFunc(func() time.Time { return now }),
	)
	var wire wireClaims
	_, err := parser.ParseWithClaims(text, &wire, func(token *jwt.Token) (any, error) {
		if len(token.Header) != 2 || token.Header["typ"] != accessType {
			return nil, errAccessToken
		}
		return t.key, nil
	})
	if err != nil {
		return claims{}, fmt.Errorf("%w: %w", errAccessToken, err)
	}
	var c claims
	var errs [3]error
	c.user, errs[0] = id.Parse[id.User](wire.Subject)
	c.organization, errs[1] = id.Parse[id.Organization](wire.Organization)
	c.session, errs[2] = id.Parse[id.Session](wire.Session)
	if err := errors.Join(errs[:]...); err != nil {
		return claims{}, fmt.Errorf("%w: %w", errAccessToken, err)
	}
	return c, nil
}
