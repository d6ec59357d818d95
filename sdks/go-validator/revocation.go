package validator

import (
	"fmt"
	"math"
	"sync"
)

// A verifier accepts a token up to its leeway past `exp`, so an entry must outlive the tokens it names by as much.
const maxLeewaySeconds = 60

var revocationKinds = []string{"session", "user", "client", "token", "key"}

type revocation struct{ at, expiresAt float64 }

// RevocationSet knows which tokens were revoked before their time; asked in constant time, from any goroutine.
//
// An entry kills every token that it names and that was issued at or before its time, in whole seconds: a token of the
// very second of the revocation is dead. An entry is dropped once the tokens it could name have expired by themselves,
// and never sooner, because forgetting one would revive them.
type RevocationSet struct {
	lock    sync.RWMutex
	entries map[string]map[string]revocation
	size    int
}

// NewRevocationSet is an empty set.
func NewRevocationSet() *RevocationSet {
	set := &RevocationSet{entries: map[string]map[string]revocation{}}
	for _, kind := range revocationKinds {
		set.entries[kind] = map[string]revocation{}
	}
	return set
}

// Len is how many entries there are.
func (s *RevocationSet) Len() int {
	s.lock.RLock()
	defer s.lock.RUnlock()
	return s.size
}

// Add revokes what ref names: a session, user, client, token or key. Tokens issued in the second `at` or before are
// dead; at `expiresAt` the last token it could name has expired. Both are Unix seconds. A repeated or older message
// changes nothing, so any order will do. An unknown kind is an error, since ignoring it would leave tokens alive.
func (s *RevocationSet) Add(kind, ref string, at, expiresAt float64) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	entries := s.entries[kind]
	if entries == nil || ref == "" {
		return fmt.Errorf("a revocation names one of %v", revocationKinds)
	}
	known, found := entries[ref]
	if !found {
		s.size++
		known = revocation{math.Inf(-1), math.Inf(-1)}
	}
	entries[ref] = revocation{
		math.Max(math.Floor(at), known.at),
		math.Max(expiresAt+maxLeewaySeconds, known.expiresAt),
	}
	return nil
}

// IsRevoked says whether any entry in force names this token.
func (s *RevocationSet) IsRevoked(claims *Claims) bool {
	s.lock.RLock()
	defer s.lock.RUnlock()
	if s.size == 0 {
		return false
	}
	return s.kills("session", claims.SessionID, claims) ||
		s.kills("user", claims.Subject, claims) ||
		s.kills("token", claims.ID, claims) ||
		s.kills("client", claims.ClientID, claims) ||
		s.kills("key", claims.KeyID, claims)
}

func (s *RevocationSet) kills(kind, ref string, claims *Claims) bool {
	entry, found := s.entries[kind][ref]
	return found && float64(claims.IssuedAt) <= entry.at
}

// ForgetExpired drops the entries whose tokens have all expired, and says how many. Call it now and then.
func (s *RevocationSet) ForgetExpired(now float64) int {
	s.lock.Lock()
	defer s.lock.Unlock()
	dropped := 0
	for _, entries := range s.entries {
		for ref, entry := range entries {
			if entry.expiresAt <= now {
				delete(entries, ref)
				dropped++
			}
		}
	}
	s.size -= dropped
	return dropped
}
