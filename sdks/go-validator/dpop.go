package validator

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// ProofAlgorithms is what a proof may be signed with, as `algs` of a challenge names it.
var ProofAlgorithms = []string{"ES256", "EdDSA", "RS256"}

const (
	maxProofLength = 8 * 1024
	maxProofText   = 512
	maxKnownProofs = 100_000
)

// ProofOptions are the settings of a ProofVerifier; a zero value means the default.
type ProofOptions struct {
	// MaxAge is for how long a proof is good; 60 s.
	MaxAge time.Duration
	// Leeway is how far a client's clock may be ahead; 30 s.
	Leeway time.Duration
	// Used says whether id was new, and remembers it until then. By default this process remembers; several processes of
	// one service that must not let a proof pass once in each share a store.
	Used  func(id string, until time.Time) (bool, error)
	Clock func() time.Time
}

// ProofRequest is what a proof must be for.
type ProofRequest struct {
	Method string
	// URL is the address that the client called, as the client knows it; query and fragment do not count.
	URL string
	// AccessToken is the token that came with the proof, or "".
	AccessToken string
	// Thumbprint is what the token demands. AnyKey accepts every key instead.
	Thumbprint string
	AnyKey     bool
	// Nonce is the nonce that the server gave out, or "" where it gives out none.
	Nonce string
}

// Proof is a proof whose signature, request and time were checked.
type Proof struct {
	Thumbprint string
	ID         string
	Nonce      string
	ExpiresAt  time.Time
}

// ProofVerifier checks DPoP proofs (RFC 9449), and takes each one once. Use it from any goroutine.
type ProofVerifier struct {
	options ProofOptions
	lock    sync.Mutex
	known   map[string]time.Time
	order   []string
}

// NewProofVerifier takes the settings.
func NewProofVerifier(options ProofOptions) *ProofVerifier {
	if options.MaxAge == 0 {
		options.MaxAge = time.Minute
	}
	if options.Leeway == 0 {
		options.Leeway = 30 * time.Second
	}
	if options.Clock == nil {
		options.Clock = time.Now
	}
	verifier := &ProofVerifier{options: options, known: map[string]time.Time{}}
	if options.Used == nil {
		verifier.options.Used = verifier.isNew
	}
	return verifier
}

// Verify checks a proof (RFC 9449 §4.3) and uses it up.
func (p *ProofVerifier) Verify(proof string, request ProofRequest) (*Proof, error) {
	found, err := p.Check(proof, request)
	if err != nil {
		return nil, err
	}
	isNew, err := p.options.Used(hashed(found.Thumbprint+" "+found.ID), found.ExpiresAt)
	if err != nil {
		return nil, err
	}
	if !isNew {
		return nil, refuse(ErrProofInvalid, "the proof was used before")
	}
	return found, nil
}

// Check checks a proof without using it up: for a caller who sees to it that each is taken once.
func (p *ProofVerifier) Check(proof string, request ProofRequest) (*Proof, error) {
	found, err := p.read(proof, request)
	var refused *Error
	if errors.As(err, &refused) && !errors.Is(err, ErrNonceNeeded) {
		return nil, &Error{Code: ErrProofInvalid.Code, Reason: refused.Reason, Cause: err}
	}
	return found, err
}

func (p *ProofVerifier) read(proof string, request ProofRequest) (*Proof, error) {
	key, claims, err := openProof(proof)
	if err != nil {
		return nil, err
	}
	texts := &proofReader{claims: claims}
	id, method, url := texts.text("jti"), texts.text("htm"), texts.text("htu")
	iat, isNumber := claims["iat"].(float64)
	thumbprint := hashed(key.fingerprint)
	now := float64(p.options.Clock().UnixNano()) / 1e9
	nonce, hash := "", ""
	if _, found := claims["nonce"]; found {
		nonce = texts.text("nonce")
	}
	if request.AccessToken != "" {
		hash = texts.text("ath")
	}
	switch {
	case texts.err != nil:
		return nil, texts.err
	case method != request.Method:
		return nil, invalid("the proof is for another method")
	case !sameAddress(url, request.URL):
		return nil, invalid("the proof is for another address")
	case !isNumber || iat < 0 || iat > latest:
		return nil, invalid("iat is not a time")
	case iat > now+p.options.Leeway.Seconds() || now >= iat+p.options.MaxAge.Seconds():
		return nil, invalid("the proof is of another time")
	case request.AccessToken != "" && !equal(hash, hashed(request.AccessToken)):
		return nil, invalid("the proof is for another token")
	case !request.AnyKey && !equal(thumbprint, request.Thumbprint):
		return nil, invalid("the proof is by another key")
	case request.Nonce != "" && !equal(nonce, request.Nonce):
		return nil, refuse(ErrNonceNeeded, "the proof lacks the server's nonce")
	}
	expiresAt := time.Unix(0, int64((iat+p.options.MaxAge.Seconds())*1e9))
	return &Proof{thumbprint, id, nonce, expiresAt}, nil
}

func (p *ProofVerifier) isNew(id string, until time.Time) (bool, error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	now := p.options.Clock()
	if end, found := p.known[id]; found && !end.Before(now) {
		return false, nil
	} else if !found {
		p.order = append(p.order, id)
	}
	p.known[id] = until
	// In the order they came, which is nearly that in which they end. Past the bound the oldest goes: only who holds good
	// tokens and keys can get there.
	for len(p.order) > 0 && (p.known[p.order[0]].Before(now) || len(p.order) > maxKnownProofs) {
		delete(p.known, p.order[0])
		p.order = p.order[1:]
	}
	return true, nil
}

// openProof gives the key and the claims of one well-formed JWT of the right type, signed by the key it carries.
func openProof(proof string) (*Key, map[string]any, error) {
	parts, err := split(proof, maxProofLength)
	if err != nil {
		return nil, nil, err
	}
	head, err := readPart(parts.header)
	if err != nil {
		return nil, nil, err
	}
	if err := refuseParameters(head); err != nil {
		return nil, nil, err
	}
	jwk, isKey := head["jwk"].(map[string]any)
	if head["typ"] != "dpop+jwt" || !isKey {
		return nil, nil, invalid("not a DPoP proof that carries its key")
	}
	key, err := readPublicJwk(jwk)
	if err != nil {
		return nil, nil, err
	}
	if head["alg"] != key.alg {
		return nil, nil, invalid("the algorithm is not the key's")
	}
	if !key.verifies(parts.signingInput, parts.signature) {
		return nil, nil, invalid("the signature does not fit")
	}
	claims, err := readPart(parts.payload)
	return key, claims, err
}

type proofReader struct {
	claims map[string]any
	err    error
}

func (r *proofReader) text(name string) string {
	text, _ := r.claims[name].(string)
	if text == "" || utf8.RuneCountInString(text) > maxProofText {
		r.err = invalid(name + " is not a string of up to 512 characters")
	}
	return text
}

// No parser of addresses: those forgive white space, backslashes and dots, and no two forgive the same.
var address = regexp.MustCompile(`(?i)^(https?)://([^\s\\@/?#]+)(/[^\s\\?#]*)?(?:[?#]\S*)?$`)

// sameAddress compares without query and fragment, by case and default port (RFC 3986 §6.2.2.1, §6.2.3).
func sameAddress(left, right string) bool {
	normal := normalized(left)
	return normal != "" && normal == normalized(right)
}

func normalized(url string) string {
	found := address.FindStringSubmatch(url)
	if found == nil {
		return ""
	}
	scheme, host, path := strings.ToLower(found[1]), strings.ToLower(found[2]), found[3]
	host = strings.TrimSuffix(host, map[string]string{"http": ":80", "https": ":443"}[scheme])
	if path == "" {
		path = "/"
	}
	return scheme + "://" + host + path
}

func equal(left, right string) bool {
	return subtle.ConstantTimeCompare([]byte(left), []byte(right)) == 1
}

func hashed(text string) string {
	digest := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}
