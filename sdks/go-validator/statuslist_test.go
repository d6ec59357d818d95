package validator_test

// Status lists: renewed in the background, gone by while the issuer is away, and never for too long.

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"authservice.example/validator"
)

type publisher struct {
	*world
	uri     string
	lock    sync.Mutex
	octets  []byte
	fetches int
	isAway  bool
}

func packed(octets []byte) string {
	var text bytes.Buffer
	writer := zlib.NewWriter(&text)
	_, _ = writer.Write(octets)
	_ = writer.Close()
	return base64.RawURLEncoding.EncodeToString(text.Bytes())
}

func (p *publisher) list(octets []byte) string {
	now := p.clock.read().Unix()
	return p.issuer.Signed("statuslist+jwt", "issuer.k1", map[string]any{
		"sub": p.uri, "iat": now, "exp": now + 300, "ttl": 10,
		"status_list": map[string]any{"bits": 1, "lst": packed(octets)},
	})
}

func (p *publisher) fetch(context.Context, string) (string, error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.fetches++
	if p.isAway {
		return "", errors.New("the issuer is away")
	}
	return p.list(p.octets), nil
}

func (p *publisher) change(change func()) {
	p.lock.Lock()
	defer p.lock.Unlock()
	change()
}

func (p *publisher) token(id string, index int) string {
	return p.issuer.Token("k1", map[string]any{
		"jti": id, "exp": p.clock.read().Unix() + 5000,
		"status": map[string]any{"status_list": map[string]any{"idx": index, "uri": p.uri}},
	})
}

// publishing is a world with status lists; over HTTP where a server is given.
func publishing(t *testing.T, server string) *publisher {
	t.Helper()
	p := &publisher{world: newWorld(t, validator.JwksOptions{}), octets: make([]byte, 16)}
	p.issuer.AddKey("issuer.k1")
	options := validator.StatusListOptions{Issuer: p.issuer.URL, Fetch: p.fetch, Clock: p.clock.read}
	if server != "" {
		p.issuer.URL, options.Issuer, options.Fetch = server, server, nil
		options.Timeout = 20 * time.Second
	}
	p.uri = p.issuer.URL + "/.well-known/status-lists/0"
	keys := validator.NewJwksKeysFrom(p.issuer.Fetch, validator.JwksOptions{})
	lists, err := validator.NewStatusLists(keys, options)
	if err != nil {
		t.Fatal(err)
	}
	config := validator.Config{
		Issuer: p.issuer.URL, AnyAudience: true, AnyClient: true, StatusLists: lists, Clock: p.clock.read,
	}
	if p.verifier, err = validator.NewVerifier(keys, config); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOneFetchServesAllAndARevokedTokenIsRefusedOnceTheListIsRenewed(t *testing.T) {
	p := publishing(t, "")
	tokens := make([]string, 50)
	for index := range tokens {
		tokens[index] = p.token(fmt.Sprint(index), 5)
	}
	for _, err := range together(tokens, p.verify) {
		if err != nil {
			t.Fatal(err)
		}
	}
	p.change(func() {
		if p.fetches != 1 {
			t.Fatalf("%d fetches", p.fetches)
		}
		p.octets[0] = 1 << 5
	})
	p.clock.advance(7 * time.Second)
	p.expect(t, tokens[0], nil)
	// Renewed in the background: nobody waits for it.
	p.clock.advance(1500 * time.Millisecond)
	p.expect(t, tokens[0], nil)
	eventually(t, func() bool { return errors.Is(p.verify(tokens[0]), validator.ErrTokenRevoked) })
	p.expect(t, p.token("other", 6), nil)
	p.change(func() {
		if p.fetches != 2 {
			t.Fatalf("%d fetches", p.fetches)
		}
	})
}

func TestWhileTheIssuerIsAwayTheLastListServesToItsEnd(t *testing.T) {
	p := publishing(t, "")
	good := p.token("a", 5)
	p.expect(t, good, nil)
	p.change(func() { p.isAway = true })
	p.clock.advance(299 * time.Second)
	p.expect(t, good, nil)
	p.clock.advance(2 * time.Second)
	p.expect(t, good, validator.ErrRevocationsUnavailable)
	p.change(func() { p.isAway = false })
	p.clock.advance(2 * time.Second)
	p.expect(t, good, nil)
}

func TestListsComeOverHTTPWholeAndNotByARedirect(t *testing.T) {
	var answer http.HandlerFunc
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if request.Header.Get("Accept") != "application/statuslist+jwt" {
			t.Error(request.Header)
		}
		answer(writer, request)
	}))
	defer server.Close()
	p := publishing(t, server.URL)
	say := func(text string) http.HandlerFunc {
		return func(writer http.ResponseWriter, _ *http.Request) { _, _ = writer.Write([]byte(text)) }
	}
	for _, bad := range []http.HandlerFunc{
		func(writer http.ResponseWriter, request *http.Request) { http.Redirect(writer, request, p.uri, 302) },
		say(strings.Repeat("x", 600_000)),
		say(p.list(make([]byte, 2_000_000))),
	} {
		answer = bad
		p.expect(t, p.token("a", 5), validator.ErrRevocationsUnavailable)
		p.clock.advance(2 * time.Second)
	}
	answer = say(p.list(p.octets))
	p.expect(t, p.token("a", 5), nil)
	secret, err := validator.NewHmacKey([]byte("0123456789abcdefghijklmnopqrstuv"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := validator.NewStatusLists(secret, validator.StatusListOptions{Issuer: "https://a"}); err == nil {
		t.Error("a secret signs no list")
	}
}
