/**
 * Why a token was not accepted.
 *
 *     ValidatorError
 *     ├── TokenError                  the token is at fault: answer 401
 *     │   ├── TokenInvalid            invalid_token
 *     │   ├── TokenExpired            token_expired
 *     │   └── TokenRevoked            token_revoked
 *     ├── ProofError                  the DPoP proof is at fault: answer 401
 *     │   ├── ProofInvalid            invalid_dpop_proof
 *     │   └── NonceNeeded             use_dpop_nonce
 *     ├── KeysUnavailable             keys_unavailable: nothing is known about the token, answer 503
 *     └── RevocationsUnavailable      revocations_unavailable: nobody knows whether it still holds, answer 503
 *
 * `code` is stable and safe to show. The message says which check refused the token; it holds no part of the
 * token and is meant for logs: a caller who learns which check failed learns how to get past it.
 */

export class ValidatorError extends Error {
  /** @param {string} message for logs @param {ErrorOptions} [options] */
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }

  get code() {
    return 'validator_error';
  }
}

/** The token must not be believed. */
export class TokenError extends ValidatorError {
  get code() {
    return 'invalid_token';
  }
}

/** The token is malformed, forged, not yet valid, or meant for somebody else. */
export class TokenInvalid extends TokenError {}

/** The token was good and its time is over. */
export class TokenExpired extends TokenError {
  get code() {
    return 'token_expired';
  }
}

/** The token is in its time, and was revoked. */
export class TokenRevoked extends TokenError {
  get code() {
    return 'token_revoked';
  }
}

/** The DPoP proof does not prove what it should (RFC 9449 §7.1). */
export class ProofError extends ValidatorError {
  get code() {
    return 'invalid_dpop_proof';
  }
}

/** The proof is malformed, forged, old, used before, or for another request, token or key. */
export class ProofInvalid extends ProofError {}

/** The proof is good but for the server's nonce (RFC 9449 §8). */
export class NonceNeeded extends ProofError {
  get code() {
    return 'use_dpop_nonce';
  }
}

/** The issuer's keys could not be loaded, so the token can be neither accepted nor refused. */
export class KeysUnavailable extends ValidatorError {
  get code() {
    return 'keys_unavailable';
  }
}

/** Revocations have not come for too long, and the verifier was told not to go on without them. */
export class RevocationsUnavailable extends ValidatorError {
  get code() {
    return 'revocations_unavailable';
  }
}

/** A key or secret that must not be used to verify tokens; the message holds none of it. */
export class KeyRefused extends ValidatorError {
  get code() {
    return 'key_refused';
  }
}
