package validator

import (
	"bytes"
	"compress/zlib"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	statusListPath   = "/.well-known/status-lists/"
	maxListJwtLength = 512 * 1024
	maxListOctets    = 1024 * 1024
	listRetry        = time.Second
)

var (
	statusListTypes  = []string{"statuslist+jwt", "application/statuslist+jwt"}
	statusListNumber = regexp.MustCompile(`^[0-9]{1,12}$`)
)

// StatusListOptions are the settings of StatusLists; a zero value means the default.
type StatusListOptions struct {
	// Issuer is the exact value of `iss`, and where the lists are.
	Issuer string
	// MaxAge is the longest that a list is kept, whatever its `ttl` says; by default that is believed.
	MaxAge time.Duration
	// MaxLists is how many are kept; 64.
	MaxLists int
	// Timeout is for one fetch; 5 s.
	Timeout time.Duration
	Client  *http.Client
	// Fetch is a fetcher of your own: it answers the list at an address, as compact JWT.
	Fetch func(ctx context.Context, uri string) (string, error)
	Clock func() time.Time
}

// StatusLists say by the issuer's token status lists (draft-ietf-oauth-status-list-21) whether tokens were revoked, for
// validators that follow no stream. Give them to Config.
//
// A list is fetched when a token first names it, however many do at once, and renewed in the background after four
// fifths of its `ttl`. While the issuer is away the last one is gone by until its `exp`; then, and where there never was
// one, the answer is ErrRevocationsUnavailable. Only addresses of the issuer's own lists are asked. A token without a
// list (of a service account) passes: let the stream tell of those.
type StatusLists struct {
	keys    KeySource
	options StatusListOptions
	prefix  string

	lock  sync.Mutex
	held  map[string]*heldList
	order []string
}

type statusList struct {
	octets    []byte
	bits      int64
	ttl       time.Duration
	expiresAt time.Time
}

type heldList struct {
	list                         *statusList
	renewAt, freshUntil, retryAt time.Time
	flight                       chan struct{}
}

// NewStatusLists takes JwksKeys: lists are signed with the issuer's own keys, which are in every client's set and
// have names that begin with `issuer.`; what another key signs is no list.
func NewStatusLists(keys KeySource, options StatusListOptions) (*StatusLists, error) {
	if keys.Accepts("HS256") {
		return nil, errors.New("status lists are signed with public keys: give the issuer's JwksKeys")
	}
	if _, err := checkURL(options.Issuer); err != nil {
		return nil, err
	}
	if options.MaxAge == 0 {
		options.MaxAge = math.MaxInt64
	}
	if options.MaxLists == 0 {
		options.MaxLists = 64
	}
	if options.Timeout == 0 {
		options.Timeout = 5 * time.Second
	}
	if options.Clock == nil {
		options.Clock = time.Now
	}
	if options.Fetch == nil {
		client := withoutRedirects(options.Client)
		options.Fetch = func(ctx context.Context, uri string) (string, error) {
			body, _, err := fetchBody(ctx, client, uri, "application/statuslist+jwt", maxListJwtLength)
			return string(body), err
		}
	}
	prefix := strings.TrimSuffix(options.Issuer, "/") + statusListPath
	return &StatusLists{keys: keys, options: options, prefix: prefix, held: map[string]*heldList{}}, nil
}

// Check checks a token. It waits only for a list that has to be loaded.
func (s *StatusLists) Check(ctx context.Context, claims *Claims) error {
	uri, index, err := s.named(claims)
	if err != nil || uri == "" {
		return err
	}
	list := s.atHand(uri)
	if list == nil {
		if list, err = s.load(ctx, uri); err != nil {
			return err
		}
	}
	status, err := list.status(index)
	if err == nil && status != 0 {
		err = refuse(ErrTokenRevoked, "the token was revoked, says its status list")
	}
	return err
}

// named gives the list and the place that a token names (§6.2), "" when it names none.
func (s *StatusLists) named(claims *Claims) (string, int64, error) {
	status, isObject := claims.All["status"].(map[string]any)
	if !isObject && claims.All["status"] != nil {
		return "", 0, invalid("status is not an object")
	}
	named, found := status["status_list"]
	if !found {
		return "", 0, nil
	}
	place, isPlace := named.(map[string]any)
	uri, isAddress := place["uri"].(string)
	index, isNumber := place["idx"].(float64)
	if !isPlace || !isAddress || !isNumber || index != math.Trunc(index) || index < 0 || index >= 1<<53 {
		return "", 0, invalid("status_list lacks a place or an address")
	}
	// Who signs tokens chooses what is written here; where we go for it, the configuration does.
	if !strings.HasPrefix(uri, s.prefix) || !statusListNumber.MatchString(uri[len(s.prefix):]) {
		return "", 0, invalid("the status list is not one of the issuer's")
	}
	return uri, int64(index), nil
}

// atHand is the list of this address while it can be gone by without waiting; it may start a renewal.
func (s *StatusLists) atHand(uri string) *statusList {
	s.lock.Lock()
	defer s.lock.Unlock()
	held, now := s.held[uri], s.options.Clock()
	if held == nil || held.list == nil {
		return nil
	}
	// After a failure nobody waits for the next try, as long as the last list can be gone by.
	if !now.Before(held.freshUntil) && !(now.Before(held.retryAt) && now.Before(held.list.expiresAt)) {
		return nil
	}
	if !now.Before(held.renewAt) && !now.Before(held.retryAt) {
		s.start(uri, held)
	}
	return held.list
}

func (s *StatusLists) load(ctx context.Context, uri string) (*statusList, error) {
	s.lock.Lock()
	held := s.held[uri]
	if held == nil {
		held = &heldList{}
		s.held[uri] = held
		s.order = append(s.order, uri)
		if len(s.order) > s.options.MaxLists {
			delete(s.held, s.order[0])
			s.order = append([]string(nil), s.order[1:]...)
		}
	}
	var flight chan struct{}
	if !s.options.Clock().Before(held.retryAt) {
		flight = s.start(uri, held)
	}
	s.lock.Unlock()
	if flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
		}
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if held.list == nil || !s.options.Clock().Before(held.list.expiresAt) {
		return nil, refuse(ErrRevocationsUnavailable, "the status list of the token could not be loaded")
	}
	return held.list, nil
}

// start begins one fetch that all share; the lock is held.
func (s *StatusLists) start(uri string, held *heldList) chan struct{} {
	if held.flight == nil {
		held.flight = make(chan struct{})
		go s.fly(uri, held, held.flight)
	}
	return held.flight
}

func (s *StatusLists) fly(uri string, held *heldList, done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), s.options.Timeout)
	defer cancel()
	list, err := s.fetch(ctx, uri)
	s.lock.Lock()
	defer s.lock.Unlock()
	now := s.options.Clock()
	if err != nil {
		held.retryAt = now.Add(listRetry)
	} else {
		fresh := list.ttl
		if fresh > s.options.MaxAge {
			fresh = s.options.MaxAge
		}
		held.list, held.retryAt = list, time.Time{}
		held.freshUntil, held.renewAt = now.Add(fresh), now.Add(fresh/5*4)
	}
	held.flight = nil
	close(done)
}

// fetch gives up at the end of ctx also on a fetcher that does not look at it.
func (s *StatusLists) fetch(ctx context.Context, uri string) (*statusList, error) {
	type answer struct {
		text string
		err  error
	}
	came := make(chan answer, 1)
	go func() {
		text, err := s.options.Fetch(ctx, uri)
		came <- answer{text, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case found := <-came:
		if found.err != nil {
			return nil, found.err
		}
		return s.read(ctx, found.text, uri)
	}
}

// read verifies a list that was got from uri (§8.3).
func (s *StatusLists) read(ctx context.Context, text, uri string) (*statusList, error) {
	parts, err := split(text, maxListJwtLength)
	if err != nil {
		return nil, err
	}
	head, err := readIssuerHeader(parts.header, statusListTypes)
	if err != nil {
		return nil, err
	}
	if _, err := checkSignature(ctx, s.keys, head, parts); err != nil {
		return nil, err
	}
	payload, err := readPart(parts.payload)
	if err != nil {
		return nil, err
	}
	if payload["iss"] != s.options.Issuer || payload["sub"] != uri {
		return nil, invalid("the status list is another one")
	}
	var times [3]float64
	for index, name := range []string{"iat", "exp", "ttl"} {
		number, isNumber := payload[name].(float64)
		if !isNumber || number <= 0 || number > latest {
			return nil, invalid(name + " of the status list is not a positive number")
		}
		times[index] = number
	}
	now := s.options.Clock()
	expiresAt := time.Unix(int64(times[1]), 0)
	if time.Unix(int64(times[0]), 0).After(now.Add(maxIssuedAhead)) || !now.Before(expiresAt) {
		return nil, invalid("the status list is not of this time")
	}
	octets, bits, err := unpacked(payload["status_list"])
	if err != nil {
		return nil, err
	}
	ttl := time.Duration(math.Min(times[2], 1e9)) * time.Second
	return &statusList{octets, bits, ttl, expiresAt}, nil
}

// unpacked gives the octets of a list and the bits of one status (§4.2).
func unpacked(value any) ([]byte, int64, error) {
	listed, _ := value.(map[string]any)
	bits, _ := listed["bits"].(float64)
	text, isText := listed["lst"].(string)
	if !isText || (bits != 1 && bits != 2 && bits != 4 && bits != 8) {
		return nil, 0, invalid("the status list cannot be read")
	}
	packed, err := decodeBase64url(text)
	if err != nil {
		return nil, 0, err
	}
	// A bytes.Reader is read no further than the list goes, so that what follows it is left.
	source := bytes.NewReader(packed)
	inflater, err := zlib.NewReader(source)
	if err != nil {
		return nil, 0, refuse(ErrTokenInvalid, "the status list is not compressed by ZLIB", err)
	}
	octets, err := io.ReadAll(io.LimitReader(inflater, maxListOctets+1))
	if err != nil || len(octets) > maxListOctets || source.Len() != 0 {
		return nil, 0, refuse(ErrTokenInvalid, "the status list is too large, cut short, or followed by something", err)
	}
	return octets, int64(bits), nil
}

// status is the status of a token: 0 is good.
func (l *statusList) status(index int64) (byte, error) {
	if index > int64(len(l.octets))*8/l.bits {
		return 0, invalid("the token names a place that its status list does not have")
	}
	octet, place := index*l.bits/8, index*l.bits%8
	if octet >= int64(len(l.octets)) {
		return 0, invalid("the token names a place that its status list does not have")
	}
	return l.octets[octet] >> uint(place) & (1<<uint(l.bits) - 1), nil
}
