package validator_test

// The middleware in a real net/http server.

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"authservice.example/validator"
	"authservice.example/validator/validatortest"
)

const (
	resourceURL = "https://api.example.com"
	announced   = `resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"`
)

type served struct {
	*httptest.Server
	issuer   *validatortest.Issuer
	verifier *validator.Verifier
	reason   atomic.Value
}

func serving(t *testing.T, change func(*validator.ResourceOptions)) *served {
	t.Helper()
	s := &served{issuer: validatortest.NewIssuer(time.Now)}
	keys := validator.NewJwksKeysFrom(s.issuer.Fetch, validator.JwksOptions{})
	config := validator.Config{Issuer: s.issuer.URL, Audience: "api", AnyClient: true}
	var err error
	if s.verifier, err = validator.NewVerifier(keys, config); err != nil {
		t.Fatal(err)
	}
	options := validator.ResourceOptions{
		Resource:             resourceURL,
		AuthorizationServers: []string{s.issuer.URL},
		Scopes:               []string{"orders:read"},
		Dpop:                 validator.DpopAccepted,
		OnRefused:            func(_ *http.Request, refused *validator.Refusal) { s.reason.Store(refused) },
	}
	if change != nil {
		change(&options)
	}
	resource, err := validator.NewResource(s.verifier, options)
	if err != nil {
		t.Fatal(err)
	}
	whoami := http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		claims, _ := validator.ClaimsFrom(request.Context())
		_ = json.NewEncoder(writer).Encode(claims.Subject)
	})
	mux := http.NewServeMux()
	mux.Handle(resource.MetadataPath(), resource.MetadataHandler())
	mux.Handle("/me", resource.Protect(validator.Needs{})(whoami))
	reading := resource.Protect(validator.Needs{Scopes: []string{"orders:read"}})(whoami)
	// Cut on the way, as routers do: a proof is for the whole address.
	mux.Handle("/orders/", http.StripPrefix("/orders", reading))
	strong := validator.Needs{ACRValues: []string{"urn:authservice:acr:2fa"}, MaxAge: 5 * time.Minute}
	mux.Handle("/strong", resource.Protect(strong)(whoami))
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

type answer struct {
	status int
	header http.Header
	body   map[string]any
}

func (s *served) call(t *testing.T, path string, headers ...string) answer {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for index := 0; index < len(headers); index += 2 {
		request.Header.Add(headers[index], headers[index+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := answer{response.StatusCode, response.Header, nil}
	_ = json.Unmarshal(raw, &found.body)
	return found
}

func (s *served) expect(t *testing.T, status int, code, path string, headers ...string) answer {
	t.Helper()
	found := s.call(t, path, headers...)
	if said, _ := found.body["code"].(string); found.status != status || said != code {
		t.Fatalf("%d %v instead of %d %s", found.status, found.body, status, code)
	}
	return found
}

func TestAGoodTokenComesInAndEverybodyElseIsToldWhyNot(t *testing.T) {
	s := serving(t, nil)
	good := "Bearer " + s.issuer.Token("k1", nil)
	s.expect(t, 200, "", "/me", "Authorization", good)
	nothing := s.expect(t, 401, "missing_token", "/me")
	challenge := "Bearer " + announced + `, DPoP algs="ES256 EdDSA RS256", ` + announced
	if nothing.header.Get("WWW-Authenticate") != challenge || nothing.header.Get("Cache-Control") != "no-store" ||
		nothing.header.Get("Content-Type") != "application/problem+json" || nothing.body["title"] != "Unauthorized" {
		t.Error(nothing)
	}
	s.expect(t, 401, "invalid_token", "/me", "Authorization", good, "Authorization", good)
	forged := validatortest.NewIssuer(time.Now).Token("k1", nil)
	told := s.expect(t, 401, "invalid_token", "/me", "Authorization", "Bearer "+forged)
	reason, _ := s.reason.Load().(*validator.Refusal)
	if reason == nil || reason.Cause == nil || !strings.Contains(reason.Cause.Error(), "signature") || strings.Contains(told.body["detail"].(string), "signature") {
		t.Error(reason, told.body)
	}
	now := float64(time.Now().Unix())
	if err := s.verifier.Revocations().Add("session", "s1", now+1, now+900); err != nil {
		t.Fatal(err)
	}
	s.expect(t, 401, "token_revoked", "/me", "Authorization", good)
	s.issuer.SetAway(true)
	away := serving(t, nil)
	away.issuer.SetAway(true)
	unknown := away.expect(t, 503, "keys_unavailable", "/me", "Authorization", "Bearer "+away.issuer.Token("k1", nil))
	if unknown.header.Get("Retry-After") != "2" || unknown.header.Get("WWW-Authenticate") != "" {
		t.Error(unknown.header)
	}
}

func TestScopesAndStepUpAreAskedFor(t *testing.T) {
	s := serving(t, nil)
	bearer := func(claims map[string]any) string { return "Bearer " + s.issuer.Token("k1", claims) }
	s.expect(t, 200, "", "/orders/list", "Authorization", bearer(map[string]any{"scope": "orders:read"}))
	lacking := s.expect(t, 403, "insufficient_scope", "/orders/list", "Authorization", bearer(nil))
	if lacking.header.Get("WWW-Authenticate") != `Bearer error="insufficient_scope", scope="orders:read", `+announced {
		t.Error(lacking.header)
	}
	fresh := map[string]any{"acr": "urn:authservice:acr:2fa", "auth_time": time.Now().Unix() - 10}
	s.expect(t, 200, "", "/strong", "Authorization", bearer(fresh))
	weak := s.expect(t, 401, "insufficient_user_authentication", "/strong", "Authorization", bearer(nil))
	if !strings.Contains(weak.header.Get("WWW-Authenticate"), `acr_values="urn:authservice:acr:2fa", max_age="300"`) {
		t.Error(weak.header)
	}
}

func TestABoundTokenComesInWithItsProofOnce(t *testing.T) {
	s := serving(t, nil)
	key := validatortest.NewProofKey()
	token := s.issuer.Token("k1", map[string]any{"cnf": map[string]any{"jkt": key.Thumbprint()}, "scope": "orders:read"})
	proof := key.Proof("GET", resourceURL+"/orders/list", token, nil)
	s.expect(t, 200, "", "/orders/list?page=2", "Authorization", "DPoP "+token, "DPoP", proof)
	replayed := s.expect(t, 401, "invalid_dpop_proof", "/orders/list", "Authorization", "DPoP "+token, "DPoP", proof)
	if !strings.HasPrefix(replayed.header.Get("WWW-Authenticate"), `DPoP error="invalid_dpop_proof"`) {
		t.Error(replayed.header)
	}
	elsewhere := key.Proof("GET", resourceURL+"/orders/list", token, nil)
	s.expect(t, 401, "invalid_dpop_proof", "/me", "Authorization", "DPoP "+token, "DPoP", elsewhere)
	stolen := validatortest.NewProofKey().Proof("GET", resourceURL+"/me", token, nil)
	s.expect(t, 401, "invalid_dpop_proof", "/me", "Authorization", "DPoP "+token, "DPoP", stolen)
	s.expect(t, 401, "invalid_token", "/me", "Authorization", "Bearer "+token)
}

func TestANonceIsAskedForAndThenTaken(t *testing.T) {
	s := serving(t, func(options *validator.ResourceOptions) { options.Nonce = func() string { return "n-1" } })
	key := validatortest.NewProofKey()
	token := s.issuer.Token("k1", map[string]any{"cnf": map[string]any{"jkt": key.Thumbprint()}})
	proof := key.Proof("GET", resourceURL+"/me", token, nil)
	asked := s.expect(t, 401, "use_dpop_nonce", "/me", "Authorization", "DPoP "+token, "DPoP", proof)
	if asked.header.Get("DPoP-Nonce") != "n-1" {
		t.Error(asked.header)
	}
	proof = key.Proof("GET", resourceURL+"/me", token, map[string]any{"nonce": "n-1"})
	s.expect(t, 200, "", "/me", "Authorization", "DPoP "+token, "DPoP", proof)
}

func TestTwentyUsesOfOneProofAtOnceLetOneIn(t *testing.T) {
	proofs := validator.NewProofVerifier(validator.ProofOptions{})
	proof := validatortest.NewProofKey().Proof("GET", resourceURL, "t", nil)
	tried := make([]string, 20)
	passed := 0
	for _, err := range together(tried, func(string) error {
		_, err := proofs.Verify(proof, validator.ProofRequest{Method: "GET", URL: resourceURL, AccessToken: "t", AnyKey: true})
		return err
	}) {
		if err == nil {
			passed++
		}
	}
	if passed != 1 {
		t.Fatalf("%d passed", passed)
	}
}

func TestTheMetadataSaysWhatTheResourceTakes(t *testing.T) {
	s := serving(t, func(options *validator.ResourceOptions) { options.Dpop = validator.DpopRequired })
	found := s.expect(t, 200, "", "/.well-known/oauth-protected-resource")
	expected := map[string]any{
		"resource":                          resourceURL,
		"authorization_servers":             []any{s.issuer.URL},
		"bearer_methods_supported":          []any{"header"},
		"scopes_supported":                  []any{"orders:read"},
		"dpop_signing_alg_values_supported": []any{"ES256", "EdDSA", "RS256"},
		"dpop_bound_access_tokens_required": true,
	}
	if !reflect.DeepEqual(found.body, expected) || found.header.Get("Content-Type") != "application/json" {
		t.Errorf("%v", found)
	}
}

func TestNeedsThatWouldBreakAChallengeAreRefused(t *testing.T) {
	w := newWorld(t, validator.JwksOptions{})
	resource, err := validator.NewResource(w.verifier, validator.ResourceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, needs := range []validator.Needs{
		{Scopes: []string{`a" error="x`}}, {ACRValues: []string{"a\r\nb"}}, {MaxAge: time.Millisecond}, {MaxAge: -time.Second},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v", needs)
				}
			}()
			resource.Protect(needs)
		}()
	}
	if _, err := validator.NewResource(w.verifier, validator.ResourceOptions{Dpop: validator.DpopRequired}); err == nil {
		t.Error("proofs for nothing")
	}
}
