package validator_test

// The issuer's keys: rollover without a miss, and out of an attacker's reach.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"authservice.example/validator"
	"authservice.example/validator/validatortest"
)

// manualClock stands still until told.
type manualClock struct {
	lock sync.Mutex
	now  time.Time
}

func (c *manualClock) read() time.Time {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.now
}

func (c *manualClock) advance(by time.Duration) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.now = c.now.Add(by)
}

type world struct {
	clock    *manualClock
	issuer   *validatortest.Issuer
	verifier *validator.Verifier
}

func newWorld(t *testing.T, options validator.JwksOptions) *world {
	t.Helper()
	clock := &manualClock{now: time.Unix(1_800_000_000, 0)}
	issuer := validatortest.NewIssuer(clock.read)
	options.Clock = clock.read
	config := validator.Config{Issuer: issuer.URL, Audience: "api", ClientID: "c1", Clock: clock.read}
	verifier, err := validator.NewVerifier(validator.NewJwksKeysFrom(issuer.Fetch, options), config)
	if err != nil {
		t.Fatal(err)
	}
	return &world{clock, issuer, verifier}
}

func (w *world) expect(t *testing.T, token string, expected error) {
	t.Helper()
	if _, err := w.verifier.Verify(ctx, token); !errors.Is(err, expected) {
		t.Fatalf("%v instead of %v", err, expected)
	}
}

func together(tokens []string, verify func(string) error) []error {
	answers := make([]error, len(tokens))
	var group sync.WaitGroup
	for index, token := range tokens {
		group.Add(1)
		go func(index int, token string) {
			defer group.Done()
			answers[index] = verify(token)
		}(index, token)
	}
	group.Wait()
	return answers
}

func (w *world) verify(token string) error {
	_, err := w.verifier.Verify(ctx, token)
	return err
}

func TestAHundredCallersAtOnceCostOneFetch(t *testing.T) {
	w := newWorld(t, validator.JwksOptions{})
	tokens := make([]string, 100)
	for index := range tokens {
		tokens[index] = w.issuer.Token("k1", map[string]any{"jti": fmt.Sprint(index)})
	}
	for _, err := range together(tokens, w.verify) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if w.issuer.Fetches() != 1 {
		t.Fatalf("%d fetches", w.issuer.Fetches())
	}
}

func TestKeysRollOverThreeTimesAndNothingFails(t *testing.T) {
	w := newWorld(t, validator.JwksOptions{})
	w.expect(t, w.issuer.Token("k1", nil), nil)
	for round := 1; round <= 3; round++ {
		names := [2]string{fmt.Sprintf("k%d", round), fmt.Sprintf("k%d", round+1)}
		w.issuer.AddKey(names[1])
		tokens := make([]string, 50)
		for index := range tokens {
			tokens[index] = w.issuer.Token(names[index%2], map[string]any{"jti": fmt.Sprint(round, index)})
		}
		for _, err := range together(tokens, w.verify) {
			if err != nil {
				t.Fatal(err)
			}
		}
		w.issuer.RemoveKey(names[0])
		w.clock.advance(5 * time.Minute)
	}
	if w.issuer.Fetches() > 7 {
		t.Fatalf("%d fetches", w.issuer.Fetches())
	}
}

func TestAFloodOfInventedNamesCostsOneFetchPerCooldown(t *testing.T) {
	w := newWorld(t, validator.JwksOptions{})
	w.expect(t, w.issuer.Token("k1", nil), nil)
	before := w.issuer.Fetches()
	forger := validatortest.NewIssuer(w.clock.read)
	for round := 0; round < 3; round++ {
		tokens := make([]string, 200)
		for index := range tokens {
			kid := fmt.Sprint("x", round, "-", index)
			forger.AddKey(kid)
			tokens[index] = forger.Token(kid, nil)
		}
		for _, err := range together(tokens, w.verify) {
			if !errors.Is(err, validator.ErrTokenInvalid) {
				t.Fatal(err)
			}
		}
		w.expect(t, w.issuer.Token("k1", map[string]any{"jti": fmt.Sprint(round)}), nil)
		w.clock.advance(5 * time.Second)
	}
	if fetches := w.issuer.Fetches() - before; fetches != 3 {
		t.Fatalf("%d fetches", fetches)
	}
}

func TestAWithdrawnKeyTakesItsCachedTokensAlong(t *testing.T) {
	w := newWorld(t, validator.JwksOptions{})
	old := w.issuer.Token("k1", nil)
	w.expect(t, old, nil)
	w.issuer.AddKey("k2")
	w.issuer.RemoveKey("k1")
	w.clock.advance(30 * time.Second)
	w.expect(t, old, nil)
	w.expect(t, w.issuer.Token("k2", nil), nil)
	w.expect(t, old, validator.ErrTokenInvalid)
}

func TestWhileTheIssuerIsAwayKnownKeysServeForABoundedTime(t *testing.T) {
	w := newWorld(t, validator.JwksOptions{StaleFor: 1000 * time.Second})
	long := func(id string) string {
		return w.issuer.Token("k1", map[string]any{"jti": id, "exp": w.clock.read().Unix() + 9000})
	}
	w.expect(t, long("a"), nil)
	w.issuer.SetAway(true)
	w.clock.advance(1299 * time.Second)
	w.expect(t, long("b"), nil)
	w.clock.advance(2 * time.Second)
	w.expect(t, long("c"), validator.ErrKeysUnavailable)
	w.issuer.SetAway(false)
	w.clock.advance(31 * time.Second)
	w.expect(t, long("d"), nil)
}

func TestAFetchThatHangsIsGivenUpAndACallerMayLeaveBefore(t *testing.T) {
	w := newWorld(t, validator.JwksOptions{})
	hanging := func(context.Context) (validator.FetchedJwks, error) { select {} }
	keys := validator.NewJwksKeysFrom(hanging, validator.JwksOptions{Timeout: 30 * time.Millisecond})
	if err := keys.Refresh(ctx); !errors.Is(err, validator.ErrKeysUnavailable) {
		t.Fatal(err)
	}
	patient := validator.NewJwksKeysFrom(hanging, validator.JwksOptions{Timeout: time.Hour})
	left, leave := context.WithCancel(ctx)
	leave()
	if _, err := patient.Get(left, "k1"); !errors.Is(err, validator.ErrKeysUnavailable) {
		t.Fatal(err)
	}
	w.issuer.SetAway(true)
	w.expect(t, w.issuer.Token("k1", nil), validator.ErrKeysUnavailable)
}

func TestACachedTokenEndsWhenItExpiresAndTheCacheIsBounded(t *testing.T) {
	w := newWorld(t, validator.JwksOptions{})
	token := w.issuer.Token("k1", map[string]any{"exp": w.clock.read().Unix() + 10})
	w.expect(t, token, nil)
	w.clock.advance(39 * time.Second)
	w.expect(t, token, nil)
	w.clock.advance(time.Second)
	w.expect(t, token, validator.ErrTokenExpired)
	w.verifier.Forget()
	w.expect(t, token, validator.ErrTokenExpired)
}

func TestTheBuiltInFetcherTakesAWholeJSONAnswerAndNothingElse(t *testing.T) {
	w := newWorld(t, validator.JwksOptions{})
	fetched, _ := w.issuer.Fetch(ctx)
	good := fetched.Document
	answers := map[string]http.HandlerFunc{
		"good":     func(writer http.ResponseWriter, _ *http.Request) { _, _ = writer.Write(good) },
		"status":   func(writer http.ResponseWriter, _ *http.Request) { http.Error(writer, string(good), 500) },
		"redirect": func(writer http.ResponseWriter, request *http.Request) { http.Redirect(writer, request, "/good", 302) },
		"html":     func(writer http.ResponseWriter, _ *http.Request) { _, _ = writer.Write([]byte("<html>")) },
		"large": func(writer http.ResponseWriter, _ *http.Request) {
			_, _ = writer.Write([]byte(`{"keys":[],"x":"` + strings.Repeat("x", 300_000) + `"}`))
		},
		"short": func(writer http.ResponseWriter, _ *http.Request) {
			writer.Header().Set("Content-Length", fmt.Sprint(len(good)+10))
			_, _ = writer.Write(good)
		},
		"slow": func(writer http.ResponseWriter, request *http.Request) {
			_, _ = writer.Write(good[:9])
			writer.(http.Flusher).Flush()
			<-request.Context().Done()
		},
		"twice": func(writer http.ResponseWriter, _ *http.Request) {
			_, _ = writer.Write(bytes.Replace(good, []byte("{"), []byte(`{"keys":[],`), 1))
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		answers[request.URL.Path[1:]](writer, request)
	}))
	defer server.Close()
	for name := range answers {
		timeout := 20 * time.Second
		if name == "slow" {
			timeout = 300 * time.Millisecond
		}
		keys, err := validator.NewJwksKeys(server.URL+"/"+name, validator.JwksOptions{Timeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		if err := keys.Refresh(ctx); (err == nil) != (name == "good") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, unsafe := range []string{"http://auth.example.com/jwks", "https://u:p@auth.example.com/", "ftp://127.0.0.1/x", "jwks"} {
		if _, err := validator.NewJwksKeys(unsafe, validator.JwksOptions{}); err == nil {
			t.Error(unsafe)
		}
	}
}

func TestSettingsThatAreUnsafeAreRefused(t *testing.T) {
	good := validator.Config{Issuer: "i", Audience: "a", ClientID: "c", Leeway: time.Minute}
	keys := validator.NewJwksKeysFrom(nil, validator.JwksOptions{})
	for name, change := range map[string]func(*validator.Config){
		"good":             func(*validator.Config) {},
		"issuer":           func(config *validator.Config) { config.Issuer = "" },
		"audience":         func(config *validator.Config) { config.Audience = "" },
		"client":           func(config *validator.Config) { config.ClientID = "" },
		"any and audience": func(config *validator.Config) { config.AnyAudience = true },
		"uses":             func(config *validator.Config) { config.TokenUses = []string{} },
		"empty use":        func(config *validator.Config) { config.TokenUses = []string{""} },
		"leeway":           func(config *validator.Config) { config.Leeway = 61 * time.Second },
	} {
		config := good
		change(&config)
		if _, err := validator.NewVerifier(keys, config); (err == nil) != (name == "good") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
