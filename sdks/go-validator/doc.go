// Package validator validates AuthService access tokens: signature, type, times, issuer, audience, tenant, use and
// revocation, and lets requests through to net/http handlers only with a good one.
//
// It has no dependencies. Verifier turns a token into Claims; it takes its keys from JwksKeys (clients in a JWKS
// mode) or HmacKey (clients in v1_hs256 mode), and what was revoked from a RevocationStream. Resource protects
// handlers, checks DPoP proofs, and answers by RFC 6750, RFC 9449, RFC 9470 and RFC 9728.
package validator
