package validator

import "fmt"

// Error is every refusal of this package. Code is stable and safe to show; the reason says which check refused, holds
// no part of the token, and is meant for logs: a caller who learns which check failed learns how to get past it.
//
// Compare with errors.Is and the Err values of this package.
type Error struct {
	Code   string
	Reason string
	Cause  error
}

// Error is for logs.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Code, e.Reason) }

// Unwrap gives what lies beneath.
func (e *Error) Unwrap() error { return e.Cause }

// Is says whether target names the same code.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Reason == "" && other.Code == e.Code
}

var (
	// ErrTokenInvalid: malformed, forged, not yet valid, or meant for somebody else. Answer 401.
	ErrTokenInvalid = &Error{Code: "invalid_token"}
	// ErrTokenExpired: the token was good and its time is over. Answer 401.
	ErrTokenExpired = &Error{Code: "token_expired"}
	// ErrTokenRevoked: the token is in its time, and was revoked. Answer 401.
	ErrTokenRevoked = &Error{Code: "token_revoked"}
	// ErrProofInvalid: the DPoP proof does not prove what it should (RFC 9449 §7.1). Answer 401.
	ErrProofInvalid = &Error{Code: "invalid_dpop_proof"}
	// ErrNonceNeeded: the proof is good but for the server's nonce (RFC 9449 §8). Answer 401.
	ErrNonceNeeded = &Error{Code: "use_dpop_nonce"}
	// ErrKeysUnavailable: the issuer's keys could not be loaded; nothing is known about the token. Answer 503.
	ErrKeysUnavailable = &Error{Code: "keys_unavailable"}
	// ErrRevocationsUnavailable: which tokens were revoked is not known. Answer 503.
	ErrRevocationsUnavailable = &Error{Code: "revocations_unavailable"}
	// ErrKeyRefused: a key or secret that must not be used to verify tokens.
	ErrKeyRefused = &Error{Code: "key_refused"}
)

func refuse(kind *Error, reason string, cause ...error) error {
	found := &Error{Code: kind.Code, Reason: reason}
	if len(cause) == 1 {
		found.Cause = cause[0]
	}
	return found
}

func invalid(reason string) error { return refuse(ErrTokenInvalid, reason) }
