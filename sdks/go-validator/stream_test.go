package validator_test

// Following the issuer's stream of revocations over HTTP.

import (
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

const synced = "event: synced\ndata: {}\n\n"

func killing(ref, kind string) string {
	end := time.Now().Unix() + 900
	return fmt.Sprintf("event: revocation\ndata: {\"kind\":%q,\"ref\":%q,\"at\":%d,\"expires_at\":%d}\n\n", kind, ref, end, end)
}

// fakeStream is an issuer's stream: begins is sent to who connects, say to all who are there.
type fakeStream struct {
	*httptest.Server
	lock   sync.Mutex
	begins string
	status int
	asked  []string
	open   map[chan string]bool
}

func newFakeStream(t *testing.T, begins string) *fakeStream {
	fake := &fakeStream{begins: begins, status: 200, open: map[chan string]bool{}}
	fake.Server = httptest.NewServer(fake)
	t.Cleanup(func() {
		fake.Server.CloseClientConnections()
		fake.Server.Close()
	})
	return fake
}

func (f *fakeStream) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	said := make(chan string, 10)
	f.lock.Lock()
	f.asked = append(f.asked, request.URL.Path+" "+request.Header.Get("X-API-Key"))
	begins, status := f.begins, f.status
	f.open[said] = true
	f.lock.Unlock()
	defer func() {
		f.lock.Lock()
		defer f.lock.Unlock()
		delete(f.open, said)
	}()
	writer.WriteHeader(status)
	if status != 200 {
		return
	}
	_, _ = writer.Write([]byte(begins))
	writer.(http.Flusher).Flush()
	for {
		select {
		case text, more := <-said:
			if !more {
				panic(http.ErrAbortHandler)
			}
			_, _ = writer.Write([]byte(text))
			writer.(http.Flusher).Flush()
		case <-request.Context().Done():
			return
		}
	}
}

func (f *fakeStream) set(change func()) {
	f.lock.Lock()
	defer f.lock.Unlock()
	change()
}

func (f *fakeStream) say(text string) {
	f.set(func() {
		for said := range f.open {
			said <- text
		}
	})
}

func (f *fakeStream) cut() {
	f.set(func() {
		for said := range f.open {
			close(said)
			delete(f.open, said)
		}
	})
}

func eventually(t *testing.T, probe func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !probe(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time")
		}
	}
}

type follower struct {
	*world
	stream *validator.RevocationStream
	lock   sync.Mutex
	errs   []string
}

func following(t *testing.T, fake *fakeStream, options validator.StreamOptions) *follower {
	t.Helper()
	f := &follower{}
	options.APIKey = "ask_1"
	options.OnError = func(err error) {
		f.lock.Lock()
		defer f.lock.Unlock()
		f.errs = append(f.errs, err.Error())
	}
	stream, err := validator.NewRevocationStream(fake.URL, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stream.Close)
	issuer := validatortest.NewIssuer(time.Now)
	config := validator.Config{Issuer: issuer.URL, Audience: "api", ClientID: "c1", Stream: stream}
	keys := validator.NewJwksKeysFrom(issuer.Fetch, validator.JwksOptions{})
	verifier, err := validator.NewVerifier(keys, config)
	if err != nil {
		t.Fatal(err)
	}
	f.world, f.stream = &world{nil, issuer, verifier}, stream
	return f
}

func (f *follower) token(sid string) string {
	return f.issuer.Token("k1", map[string]any{"sid": sid, "jti": sid})
}

func (f *follower) told(word string) bool {
	f.lock.Lock()
	defer f.lock.Unlock()
	return strings.Contains(strings.Join(f.errs, "\n"), word)
}

func (f *follower) start(t *testing.T) {
	t.Helper()
	if err := f.stream.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasRevokedBeforeAndWhatIsRevokedNowIsRefused(t *testing.T) {
	fake := newFakeStream(t, killing("old", "session")+synced)
	f := following(t, fake, validator.StreamOptions{})
	f.expect(t, f.token("s1"), validator.ErrRevocationsUnavailable)
	f.start(t)
	fake.set(func() {
		if len(fake.asked) != 1 || fake.asked[0] != "/api/revocations/stream ask_1" {
			t.Error(fake.asked)
		}
	})
	f.expect(t, f.token("old"), validator.ErrTokenRevoked)
	cached := f.token("s1")
	f.expect(t, cached, nil)
	fake.say(killing("s1", "session"))
	eventually(t, func() bool { return errors.Is(f.verify(cached), validator.ErrTokenRevoked) })
}

func TestAfterALostConnectionTheWholeSetComesAgain(t *testing.T) {
	fake := newFakeStream(t, killing("first", "session")+synced)
	f := following(t, fake, validator.StreamOptions{})
	f.start(t)
	fake.set(func() { fake.begins = killing("meanwhile", "session") + synced })
	fake.cut()
	// What is known goes on being enforced while nobody is there.
	f.expect(t, f.token("first"), validator.ErrTokenRevoked)
	f.expect(t, f.token("s1"), nil)
	eventually(t, func() bool { return errors.Is(f.verify(f.token("meanwhile")), validator.ErrTokenRevoked) })
	f.expect(t, f.token("first"), validator.ErrTokenRevoked)
}

func TestWhereItWasAskedForSilenceEndsInRefusal(t *testing.T) {
	fake := newFakeStream(t, synced)
	clock := &manualClock{now: time.Unix(1_800_000_000, 0)}
	f := following(t, fake, validator.StreamOptions{RefuseAfter: 10 * time.Second, Clock: clock.read})
	f.start(t)
	clock.advance(10 * time.Second)
	f.expect(t, f.token("s1"), nil)
	clock.advance(time.Second)
	f.expect(t, f.token("s1"), validator.ErrRevocationsUnavailable)
	fake.say(": ping\n\n")
	eventually(t, func() bool { return f.stream.Usable() == nil })
	f.expect(t, f.token("s1"), nil)
}

func TestWhatItCannotReadEndsInRefusalUntilAStreamBringsAllWithoutIt(t *testing.T) {
	fake := newFakeStream(t, synced)
	f := following(t, fake, validator.StreamOptions{})
	f.start(t)
	fake.set(func() { fake.begins = killing("good", "session") + synced })
	fake.say(killing("x", "planet"))
	eventually(t, func() bool { return errors.Is(f.verify(f.token("s1")), validator.ErrRevocationsUnavailable) })
	eventually(t, func() bool { return f.stream.Usable() == nil })
	if !f.told("cannot read") {
		t.Error(f.errs)
	}
	f.expect(t, f.token("s1"), nil)
	f.expect(t, f.token("good"), validator.ErrTokenRevoked)
}

func TestARefusedKeyAndADeadConnectionAreTriedAgain(t *testing.T) {
	fake := newFakeStream(t, synced)
	fake.set(func() { fake.status = 401 })
	f := following(t, fake, validator.StreamOptions{Silence: 200 * time.Millisecond})
	started := make(chan error, 1)
	go func() { started <- f.stream.Start(ctx) }()
	eventually(t, func() bool { return f.told("401") })
	fake.set(func() { fake.status = 200 })
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return f.told("silent") })
}

func TestAKeyRefusedLaterOnEndsInRefusalUntilItIsAcceptedAgain(t *testing.T) {
	for _, status := range []int{401, 403} {
		fake := newFakeStream(t, killing("old", "session")+synced)
		f := following(t, fake, validator.StreamOptions{})
		f.start(t)
		fake.set(func() { fake.status = 500 })
		fake.cut()
		eventually(t, func() bool { return f.told("500") })
		f.expect(t, f.token("s1"), nil)
		fake.set(func() { fake.status = status })
		eventually(t, func() bool { return errors.Is(f.verify(f.token("s1")), validator.ErrRevocationsUnavailable) })
		fake.set(func() { fake.status = 200 })
		eventually(t, func() bool { return f.stream.Usable() == nil })
		f.expect(t, f.token("s1"), nil)
		f.expect(t, f.token("old"), validator.ErrTokenRevoked)
	}
}

func TestClosingTellsWhoWaits(t *testing.T) {
	f := following(t, newFakeStream(t, ""), validator.StreamOptions{})
	f.stream.Close()
	if err := f.stream.Start(ctx); !errors.Is(err, validator.ErrRevocationsUnavailable) {
		t.Fatal(err)
	}
	apart := validator.Config{
		Issuer: "i", AnyAudience: true, AnyClient: true, Stream: f.stream, Revocations: validator.NewRevocationSet(),
	}
	if _, err := validator.NewVerifier(validator.NewJwksKeysFrom(nil, validator.JwksOptions{}), apart); err == nil {
		t.Error("two sets")
	}
	for _, unsafe := range []string{"http://auth.example.com", "auth"} {
		if _, err := validator.NewRevocationStream(unsafe, validator.StreamOptions{APIKey: "ask_1"}); err == nil {
			t.Error(unsafe)
		}
	}
	if _, err := validator.NewRevocationStream("https://auth.example.com", validator.StreamOptions{}); err == nil {
		t.Error("no key")
	}
}
