// Package validatortest helps to test services that accept our tokens: an issuer in memory, and a client's key.
//
// It signs with fresh keys that nobody else trusts. Not for production: it signs whatever it is asked to.
package validatortest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"sync"
	"time"

	"authservice.example/validator"
)

// Issuer is an issuer with ES256 keys, which can be told to roll over and to fail.
type Issuer struct {
	// URL is the `iss` of its tokens.
	URL string
	// Clock is for `iat` and `exp`.
	Clock func() time.Time
	// MaxAge is what it states about the freshness of its keys.
	MaxAge time.Duration

	lock    sync.Mutex
	names   []string
	keys    map[string]*ecdsa.PrivateKey
	fetches int
	isAway  bool
}

// NewIssuer makes one with a key `k1`.
func NewIssuer(clock func() time.Time) *Issuer {
	issuer := &Issuer{URL: "https://auth.test", Clock: clock, MaxAge: 5 * time.Minute, keys: map[string]*ecdsa.PrivateKey{}}
	issuer.AddKey("k1")
	return issuer
}

// AddKey makes and publishes a key.
func (i *Issuer) AddKey(kid string) {
	i.lock.Lock()
	defer i.lock.Unlock()
	i.names = append(i.names, kid)
	i.keys[kid] = newKey()
}

// RemoveKey withdraws a key.
func (i *Issuer) RemoveKey(kid string) {
	i.lock.Lock()
	defer i.lock.Unlock()
	delete(i.keys, kid)
}

// SetAway says whether fetching fails.
func (i *Issuer) SetAway(isAway bool) {
	i.lock.Lock()
	defer i.lock.Unlock()
	i.isAway = isAway
}

// Fetches is how often its keys were fetched.
func (i *Issuer) Fetches() int {
	i.lock.Lock()
	defer i.lock.Unlock()
	return i.fetches
}

// Fetch answers as the issuer's JWKS endpoint would; to be given to validator.NewJwksKeysFrom.
func (i *Issuer) Fetch(context.Context) (validator.FetchedJwks, error) {
	i.lock.Lock()
	defer i.lock.Unlock()
	i.fetches++
	if i.isAway {
		return validator.FetchedJwks{}, errors.New("the issuer is away")
	}
	keys := []map[string]any{}
	for _, name := range i.names {
		if key := i.keys[name]; key != nil {
			jwk := publicJwk(key)
			jwk["kid"], jwk["alg"], jwk["use"] = name, "ES256", "sig"
			keys = append(keys, jwk)
		}
	}
	document, err := json.Marshal(map[string]any{"keys": keys})
	return validator.FetchedJwks{Document: document, MaxAge: i.MaxAge}, err
}

// Token is a good access token of 15 minutes by this key; claims are added or replaced, also by bad ones.
func (i *Issuer) Token(kid string, claims map[string]any) string {
	return i.Signed("at+jwt", kid, claims)
}

// Signed is a token of another type, with the same claims.
func (i *Issuer) Signed(typ, kid string, claims map[string]any) string {
	now := i.Clock().Unix()
	payload := map[string]any{
		"iss": i.URL, "sub": "u1", "aud": "api", "exp": now + 900, "iat": now, "jti": "t1", "sid": "s1",
		"client_id": "c1", "token_use": "access",
	}
	for name, value := range claims {
		payload[name] = value
	}
	i.lock.Lock()
	key := i.keys[kid]
	i.lock.Unlock()
	return sign(key, map[string]any{"alg": "ES256", "typ": typ, "kid": kid}, payload)
}

// ProofKey is a client's key, which makes DPoP proofs (RFC 9449).
type ProofKey struct{ key *ecdsa.PrivateKey }

// NewProofKey makes one.
func NewProofKey() *ProofKey { return &ProofKey{newKey()} }

// Thumbprint is what a token's `cnf.jkt` must be for this key.
func (p *ProofKey) Thumbprint() string {
	text, _ := json.Marshal(publicJwk(p.key)) // sorted by name, as RFC 7638 wants it
	digest := sha256.Sum256(text)
	return encode(digest[:])
}

// Proof is a fresh proof for a request; claims are added or replaced.
func (p *ProofKey) Proof(method, url, accessToken string, claims map[string]any) string {
	name := make([]byte, 16)
	_, _ = rand.Read(name)
	digest := sha256.Sum256([]byte(accessToken))
	payload := map[string]any{
		"jti": encode(name), "htm": method, "htu": url, "iat": time.Now().Unix(), "ath": encode(digest[:]),
	}
	for name, value := range claims {
		payload[name] = value
	}
	return sign(p.key, map[string]any{"alg": "ES256", "typ": "dpop+jwt", "jwk": publicJwk(p.key)}, payload)
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func publicJwk(key *ecdsa.PrivateKey) map[string]any {
	return map[string]any{"kty": "EC", "crv": "P-256", "x": fixed(key.X), "y": fixed(key.Y)}
}

func fixed(number *big.Int) string { return encode(number.FillBytes(make([]byte, 32))) }

func encode(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

func sign(key *ecdsa.PrivateKey, header, payload map[string]any) string {
	head, _ := json.Marshal(header)
	body, _ := json.Marshal(payload)
	input := encode(head) + "." + encode(body)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		panic(err)
	}
	return input + "." + encode(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}
