package validator

import (
	"math"
	"strings"
)

// The last second of year 9999: later times break dates, and no issuer means them.
const latest = 253_402_300_799

// Claims are the claims of a token that a Verifier checked. Times are Unix seconds. What the token does not carry is
// the zero value. They are shared between calls by the cache: do not change them.
type Claims struct {
	Issuer             string
	Subject            string
	Audience           []string
	ExpiresAt          int64
	IssuedAt           int64
	NotBefore          int64
	ID                 string
	SessionID          string
	ClientID           string
	TokenUse           string
	AuthorizedParty    string // the app that a token of the use `oauth` was given to
	Email              string
	Role               string
	EmailVerified      bool
	AuthTime           int64
	AMR                []string
	ACR                string
	Scopes             []string // the words of `scope`, whichever of the two claims the token carries
	ServiceAccountID   string
	ServiceAccountName string
	OrgID              string
	OrgSlug            string
	OrgRole            string
	OrgPermissions     []string
	Confirmation       map[string]any // the key that the token is bound to (RFC 9449); a Resource demands its proof
	Actor              map[string]any // who acts as the subject (RFC 8693 §4.1)
	KeyID              string         // name of the signing key, from the header
	All                map[string]any // every claim of the token

	isBound      bool
	hasNotBefore bool
}

// HasScope says whether the token has this scope.
func (c *Claims) HasScope(scope string) bool { return contains(c.Scopes, scope) }

func contains(words []string, word string) bool {
	for _, found := range words {
		if found == word {
			return true
		}
	}
	return false
}

// reader gives a payload its types. It keeps the first error, so that reading stays a list.
type reader struct {
	payload map[string]any
	err     error
}

func readClaims(payload map[string]any, kid string) (*Claims, error) {
	r := &reader{payload: payload}
	claims := &Claims{
		Issuer:             r.requiredText("iss"),
		Subject:            r.requiredText("sub"),
		Audience:           r.audience(),
		ExpiresAt:          r.requiredTime("exp"),
		IssuedAt:           r.requiredTime("iat"),
		NotBefore:          r.time("nbf"),
		ID:                 r.requiredText("jti"),
		SessionID:          r.text("sid"),
		ClientID:           r.requiredText("client_id"),
		TokenUse:           r.requiredText("token_use"),
		AuthorizedParty:    r.text("azp"),
		Email:              r.text("email"),
		Role:               r.text("role"),
		EmailVerified:      r.flag("email_verified"),
		AuthTime:           r.time("auth_time"),
		AMR:                r.texts("amr"),
		ACR:                r.text("acr"),
		Scopes:             r.scopes(),
		ServiceAccountID:   r.text("service_account_id"),
		ServiceAccountName: r.text("service_account_name"),
		OrgID:              r.text("org_id"),
		OrgSlug:            r.text("org_slug"),
		OrgRole:            r.text("org_role"),
		OrgPermissions:     r.texts("org_permissions"),
		Confirmation:       r.object("cnf"),
		Actor:              r.object("act"),
		KeyID:              kid,
		All:                payload,
		isBound:            payload["cnf"] != nil,
		hasNotBefore:       payload["nbf"] != nil,
	}
	if r.err != nil {
		return nil, r.err
	}
	return claims, nil
}

func (r *reader) fail(reason string) {
	if r.err == nil {
		r.err = invalid(reason)
	}
}

func (r *reader) text(name string) string {
	text, ok := r.payload[name].(string)
	if !ok && r.payload[name] != nil {
		r.fail(name + " is not a string")
	}
	return text
}

func (r *reader) requiredText(name string) string {
	text, _ := r.payload[name].(string)
	if text == "" {
		r.fail(name + " is not a non-empty string")
	}
	return text
}

func (r *reader) texts(name string) []string {
	value := r.payload[name]
	if value == nil {
		return nil
	}
	items, ok := value.([]any)
	texts := make([]string, 0, len(items))
	for _, item := range items {
		if text, _ := item.(string); text != "" {
			texts = append(texts, text)
		}
	}
	if !ok || len(texts) != len(items) {
		r.fail(name + " is not a list of non-empty strings")
	}
	return texts
}

func (r *reader) audience() []string {
	if text, ok := r.payload["aud"].(string); ok && text != "" {
		return []string{text}
	}
	listed := r.texts("aud")
	if len(listed) == 0 {
		r.fail("aud is absent or empty")
	}
	return listed
}

func (r *reader) scopes() []string {
	scope := r.text("scope")
	var words []string
	if scope != "" {
		// RFC 6749 §3.3: words parted by one space.
		words = strings.Split(scope, " ")
	}
	if contains(words, "") {
		r.fail("scope is not words parted by single spaces")
	}
	listed := r.texts("scopes")
	if len(listed) == 0 {
		return words
	}
	if len(words) > 0 && !(subset(words, listed) && subset(listed, words)) {
		r.fail("scope and scopes differ")
	}
	return listed
}

func subset(words, of []string) bool {
	known := make(map[string]bool, len(of))
	for _, word := range of {
		known[word] = true
	}
	for _, word := range words {
		if !known[word] {
			return false
		}
	}
	return true
}

func (r *reader) flag(name string) bool {
	flag, ok := r.payload[name].(bool)
	if !ok && r.payload[name] != nil {
		r.fail(name + " is not true or false")
	}
	return flag
}

func (r *reader) time(name string) int64 {
	if r.payload[name] == nil {
		return 0
	}
	return r.requiredTime(name)
}

func (r *reader) requiredTime(name string) int64 {
	seconds, ok := r.payload[name].(float64)
	if !ok || seconds != math.Trunc(seconds) || seconds < 0 || seconds > latest {
		r.fail(name + " is not a time in whole seconds")
		return 0
	}
	return int64(seconds)
}

func (r *reader) object(name string) map[string]any {
	object, ok := r.payload[name].(map[string]any)
	if !ok && r.payload[name] != nil {
		r.fail(name + " is not an object")
	}
	return object
}
