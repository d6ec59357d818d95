package validator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// The issuer says something every second; silence of this long is a dead connection.
	streamSilence  = 3 * time.Second
	firstRetry     = 250 * time.Millisecond
	longestPause   = 5 * time.Second
	maxEventLength = 64 * 1024
)

type streamState string

const (
	stateLoading streamState = "loading"
	stateCurrent streamState = "current"
	stateBroken  streamState = "broken"
)

// revocationReader reads text/event-stream (WHATWG HTML §9.2.6) as it comes, in pieces of any size, into a set.
//
// Its state is `loading` until all that was in force has come, then `current`; `broken` for good once something came
// that cannot be read, for it may have named any token. What comes after still counts.
type revocationReader struct {
	revocations *RevocationSet
	state       streamState
	line        []byte
	isAfterCr   bool
	isBegun     bool
	name        string
	data        []string
	length      int
}

func (r *revocationReader) feed(piece []byte) error {
	for _, character := range piece {
		// CR LF is one end of a line, also when the two come in different pieces.
		isSecondHalf := character == '\n' && r.isAfterCr
		r.isAfterCr = character == '\r'
		switch {
		case isSecondHalf:
		case character == '\n' || character == '\r':
			r.take(string(r.line))
			r.line = r.line[:0]
		default:
			r.line = append(r.line, character)
		}
	}
	if len(r.line)+r.length > maxEventLength {
		return errors.New("an event of the stream is too large")
	}
	return nil
}

func (r *revocationReader) take(line string) {
	if !r.isBegun {
		line = strings.TrimPrefix(line, "\ufeff")
		r.isBegun = true
	}
	if line == "" {
		r.dispatch()
		return
	}
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "event":
		r.name = value
	case "data":
		r.data = append(r.data, value)
		r.length += len(value)
	}
}

func (r *revocationReader) dispatch() {
	name, data := r.name, strings.Join(r.data, "\n")
	r.name, r.data, r.length = "", nil, 0
	if name == "synced" && r.state == stateLoading {
		r.state = stateCurrent
	}
	if name == "revocation" && r.add(data) != nil {
		r.state = stateBroken
	}
}

func (r *revocationReader) add(data string) error {
	members, err := readObject([]byte(data))
	if err != nil {
		return err
	}
	kind, isKind := members["kind"].(string)
	ref, isRef := members["ref"].(string)
	at, isAt := members["at"].(float64)
	expiresAt, isExpiry := members["expires_at"].(float64)
	if !isKind || !isRef || !isAt || !isExpiry {
		return errors.New("a member has another type")
	}
	return r.revocations.Add(kind, ref, at, expiresAt)
}

// StreamOptions are the settings of a RevocationStream; a zero value means the default.
type StreamOptions struct {
	// APIKey is a secret API key of the client whose tokens are accepted.
	APIKey string
	// RefuseAfter is the silence after which tokens are refused; by default what is known stays in force, without end.
	RefuseAfter time.Duration
	// Silence is after what time a connection is dead; 3 s. The issuer says something every second.
	Silence     time.Duration
	Revocations *RevocationSet
	Client      *http.Client
	Clock       func() time.Time
	// OnError is told why a connection ended, for your log.
	OnError func(error)
}

// RevocationStream keeps a RevocationSet up to date from GET /api/revocations/stream, and connects again for ever.
//
// Until the whole set has come once, Usable is an error: nobody knows which tokens are dead. The same while the issuer
// refuses the key (401, 403) or says something that this version cannot read. While the issuer is away, what is known
// goes on being enforced, for at most RefuseAfter where that is given.
type RevocationStream struct {
	url     string
	options StreamOptions
	client  *http.Client
	synced  chan struct{}
	begin   sync.Once
	stop    context.CancelFunc
	stopped context.Context

	lock       sync.RWMutex
	isComplete bool
	heardAt    time.Time
	forgetAt   time.Time
}

// NewRevocationStream takes AuthService's address. Nothing is asked before Start.
func NewRevocationStream(issuer string, options StreamOptions) (*RevocationStream, error) {
	if _, err := checkURL(issuer); err != nil {
		return nil, err
	}
	if options.APIKey == "" {
		return nil, errors.New("the stream needs a secret API key")
	}
	if options.Revocations == nil {
		options.Revocations = NewRevocationSet()
	}
	if options.Silence == 0 {
		options.Silence = streamSilence
	}
	if options.Clock == nil {
		options.Clock = time.Now
	}
	if options.OnError == nil {
		options.OnError = func(error) {}
	}
	stopped, stop := context.WithCancel(context.Background())
	return &RevocationStream{
		url:     strings.TrimSuffix(issuer, "/") + "/api/revocations/stream",
		options: options,
		client:  withoutRedirects(options.Client),
		synced:  make(chan struct{}),
		stop:    stop,
		stopped: stopped,
	}, nil
}

// Revocations is the set that the stream fills.
func (s *RevocationStream) Revocations() *RevocationSet { return s.options.Revocations }

// Usable is ErrRevocationsUnavailable while it is not known which tokens are dead.
func (s *RevocationStream) Usable() error {
	s.lock.RLock()
	defer s.lock.RUnlock()
	isSilent := s.options.RefuseAfter > 0 && s.options.Clock().Sub(s.heardAt) > s.options.RefuseAfter
	if !s.isComplete || isSilent {
		return refuse(ErrRevocationsUnavailable, "which tokens were revoked is not known")
	}
	return nil
}

// Start begins to follow, and returns once the whole set has come. Call it before serving. It goes on following when
// ctx ends; Close ends that.
func (s *RevocationStream) Start(ctx context.Context) error {
	s.begin.Do(func() { go s.follow() })
	select {
	case <-s.synced:
		return nil
	case <-s.stopped.Done():
		return refuse(ErrRevocationsUnavailable, "the stream was closed")
	case <-ctx.Done():
		return refuse(ErrRevocationsUnavailable, "the whole set has not come in time", ctx.Err())
	}
}

// Close stops following. What is known stays in force.
func (s *RevocationStream) Close() { s.stop() }

func (s *RevocationStream) follow() {
	pause := firstRetry
	for s.stopped.Err() == nil {
		began := time.Now()
		if err := s.connect(); err != nil && s.stopped.Err() == nil {
			s.options.OnError(err)
		}
		// A connection that lived was good: begin anew at once. Otherwise ever slower, and not all in step.
		if pause *= 2; pause > longestPause {
			pause = longestPause
		}
		if time.Since(began) > longestPause {
			pause = firstRetry
		}
		select {
		case <-time.After(pause/2 + time.Duration(rand.Int63n(int64(pause/2)))):
		case <-s.stopped.Done():
		}
	}
}

func (s *RevocationStream) connect() error {
	ctx, cancel := context.WithCancel(s.stopped)
	defer cancel()
	watchdog := time.AfterFunc(s.options.Silence, cancel)
	defer watchdog.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream")
	request.Header.Set("X-API-Key", s.options.APIKey)
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden {
		// Nobody tells this key any more what is revoked: what is known is not all.
		s.lock.Lock()
		s.isComplete = false
		s.lock.Unlock()
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the issuer answered %d", response.StatusCode)
	}
	reader := &revocationReader{revocations: s.options.Revocations, state: stateLoading}
	piece := make([]byte, 16*1024)
	for {
		count, err := response.Body.Read(piece)
		if count > 0 {
			watchdog.Reset(s.options.Silence)
			if err := s.take(reader, piece[:count]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return errors.New("the stream ended")
		}
		if err != nil {
			return fmt.Errorf("the stream broke off, or fell silent: %w", err)
		}
	}
}

func (s *RevocationStream) take(reader *revocationReader, piece []byte) error {
	if err := reader.feed(piece); err != nil {
		return err
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if reader.state == stateBroken {
		// Only a stream that brings the whole set without it helps: perhaps after an update of this package.
		s.isComplete = false
		return errors.New("the stream said something that this version cannot read")
	}
	now := s.options.Clock()
	if reader.state == stateCurrent {
		// Only from here on: a connection that has not said all yet says nothing about what is known.
		s.isComplete, s.heardAt = true, now
		select {
		case <-s.synced:
		default:
			close(s.synced)
		}
	}
	if !now.Before(s.forgetAt) {
		s.forgetAt = now.Add(time.Minute)
		s.options.Revocations.ForgetExpired(float64(now.Unix()))
	}
	return nil
}
