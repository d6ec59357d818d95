package validator

import (
	"context"
	"net/http"
	"sync"
	"time"
)

const (
	maxAbsentKids = 1024
	longestRetry  = 30 * time.Second
)

// JwksOptions are the settings of JwksKeys; a zero value means the default.
type JwksOptions struct {
	Timeout       time.Duration // for one fetch; 5 s
	MaxAge        time.Duration // how long keys are fresh when the answer does not say; 5 min
	LongestMaxAge time.Duration // how much of the issuer's max-age is believed; 1 h
	StaleFor      time.Duration // how long keys serve past their freshness while the issuer is away; 1 h
	Cooldown      time.Duration // least time between two fetches for unknown names, and least freshness; 5 s
	AbsentFor     time.Duration // how long a name that the issuer does not have is remembered; 30 s
	Client        *http.Client  // for a private certificate authority; redirects are never followed
	Clock         func() time.Time
}

// JwksKeys are the keys of an issuer in a JWKS mode: RS256, ES256 and EdDSA, each key bound to its own algorithm.
//
//   - However many callers need keys at once, one fetch is made and all share it.
//   - Keys are renewed in the background after four fifths of their max-age.
//   - An unknown kid may be a new key: it is looked for at once, but no more than once per Cooldown, and a name that was
//     just looked for in vain is refused without asking. A flood of invented names costs the issuer one fetch per Cooldown.
//   - While the issuer is away, the last keys serve for StaleFor more; after that ErrKeysUnavailable. One bad answer
//     (HTML, two keys of one name) counts as being away.
type JwksKeys struct {
	fetch   JwksFetcher
	options JwksOptions

	lock                             sync.RWMutex
	keys                             map[string]*Key
	generation                       uint64
	renewAt, freshUntil, usableUntil time.Time
	failures                         int
	retryAt, searchAt                time.Time
	absent                           map[string]time.Time
	absentOrder                      []string
	flight                           *flight
}

type flight struct {
	done   chan struct{}
	loaded bool
}

// NewJwksKeys takes the URL of the JWK set: https, or http on loopback.
func NewJwksKeys(address string, options JwksOptions) (*JwksKeys, error) {
	if _, err := checkURL(address); err != nil {
		return nil, err
	}
	return NewJwksKeysFrom(httpFetcher(address, options.Client), options), nil
}

// NewJwksKeysFrom takes a fetcher of your own.
func NewJwksKeysFrom(fetch JwksFetcher, options JwksOptions) *JwksKeys {
	for _, setting := range []struct {
		value     *time.Duration
		byDefault time.Duration
	}{
		{&options.Timeout, 5 * time.Second},
		{&options.MaxAge, 5 * time.Minute},
		{&options.LongestMaxAge, time.Hour},
		{&options.StaleFor, time.Hour},
		{&options.Cooldown, 5 * time.Second},
		{&options.AbsentFor, 30 * time.Second},
	} {
		if *setting.value == 0 {
			*setting.value = setting.byDefault
		}
	}
	if options.Clock == nil {
		options.Clock = time.Now
	}
	return &JwksKeys{fetch: fetch, options: options, absent: map[string]time.Time{}}
}

// Accepts says whether alg is one of RS256, ES256 and EdDSA.
func (k *JwksKeys) Accepts(alg string) bool {
	return alg == "RS256" || alg == "ES256" || alg == "EdDSA"
}

// Generation changes whenever a key is removed or replaced.
func (k *JwksKeys) Generation() uint64 {
	k.lock.RLock()
	defer k.lock.RUnlock()
	return k.generation
}

// Find is the key of this name while the keys need no renewal; it never waits.
func (k *JwksKeys) Find(kid string) *Key {
	k.lock.RLock()
	defer k.lock.RUnlock()
	if k.options.Clock().Before(k.renewAt) {
		return k.keys[kid]
	}
	return nil
}

// Get is the key of this name, renewing or loading keys where due.
func (k *JwksKeys) Get(ctx context.Context, kid string) (*Key, error) {
	if err := k.renewWhenDue(ctx); err != nil {
		return nil, err
	}
	if key := k.known(kid); key != nil {
		return key, nil
	}
	return k.search(ctx, kid)
}

// Refresh loads the keys now: to warm up before serving, or when the issuer announced a change.
func (k *JwksKeys) Refresh(ctx context.Context) error {
	if !k.load(ctx) {
		return refuse(ErrKeysUnavailable, "the issuer's keys could not be loaded")
	}
	return nil
}

func (k *JwksKeys) known(kid string) *Key {
	k.lock.RLock()
	defer k.lock.RUnlock()
	return k.keys[kid]
}

func (k *JwksKeys) renewWhenDue(ctx context.Context) error {
	k.lock.RLock()
	now := k.options.Clock()
	isDue := !now.Before(k.renewAt)
	mayTry := !now.Before(k.retryAt) || k.flight != nil
	isUnusable := !now.Before(k.usableUntil)
	// Idle past freshness: look before believing old keys. Once the issuer is known to be away, nobody waits.
	isStale := !now.Before(k.freshUntil) && k.failures == 0
	k.lock.RUnlock()
	switch {
	case !isDue:
	case isUnusable:
		if !mayTry || !k.load(ctx) {
			return refuse(ErrKeysUnavailable, "the issuer's keys could not be loaded")
		}
	case mayTry && isStale:
		k.load(ctx)
	case mayTry:
		k.start()
	}
	return nil
}

// search looks for a key that is not among the known ones, within the budget for such searches.
func (k *JwksKeys) search(ctx context.Context, kid string) (*Key, error) {
	k.lock.RLock()
	isAbsent := k.options.Clock().Before(k.absent[kid])
	k.lock.RUnlock()
	if isAbsent {
		return nil, invalid("the issuer has no key of this name")
	}
	// A fetch already under way may bring it; one that began before the key was published may not.
	if k.isFlying() && k.load(ctx) {
		if key := k.known(kid); key != nil {
			return key, nil
		}
	}
	if k.maySearch() {
		if k.load(ctx) && k.known(kid) == nil {
			k.rememberAbsent(kid)
		}
	} else if k.isFlying() {
		k.load(ctx)
	}
	k.lock.RLock()
	defer k.lock.RUnlock()
	if key := k.keys[kid]; key != nil {
		return key, nil
	}
	if k.failures > 0 {
		return nil, refuse(ErrKeysUnavailable, "the issuer could not be asked about an unknown key")
	}
	return nil, invalid("the issuer has no key of this name")
}

func (k *JwksKeys) isFlying() bool {
	k.lock.RLock()
	defer k.lock.RUnlock()
	return k.flight != nil
}

func (k *JwksKeys) maySearch() bool {
	k.lock.Lock()
	defer k.lock.Unlock()
	now := k.options.Clock()
	if now.Before(k.searchAt) {
		return false
	}
	k.searchAt = now.Add(k.options.Cooldown)
	return true
}

func (k *JwksKeys) rememberAbsent(kid string) {
	k.lock.Lock()
	defer k.lock.Unlock()
	if _, found := k.absent[kid]; !found {
		k.absentOrder = append(k.absentOrder, kid)
	}
	k.absent[kid] = k.options.Clock().Add(k.options.AbsentFor)
	if len(k.absentOrder) > maxAbsentKids {
		delete(k.absent, k.absentOrder[0])
		k.absentOrder = append([]string(nil), k.absentOrder[1:]...)
	}
}

// load waits for one fetch that all share, in a goroutine of its own: a caller who gives up must not take it away from
// the others.
func (k *JwksKeys) load(ctx context.Context) bool {
	flight := k.start()
	select {
	case <-flight.done:
		return flight.loaded
	case <-ctx.Done():
		return false
	}
}

func (k *JwksKeys) start() *flight {
	k.lock.Lock()
	defer k.lock.Unlock()
	if k.flight == nil {
		k.flight = &flight{done: make(chan struct{})}
		go k.fly(k.flight)
	}
	return k.flight
}

func (k *JwksKeys) fly(flight *flight) {
	ctx, cancel := context.WithTimeout(context.Background(), k.options.Timeout)
	defer cancel()
	fetched, keys, err := k.fetchKeys(ctx)
	k.lock.Lock()
	defer k.lock.Unlock()
	if err == nil {
		k.take(keys, fetched.MaxAge)
		flight.loaded = true
	} else {
		pause := longestRetry
		if k.failures < 5 {
			pause = time.Second << uint(k.failures)
		}
		k.failures++
		k.retryAt = k.options.Clock().Add(pause)
	}
	k.flight = nil
	close(flight.done)
}

// fetchKeys gives up at the end of ctx also on a fetcher that does not look at it.
func (k *JwksKeys) fetchKeys(ctx context.Context) (FetchedJwks, map[string]*Key, error) {
	type answer struct {
		fetched FetchedJwks
		err     error
	}
	came := make(chan answer, 1)
	go func() {
		fetched, err := k.fetch(ctx)
		came <- answer{fetched, err}
	}()
	select {
	case <-ctx.Done():
		return FetchedJwks{}, nil, ctx.Err()
	case found := <-came:
		if found.err != nil {
			return FetchedJwks{}, nil, found.err
		}
		keys, err := readJwks(found.fetched.Document)
		return found.fetched, keys, err
	}
}

func (k *JwksKeys) take(keys map[string]*Key, maxAge time.Duration) {
	for kid, key := range k.keys {
		if found := keys[kid]; found == nil || found.fingerprint != key.fingerprint {
			k.generation++
			break
		}
	}
	k.keys = keys
	fresh := maxAge
	if fresh < 0 {
		fresh = k.options.MaxAge
	}
	if fresh > k.options.LongestMaxAge {
		fresh = k.options.LongestMaxAge
	}
	if fresh < k.options.Cooldown {
		fresh = k.options.Cooldown
	}
	now := k.options.Clock()
	// Renewal starts after four fifths of the keys' life, so that traffic never waits for it.
	k.renewAt = now.Add(fresh / 5 * 4)
	k.freshUntil = now.Add(fresh)
	k.usableUntil = k.freshUntil.Add(k.options.StaleFor)
	k.failures = 0
	k.retryAt = time.Time{}
}
