package account

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"

	"stoa/internal/platform/id"
)

// A refresh token is "stoa_rt_" and, in base64url without padding:
//
//	version 1 | organization 16 | session 16 | generation 8 | random 16 | HMAC-SHA-256 32
//
// The tag proves that this installation made it, so an old generation of a
// session is known to be a copy of a token that was used, and not a guess.
const (
	refreshPrefix  = "stoa_rt_"
	refreshVersion = 1
	refreshRandom  = 16
	refreshBody    = 1 + 16 + 16 + 8 + refreshRandom
	refreshSize    = refreshBody + sha256.Size
)

// refreshClaims are what a refresh token says.
type refreshClaims struct {
	organization id.Organization
	session      id.Session
	generation   int64
}

type refreshTokens struct{ key []byte }

func (t refreshTokens) tag(body []byte) []byte {
	mac := hmac.New(sha256.New, t.key)
	mac.Write(body)
	return mac.Sum(nil)
}

// make writes a token and the hash under which it is stored. Random has 16 bytes.
func (t refreshTokens) make(c refreshClaims, random []byte) (token string, hash []byte) {
	org, session := c.organization.Bytes(), c.session.Bytes()
	raw := append(make([]byte, 0, refreshSize), refreshVersion)
	raw = append(append(raw, org[:]...), session[:]...)
	raw = binary.BigEndian.AppendUint64(raw, uint64(c.generation))
	raw = append(raw, random...)
	raw = append(raw, t.tag(raw)...)
	token = refreshPrefix + base64.RawURLEncoding.EncodeToString(raw)
	return token, hashToken(token)
}

// parse reads an authentic token; anything else is false.
func (t refreshTokens) parse(token string) (refreshClaims, bool) {
	body, ok := strings.CutPrefix(token, refreshPrefix)
	if !ok || len(body) != base64.RawURLEncoding.EncodedLen(refreshSize) {
		return refreshClaims{}, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	// The decoder skips line breaks, so a text of the right length may still be short.
	if err != nil || len(raw) != refreshSize || raw[0] != refreshVersion ||
		!hmac.Equal(raw[refreshBody:], t.tag(raw[:refreshBody])) {
		return refreshClaims{}, false
	}
	return refreshClaims{
		organization: id.FromBytes[id.Organization]([16]byte(raw[1:17])),
		session:      id.FromBytes[id.Session]([16]byte(raw[17:33])),
		generation:   int64(binary.BigEndian.Uint64(raw[33:41])),
	}, true
}

// hashToken is what a table keeps of a token.
func hashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}
