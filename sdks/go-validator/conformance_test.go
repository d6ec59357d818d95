package validator_test

// The conformance vectors, which every AuthService validator must answer alike.

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"authservice.example/validator"
)

type settings struct {
	Issuer    string   `json:"issuer"`
	Audience  *string  `json:"audience"`
	ClientID  *string  `json:"client_id"`
	TokenUses []string `json:"token_uses"`
	Leeway    int      `json:"leeway"`
	Now       int64    `json:"now"`
}

type tokenVector struct {
	ID, Attack, Token, Expect, Source, Control string
	Settings                                   json.RawMessage
}

type vectorFile struct {
	Verifier settings
	Sources  struct {
		Jwks  json.RawMessage
		Hs256 struct{ Secret, Kid string }
	}
	Tokens         []tokenVector
	RefusedSecrets []struct{ ID, Attack, Secret string } `json:"refused_secrets"`
	RefusedKeys    []struct {
		ID  string
		Jwk json.RawMessage
	} `json:"refused_keys"`
	Revocations []struct {
		ID, Kind, Name string
		NotAfter       float64 `json:"not_after"`
		Revoked        bool
	}
	Streams []struct {
		ID      string
		Chunks  []string
		State   string
		Revoked bool
	}
	StatusLists []struct{ ID, URI, List, Token, Expect string } `json:"status_lists"`
	Proofs      []struct {
		ID, Proof, Expect, Method, URL, Control string
		AccessToken                             *string `json:"access_token"`
		Jkt, Nonce                              *string
	}
	Requests []struct {
		ID    string
		Guard struct{ Resource, Dpop string }
		Need  struct {
			Scopes    []string
			AcrValues []string `json:"acr_values"`
			MaxAge    int      `json:"max_age"`
		}
		Authorization, Dpop []string
		Method, URL         string
		Status              int
		Code, Challenge     string
		Subject             string
	}
	Metadata []struct {
		Resource string
		URL      *string
	}
}

var (
	vectors = load()
	ctx     = context.Background()
)

func load() (file vectorFile) {
	raw, err := os.ReadFile("../conformance/vectors.json")
	if err == nil {
		err = json.Unmarshal(raw, &file)
	}
	if err != nil {
		panic(err)
	}
	return file
}

func at() time.Time { return time.Unix(vectors.Verifier.Now, 0) }

func named(t *testing.T, id string) tokenVector {
	t.Helper()
	for _, vector := range vectors.Tokens {
		if vector.ID == id {
			return vector
		}
	}
	t.Fatalf("no vector %s", id)
	return tokenVector{}
}

func conforming(t *testing.T, source string, changes json.RawMessage) *validator.Verifier {
	t.Helper()
	// By its text: a mere copy would share its slices and pointers with what is changed.
	common, err := json.Marshal(vectors.Verifier)
	if err != nil {
		t.Fatal(err)
	}
	var given settings
	for _, text := range []json.RawMessage{common, changes} {
		if text != nil && json.Unmarshal(text, &given) != nil {
			t.Fatalf("settings: %s", text)
		}
	}
	var keys validator.KeySource = validator.NewJwksKeysFrom(func(context.Context) (validator.FetchedJwks, error) {
		return validator.FetchedJwks{Document: vectors.Sources.Jwks, MaxAge: -1}, nil
	}, validator.JwksOptions{})
	if source == "hs256" {
		var secret *validator.HmacKey
		secret, err = validator.NewHmacKey(decoded(t, vectors.Sources.Hs256.Secret), vectors.Sources.Hs256.Kid)
		if err != nil {
			t.Fatal(err)
		}
		keys = secret
	}
	config := validator.Config{
		Issuer:      given.Issuer,
		AnyAudience: given.Audience == nil,
		AnyClient:   given.ClientID == nil,
		TokenUses:   given.TokenUses,
		Leeway:      time.Duration(given.Leeway) * time.Second,
		Clock:       at,
	}
	if given.Audience != nil {
		config.Audience = *given.Audience
	}
	if given.ClientID != nil {
		config.ClientID = *given.ClientID
	}
	verifier, err := validator.NewVerifier(keys, config)
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}

func decoded(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestTokens(t *testing.T) {
	for _, vector := range vectors.Tokens {
		vector := vector
		t.Run(vector.ID, func(t *testing.T) {
			// The positive control: with this very verifier, the token that the forgery was made from is good.
			verifier := conforming(t, vector.Source, vector.Settings)
			control := named(t, vector.Control)
			claims, err := verifier.Verify(ctx, control.Token)
			if control.Expect != "valid" || err != nil || claims.ClientID != *vectors.Verifier.ClientID {
				t.Fatalf("control: %v", err)
			}
			// A refusal must not become an acceptance by being asked twice.
			for turn := 0; turn < 2; turn++ {
				claims, err := verifier.Verify(ctx, vector.Token)
				if vector.Expect == "valid" {
					if err != nil {
						t.Fatal(err)
					}
				} else if !errors.Is(err, &validator.Error{Code: vector.Expect}) || claims != nil {
					t.Fatalf("%v", err)
				}
			}
		})
	}
}

func TestSecretsThatArePublicOrWeakAreRefused(t *testing.T) {
	for _, entry := range vectors.RefusedSecrets {
		secret := decoded(t, entry.Secret)
		tried := [][]byte{secret}
		if entry.Attack == "J-02" {
			tried = append(tried, append(append([]byte("\n "), secret...), "\r\n"...))
		}
		for _, given := range tried {
			if _, err := validator.NewHmacKey(given, ""); !errors.Is(err, validator.ErrKeyRefused) {
				t.Errorf("%s: %v", entry.ID, err)
			}
		}
	}
}

func TestKeysThatAreUnfitAreRefused(t *testing.T) {
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(vectors.Sources.Jwks, &set); err != nil || len(set.Keys) == 0 {
		t.Fatal(err)
	}
	for _, raw := range set.Keys {
		if _, err := validator.ReadKey(raw); err != nil {
			t.Fatal(err)
		}
	}
	for _, entry := range vectors.RefusedKeys {
		if _, err := validator.ReadKey(entry.Jwk); !errors.Is(err, validator.ErrKeyRefused) {
			t.Errorf("%s: %v", entry.ID, err)
		}
	}
}

func TestRevocations(t *testing.T) {
	token := named(t, "valid-rs256").Token
	for _, entry := range vectors.Revocations {
		for _, isWarm := range []bool{false, true} {
			verifier := conforming(t, "jwks", nil)
			if isWarm {
				if _, err := verifier.Verify(ctx, token); err != nil {
					t.Fatal(err)
				}
			}
			end := float64(vectors.Verifier.Now + 900)
			if err := verifier.Revocations().Add(entry.Kind, entry.Name, entry.NotAfter, end); err != nil {
				t.Fatal(err)
			}
			if _, err := verifier.Verify(ctx, token); errors.Is(err, validator.ErrTokenRevoked) != entry.Revoked {
				t.Errorf("%s, warm %v: %v", entry.ID, isWarm, err)
			}
		}
	}
}

func TestStreams(t *testing.T) {
	for _, entry := range vectors.Streams {
		verifier := conforming(t, "jwks", nil)
		state, err := validator.ReadStream(verifier.Revocations(), entry.Chunks)
		if err != nil || state != entry.State {
			t.Errorf("%s: %s, %v", entry.ID, state, err)
		}
		_, err = verifier.Verify(ctx, named(t, "valid-rs256").Token)
		if errors.Is(err, validator.ErrTokenRevoked) != entry.Revoked {
			t.Errorf("%s: %v", entry.ID, err)
		}
	}
}

func TestStatusLists(t *testing.T) {
	keys := validator.NewJwksKeysFrom(func(context.Context) (validator.FetchedJwks, error) {
		return validator.FetchedJwks{Document: vectors.Sources.Jwks, MaxAge: -1}, nil
	}, validator.JwksOptions{})
	for _, vector := range vectors.StatusLists {
		vector := vector
		t.Run(vector.ID, func(t *testing.T) {
			lists, err := validator.NewStatusLists(keys, validator.StatusListOptions{
				Issuer: vectors.Verifier.Issuer,
				Clock:  at,
				Fetch: func(_ context.Context, uri string) (string, error) {
					if uri != vector.URI {
						t.Errorf("asked %s, which a token chose", uri)
					}
					return vector.List, nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			verifier, err := validator.NewVerifier(keys, validator.Config{
				Issuer: vectors.Verifier.Issuer, AnyAudience: true, AnyClient: true, StatusLists: lists, Clock: at,
			})
			if err != nil {
				t.Fatal(err)
			}
			for turn := 0; turn < 2; turn++ {
				_, err := verifier.Verify(ctx, vector.Token)
				if vector.Expect == "valid" && err != nil ||
					vector.Expect != "valid" && !errors.Is(err, &validator.Error{Code: vector.Expect}) {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestProofs(t *testing.T) {
	check := func(index int) error {
		vector := vectors.Proofs[index]
		request := validator.ProofRequest{Method: vector.Method, URL: vector.URL, AnyKey: vector.Jkt == nil}
		if vector.Jkt != nil {
			request.Thumbprint = *vector.Jkt
		}
		if vector.AccessToken != nil {
			request.AccessToken = *vector.AccessToken
		}
		if vector.Nonce != nil {
			request.Nonce = *vector.Nonce
		}
		_, err := validator.NewProofVerifier(validator.ProofOptions{Clock: at}).Verify(vector.Proof, request)
		return err
	}
	ids := map[string]int{}
	for index, vector := range vectors.Proofs {
		ids[vector.ID] = index
	}
	for index, vector := range vectors.Proofs {
		if err := check(ids[vector.Control]); err != nil {
			t.Fatalf("control of %s: %v", vector.ID, err)
		}
		err := check(index)
		if vector.Expect == "valid" && err == nil {
			continue
		}
		if !errors.Is(err, &validator.Error{Code: vector.Expect}) {
			t.Errorf("%s: %v", vector.ID, err)
		}
	}
}

func TestRequests(t *testing.T) {
	for _, vector := range vectors.Requests {
		vector := vector
		t.Run(vector.ID, func(t *testing.T) {
			verifier := conforming(t, "jwks", json.RawMessage(`{"token_uses": ["access", "oauth"]}`))
			options := validator.ResourceOptions{Resource: vector.Guard.Resource, Dpop: validator.Dpop(vector.Guard.Dpop)}
			resource, err := validator.NewResource(verifier, options)
			if err != nil {
				t.Fatal(err)
			}
			claims, err := resource.Authenticate(ctx, validator.RequestFacts{
				Authorization: vector.Authorization, Dpop: vector.Dpop, Method: vector.Method, URL: vector.URL,
			}, validator.Needs{
				Scopes:    vector.Need.Scopes,
				ACRValues: vector.Need.AcrValues,
				MaxAge:    time.Duration(vector.Need.MaxAge) * time.Second,
			})
			if vector.Status == 200 {
				if err != nil || claims.Subject != vector.Subject {
					t.Fatal(err)
				}
				return
			}
			var refused *validator.Refusal
			if !errors.As(err, &refused) || claims != nil {
				t.Fatalf("%v", err)
			}
			challenge := refused.Header.Get("WWW-Authenticate")
			if refused.Status != vector.Status || refused.Code != vector.Code || challenge != vector.Challenge {
				t.Errorf("%d %s\n%s\n%s", refused.Status, refused.Code, challenge, vector.Challenge)
			}
		})
	}
}

func TestMetadataURL(t *testing.T) {
	for _, vector := range vectors.Metadata {
		found, err := validator.MetadataURL(vector.Resource)
		if (vector.URL == nil) != (err != nil) || (vector.URL != nil && found != *vector.URL) {
			t.Errorf("%s: %s, %v", vector.Resource, found, err)
		}
	}
}
