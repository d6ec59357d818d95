package validator

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const wellKnown = "/.well-known/oauth-protected-resource"

// Dpop says whether tokens that are bound to a key are taken (RFC 9449).
type Dpop string

const (
	// DpopOff takes bearer tokens only.
	DpopOff Dpop = "off"
	// DpopAccepted takes both.
	DpopAccepted Dpop = "accepted"
	// DpopRequired takes bound tokens only.
	DpopRequired Dpop = "required"
)

// ResourceOptions describe a protected resource; a zero value is left out.
type ResourceOptions struct {
	// Resource is the resource's identifier: its public https address (RFC 9728). Challenges then name its metadata.
	Resource             string
	AuthorizationServers []string
	Scopes               []string
	Name                 string
	Documentation        string
	// Dpop is DpopOff by default; the others need Resource, which says what proofs are for.
	Dpop   Dpop
	Proofs *ProofVerifier
	// Nonce is the nonce that proofs must have at the moment, where given.
	Nonce func() string
	// OnRefused is told of each refusal, for a log: errors.Unwrap of it says which check failed.
	OnRefused func(*http.Request, *Refusal)
}

// Needs is what a route needs beside a good token.
type Needs struct {
	// Scopes are all needed.
	Scopes []string
	// ACRValues: one of these is needed (RFC 9470).
	ACRValues []string
	// MaxAge is how long ago the user may have proven who it is (RFC 9470), in whole seconds; 0 is off.
	MaxAge time.Duration
}

// RequestFacts is what a Resource looks at. Authorization and Dpop are every value of those headers, URL is the whole
// address as the caller knows it.
type RequestFacts struct {
	Authorization []string
	Dpop          []string
	Method        string
	URL           string
}

// Refusal is a request that is not let in: what to answer, as an error. Body is a problem document (RFC 9457).
type Refusal struct {
	Status int
	Code   string
	Detail string
	Header http.Header
	Cause  error
}

// Error is for logs.
func (r *Refusal) Error() string { return r.Code + ": " + r.Detail }

// Unwrap says which check failed.
func (r *Refusal) Unwrap() error { return r.Cause }

// Body is the problem document.
func (r *Refusal) Body() []byte {
	body, _ := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Code   string `json:"code"`
	}{"about:blank", http.StatusText(r.Status), r.Status, r.Detail, r.Code})
	return body
}

// Resource lets requests in that bring a good token with what a route needs.
type Resource struct {
	verifier    *Verifier
	options     ResourceOptions
	metadataURL string
	origin      string
}

// NewResource takes what verifies tokens.
func NewResource(verifier *Verifier, options ResourceOptions) (*Resource, error) {
	if options.Dpop == "" {
		options.Dpop = DpopOff
	}
	if options.Dpop != DpopOff && options.Dpop != DpopAccepted && options.Dpop != DpopRequired {
		return nil, errors.New("Dpop is DpopOff, DpopAccepted or DpopRequired")
	}
	if options.Dpop != DpopOff && options.Resource == "" {
		return nil, errors.New("Dpop needs Resource, which says what proofs are for")
	}
	if options.Proofs == nil {
		options.Proofs = NewProofVerifier(ProofOptions{Clock: verifier.config.Clock})
	}
	resource := &Resource{verifier: verifier, options: options}
	if options.Resource != "" {
		var err error
		if resource.metadataURL, err = MetadataURL(options.Resource); err != nil {
			return nil, err
		}
		parts, _ := url.Parse(options.Resource)
		resource.origin = parts.Scheme + "://" + parts.Host
	}
	return resource, nil
}

// MetadataURL is where a resource publishes its metadata (RFC 9728 §3.1): the well-known path goes between host and path.
func MetadataURL(resource string) (string, error) {
	parts, err := checkURL(resource)
	if err != nil {
		return "", err
	}
	if strings.Contains(resource, "#") {
		return "", errors.New("a resource has no fragment")
	}
	path := parts.EscapedPath()
	if path == "/" {
		path = ""
	}
	if parts.RawQuery != "" {
		path += "?" + parts.RawQuery
	}
	return parts.Scheme + "://" + parts.Host + wellKnown + path, nil
}

// Authenticate gives the claims of who asks, or an error: a *Refusal, unless a store of yours failed.
func (r *Resource) Authenticate(ctx context.Context, request RequestFacts, needs Needs) (*Claims, error) {
	if len(request.Authorization) == 0 {
		// RFC 6750 §3.1: a caller who tried nothing is told the schemes, and no error.
		var challenges []string
		if r.options.Dpop != DpopRequired {
			challenges = append(challenges, r.challenge("Bearer"))
		}
		if r.options.Dpop != DpopOff {
			challenges = append(challenges, r.challenge("DPoP"))
		}
		return nil, refusal(401, "missing_token", "An access token is needed.", strings.Join(challenges, ", "), nil)
	}
	scheme, token, _ := strings.Cut(request.Authorization[0], " ")
	scheme = strings.ToLower(scheme)
	isProven := scheme == "dpop" && r.options.Dpop != DpopOff
	tried := "Bearer"
	if isProven || r.options.Dpop == DpopRequired {
		tried = "DPoP"
	}
	// Of two headers a proxy may have checked the other one.
	if len(request.Authorization) != 1 || !(isProven || scheme == "bearer") {
		return nil, r.refuse(invalid("the request does not carry one token"), tried)
	}
	claims, err := r.verifier.Verify(ctx, token)
	if err != nil {
		return nil, r.refuse(err, tried)
	}
	switch {
	case isProven:
		err = r.prove(claims, token, request)
	case r.options.Dpop == DpopRequired:
		err = invalid("a bearer token where proofs are required")
	case claims.isBound:
		err = invalid("the token is bound to a key and came without a proof")
		if r.options.Dpop != DpopOff {
			tried = "DPoP"
		}
	}
	if err != nil {
		return nil, r.refuse(err, tried)
	}
	if err := r.satisfies(claims, needs, tried); err != nil {
		return nil, err
	}
	return claims, nil
}

func (r *Resource) prove(claims *Claims, token string, request RequestFacts) error {
	thumbprint, _ := claims.Confirmation["jkt"].(string)
	if thumbprint == "" {
		return invalid("the token is not bound to a key")
	}
	if len(request.Dpop) != 1 {
		return refuse(ErrProofInvalid, "the request does not carry one proof")
	}
	wanted := ProofRequest{Method: request.Method, URL: request.URL, AccessToken: token, Thumbprint: thumbprint}
	if r.options.Nonce != nil {
		wanted.Nonce = r.options.Nonce()
	}
	_, err := r.options.Proofs.Verify(request.Dpop[0], wanted)
	return err
}

func (r *Resource) satisfies(claims *Claims, needs Needs, scheme string) error {
	if !subset(needs.Scopes, claims.Scopes) {
		challenge := r.challenge(scheme, "error", "insufficient_scope", "scope", strings.Join(needs.Scopes, " "))
		return refusal(403, "insufficient_scope", "The access token lacks a scope that this needs.", challenge, nil)
	}
	isStrong := len(needs.ACRValues) == 0 || (claims.ACR != "" && contains(needs.ACRValues, claims.ACR))
	age := r.verifier.config.Clock().Sub(time.Unix(claims.AuthTime, 0))
	if isStrong && (needs.MaxAge == 0 || age <= needs.MaxAge) {
		return nil
	}
	const detail = "A fresher or stronger authentication is needed"
	told := []string{"error", "insufficient_user_authentication", "error_description", detail}
	if len(needs.ACRValues) > 0 {
		told = append(told, "acr_values", strings.Join(needs.ACRValues, " "))
	}
	if needs.MaxAge > 0 {
		told = append(told, "max_age", strconv.Itoa(int(needs.MaxAge.Seconds())))
	}
	challenge := r.challenge(scheme, told...)
	return refusal(401, "insufficient_user_authentication", detail+".", challenge, nil)
}

func (r *Resource) refuse(err error, tried string) error {
	var refused *Error
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Code {
	case ErrNonceNeeded.Code:
		told := r.challenge("DPoP", "error", "use_dpop_nonce", "error_description", "The DPoP proof needs a nonce")
		answer := refusal(401, refused.Code, "The DPoP proof needs a nonce.", told, err)
		answer.Header.Set("DPoP-Nonce", r.options.Nonce())
		return answer
	case ErrProofInvalid.Code:
		told := r.challenge("DPoP", "error", refused.Code, "error_description", "The DPoP proof is not valid")
		return refusal(401, refused.Code, "The DPoP proof is not valid.", told, err)
	case ErrKeysUnavailable.Code, ErrRevocationsUnavailable.Code:
		answer := refusal(503, refused.Code, "Access tokens cannot be checked at the moment.", "", err)
		answer.Header.Set("Retry-After", "2")
		return answer
	}
	// One text for every cause but the code: which check failed would guide a forger.
	told := r.challenge(tried, "error", "invalid_token", "error_description", "The access token is not valid")
	return refusal(401, refused.Code, "The access token is not valid.", told, err)
}

func refusal(status int, code, detail, challenge string, cause error) *Refusal {
	header := http.Header{"Content-Type": {"application/problem+json"}, "Cache-Control": {"no-store"}}
	if challenge != "" {
		header.Set("WWW-Authenticate", challenge)
	}
	return &Refusal{status, code, detail, header, cause}
}

// challenge is one challenge, with names and values in turn.
func (r *Resource) challenge(scheme string, told ...string) string {
	if scheme == "DPoP" {
		told = append(told, "algs", strings.Join(ProofAlgorithms, " "))
	}
	if r.metadataURL != "" {
		told = append(told, "resource_metadata", r.metadataURL)
	}
	var parameters []string
	for index := 0; index < len(told); index += 2 {
		parameters = append(parameters, told[index]+`="`+told[index+1]+`"`)
	}
	return strings.TrimSuffix(scheme+" "+strings.Join(parameters, ", "), " ")
}

// Metadata is the metadata document of this resource (RFC 9728 §2).
func (r *Resource) Metadata() map[string]any {
	document := map[string]any{
		"resource":                 r.options.Resource,
		"authorization_servers":    append([]string{}, r.options.AuthorizationServers...),
		"bearer_methods_supported": []string{"header"},
	}
	if len(r.options.Scopes) > 0 {
		document["scopes_supported"] = r.options.Scopes
	}
	if r.options.Name != "" {
		document["resource_name"] = r.options.Name
	}
	if r.options.Documentation != "" {
		document["resource_documentation"] = r.options.Documentation
	}
	if r.options.Dpop != DpopOff {
		document["dpop_signing_alg_values_supported"] = ProofAlgorithms
	}
	if r.options.Dpop == DpopRequired {
		document["dpop_bound_access_tokens_required"] = true
	}
	return document
}

var challengeWord = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]+$`)

// check refuses words that would be another parameter of a challenge: a quote, a line break.
func (n Needs) check() error {
	for _, word := range append(append([]string{}, n.Scopes...), n.ACRValues...) {
		if !challengeWord.MatchString(word) {
			return errors.New("Scopes and ACRValues are words of printable ASCII without quotes")
		}
	}
	if n.MaxAge < 0 || n.MaxAge%time.Second != 0 {
		return errors.New("MaxAge is a number of whole seconds")
	}
	return nil
}
