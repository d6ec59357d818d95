package validator

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

const (
	// `iat` says when a token was issued, not from when on it holds (RFC 7519 §4.1.6): that is `nbf`, which the issuer
	// sets for clocks that differ. It is refused only when further ahead than clocks of one system can be.
	maxIssuedAhead = 120 * time.Second
	// Headers that signed something; an issuer has one per key in use.
	maxKnownHeaders = 64
)

// Config says whose tokens a Verifier accepts.
type Config struct {
	// Issuer is the exact value of `iss`.
	Issuer string
	// Audience is the only `aud` accepted, as a string or as a list of it alone. AnyAudience accepts all instead.
	Audience    string
	AnyAudience bool
	// ClientID is the tenant whose tokens are accepted. AnyClient accepts every tenant of the issuer instead.
	ClientID  string
	AnyClient bool
	// TokenUses are the accepted values of `token_use`; by default `access`, the tokens of users. Add `oauth` for those
	// that apps got by OAuth, `client_credentials` for service accounts.
	TokenUses []string
	// Leeway is the tolerance for clocks that differ, up to 60 s; 30 s by default, negative for none.
	Leeway time.Duration
	// CacheSize is how many verified tokens are remembered; 10000 by default, negative for none.
	CacheSize int
	// CacheTTL is after what time a remembered token is verified anew; 1 min by default.
	CacheTTL time.Duration
	// Stream is consulted on every call, where given: its set tells what was revoked.
	Stream *RevocationStream
	// Revocations is consulted on every call; with a Stream it is the stream's set.
	Revocations *RevocationSet
	// StatusLists are consulted on every call besides, for validators without a stream.
	StatusLists *StatusLists
	// Clock is time.Now by default.
	Clock func() time.Time
}

// Verifier verifies access tokens of one issuer: signature, type, times, audience, tenant, use, revocation.
//
// It does not check scopes or roles, nor the proof that a `cnf` claim demands: Resource does. A verified token is
// remembered by its SHA-256, never by its text, for at most CacheTTL and never past its own end; revocations are asked
// on every call, and a key that its source drops takes its tokens along. Use it from any goroutine.
type Verifier struct {
	keys        KeySource
	config      Config
	revocations *RevocationSet

	lock    sync.RWMutex
	headers map[string]header
	cache   map[[sha256.Size]byte]verified
	order   []cached
	count   uint64
}

type verified struct {
	claims     *Claims
	until      time.Time
	generation uint64
	number     uint64
}

type cached struct {
	digest [sha256.Size]byte
	number uint64
}

// NewVerifier takes where keys come from, which decides which algorithms exist, and whose tokens are accepted.
func NewVerifier(keys KeySource, config Config) (*Verifier, error) {
	switch {
	case config.Issuer == "":
		return nil, errors.New("Issuer must not be empty")
	case (config.Audience == "") != config.AnyAudience:
		return nil, errors.New("give either Audience or AnyAudience")
	case (config.ClientID == "") != config.AnyClient:
		return nil, errors.New("give either ClientID or AnyClient")
	case config.Leeway > maxLeewaySeconds*time.Second:
		return nil, errors.New("Leeway is at most 60 s")
	case config.Stream != nil && config.Revocations != nil && config.Revocations != config.Stream.Revocations():
		return nil, errors.New("Stream would fill another set than Revocations")
	}
	if config.TokenUses == nil {
		config.TokenUses = []string{"access"}
	}
	if len(config.TokenUses) == 0 || contains(config.TokenUses, "") {
		return nil, errors.New("TokenUses are words")
	}
	if config.Leeway == 0 {
		config.Leeway = 30 * time.Second
	} else if config.Leeway < 0 {
		config.Leeway = 0
	}
	if config.CacheSize == 0 {
		config.CacheSize = 10_000
	}
	if config.CacheTTL == 0 {
		config.CacheTTL = time.Minute
	}
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.Revocations == nil && config.Stream != nil {
		config.Revocations = config.Stream.Revocations()
	} else if config.Revocations == nil {
		config.Revocations = NewRevocationSet()
	}
	return &Verifier{
		keys:        keys,
		config:      config,
		revocations: config.Revocations,
		headers:     map[string]header{},
		cache:       map[[sha256.Size]byte]verified{},
	}, nil
}

// Revocations is the set that is asked on every call.
func (v *Verifier) Revocations() *RevocationSet { return v.revocations }

// Verify verifies a token, or says why not: compare the error with the Err values of this package. It waits only for
// keys that have to be loaded.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	if v.config.Stream != nil {
		if err := v.config.Stream.Usable(); err != nil {
			return nil, err
		}
	}
	if len(token) > maxTokenLength {
		return nil, invalid("the token is longer than 16 KiB")
	}
	digest := sha256.Sum256([]byte(token))
	if claims := v.remembered(digest); claims != nil {
		if err := v.checkStatus(ctx, claims); err != nil {
			return nil, err
		}
		return claims, nil
	}
	parts, err := split(token, maxTokenLength)
	if err != nil {
		return nil, err
	}
	head, err := v.header(parts.header)
	if err != nil {
		return nil, err
	}
	generation, err := checkSignature(ctx, v.keys, head, parts)
	if err != nil {
		return nil, err
	}
	v.rememberHeader(parts.header, head)
	// Only now is the payload read: what nobody signed never reaches the parser.
	payload, err := readPart(parts.payload)
	if err != nil {
		return nil, err
	}
	claims, err := readClaims(payload, head.kid)
	if err != nil {
		return nil, err
	}
	if err := v.check(claims); err != nil {
		return nil, err
	}
	if err := v.checkStatus(ctx, claims); err != nil {
		return nil, err
	}
	v.remember(digest, claims, generation)
	return claims, nil
}

// Forget drops every remembered token, so that each is verified anew.
func (v *Verifier) Forget() {
	v.lock.Lock()
	defer v.lock.Unlock()
	v.cache = map[[sha256.Size]byte]verified{}
	v.order = nil
}

func (v *Verifier) header(part string) (header, error) {
	v.lock.RLock()
	known, found := v.headers[part]
	v.lock.RUnlock()
	if found {
		return known, nil
	}
	return readHeader(part)
}

func (v *Verifier) rememberHeader(part string, head header) {
	v.lock.Lock()
	defer v.lock.Unlock()
	if len(v.headers) < maxKnownHeaders {
		v.headers[part] = head
	}
}

func checkSignature(ctx context.Context, keys KeySource, head header, parts compact) (uint64, error) {
	if !keys.Accepts(head.alg) {
		return 0, invalid("the algorithm is not one of this issuer's")
	}
	// Read before the key: one that is withdrawn in between then counts as withdrawn.
	generation := keys.Generation()
	key := keys.Find(head.kid)
	if key == nil {
		var err error
		if key, err = keys.Get(ctx, head.kid); err != nil {
			return 0, err
		}
	}
	if head.alg != key.alg {
		return 0, invalid("the algorithm is not the key's")
	}
	if !key.verifies(parts.signingInput, parts.signature) {
		return 0, invalid("the signature does not fit")
	}
	return generation, nil
}

func (v *Verifier) check(claims *Claims) error {
	config := &v.config
	if claims.Issuer != config.Issuer {
		return invalid("the token is of another issuer")
	}
	if !config.AnyAudience && !(len(claims.Audience) == 1 && claims.Audience[0] == config.Audience) {
		return invalid("the token is for another audience")
	}
	if !config.AnyClient && claims.ClientID != config.ClientID {
		return invalid("the token is of another client")
	}
	if !contains(config.TokenUses, claims.TokenUse) {
		return invalid("the token is for another use")
	}
	now := config.Clock()
	notBefore := claims.IssuedAt
	if claims.hasNotBefore {
		notBefore = claims.NotBefore
	}
	if time.Unix(notBefore, 0).After(now.Add(config.Leeway)) ||
		time.Unix(claims.IssuedAt, 0).After(now.Add(maxIssuedAhead)) {
		return invalid("the token is not valid yet")
	}
	if !now.Before(v.end(claims)) {
		return refuse(ErrTokenExpired, "the token has expired")
	}
	if v.revocations.IsRevoked(claims) {
		return refuse(ErrTokenRevoked, "the token was revoked")
	}
	return nil
}

func (v *Verifier) checkStatus(ctx context.Context, claims *Claims) error {
	if v.config.StatusLists == nil {
		return nil
	}
	return v.config.StatusLists.Check(ctx, claims)
}

func (v *Verifier) end(claims *Claims) time.Time {
	return time.Unix(claims.ExpiresAt, 0).Add(v.config.Leeway)
}

func (v *Verifier) remembered(digest [sha256.Size]byte) *Claims {
	v.lock.RLock()
	entry, found := v.cache[digest]
	v.lock.RUnlock()
	if !found {
		return nil
	}
	if v.config.Clock().Before(entry.until) && entry.generation == v.keys.Generation() &&
		!v.revocations.IsRevoked(entry.claims) {
		return entry.claims
	}
	v.lock.Lock()
	defer v.lock.Unlock()
	if v.cache[digest].number == entry.number {
		delete(v.cache, digest)
	}
	return nil
}

func (v *Verifier) remember(digest [sha256.Size]byte, claims *Claims, generation uint64) {
	if v.config.CacheSize < 0 {
		return
	}
	until := v.config.Clock().Add(v.config.CacheTTL)
	if end := v.end(claims); end.Before(until) {
		until = end
	}
	v.lock.Lock()
	defer v.lock.Unlock()
	v.count++
	v.cache[digest] = verified{claims, until, generation, v.count}
	v.order = append(v.order, cached{digest, v.count})
	// The oldest goes first. Entries live a minute, so a busy token is soon young again. A line whose entry is gone, or
	// was written anew, drops nothing.
	for len(v.order) > v.config.CacheSize {
		oldest := v.order[0]
		v.order = v.order[1:]
		if v.cache[oldest.digest].number == oldest.number {
			delete(v.cache, oldest.digest)
		}
	}
}
