/** Revocations still in force, asked on every call. */

// A verifier accepts a token up to its leeway past `exp`, so an entry must outlive the tokens it names by as
// much.
export const MAX_LEEWAY_SECONDS = 60;

/** What the `ref` of a revocation names. */
export const REVOCATION_KINDS = Object.freeze(['session', 'user', 'client', 'token', 'key']);

/**
 * Knows which tokens were revoked before their time; asked in constant time.
 *
 * An entry kills every token that it names and that was issued at or before its `at`, in whole seconds: a token
 * of the very second of the revocation is dead. An entry is dropped once the tokens it could name have expired
 * by themselves, and never sooner, because forgetting one would revive them.
 */
export class RevocationSet {
  /** @type {Map<string, Map<string, { at: number, expiresAt: number }>>} */
  #kinds = new Map(REVOCATION_KINDS.map((kind) => [kind, new Map()]));
  #size = 0;

  get size() {
    return this.#size;
  }

  /**
   * Revoke what `ref` names; a repeated or older message changes nothing, so any order will do.
   *
   * @param {string} kind one of `REVOCATION_KINDS`; another is an error, since ignoring it would leave tokens alive
   * @param {string} ref session, user, tenant, token or key
   * @param {number} at Unix seconds: tokens issued in this second or before are dead
   * @param {number} expiresAt Unix seconds: when the last token it could name has expired
   */
  add(kind, ref, at, expiresAt) {
    const entries = this.#kinds.get(kind);
    if (entries === undefined) throw new RangeError(`a revocation's kind is one of ${REVOCATION_KINDS.join(', ')}`);
    if (typeof ref !== 'string' || ref === '') throw new TypeError("a revocation's ref is a non-empty string");
    if (!Number.isFinite(at) || !Number.isFinite(expiresAt)) throw new TypeError("a revocation's times are numbers");
    const known = entries.get(ref);
    if (known === undefined) this.#size += 1;
    entries.set(ref, {
      at: Math.max(Math.floor(at), known?.at ?? -Infinity),
      expiresAt: Math.max(expiresAt + MAX_LEEWAY_SECONDS, known?.expiresAt ?? -Infinity),
    });
  }

  /**
   * Whether any entry in force names this token.
   *
   * @param {import('./index.js').VerifiedClaims} claims
   */
  isRevoked(claims) {
    if (this.#size === 0) return false;
    return (
      this.#kills('session', claims.sid, claims.iat) ||
      this.#kills('user', claims.sub, claims.iat) ||
      this.#kills('token', claims.jti, claims.iat) ||
      this.#kills('client', claims.clientId, claims.iat) ||
      this.#kills('key', claims.kid, claims.iat)
    );
  }

  /**
   * Drop the entries whose tokens have all expired; how many. Call it now and then.
   *
   * @param {number} now Unix seconds
   */
  forgetExpired(now) {
    let dropped = 0;
    for (const entries of this.#kinds.values()) {
      for (const [ref, entry] of entries) {
        if (entry.expiresAt <= now && entries.delete(ref)) dropped += 1;
      }
    }
    this.#size -= dropped;
    return dropped;
  }

  /** @param {string} kind @param {string | undefined} ref @param {number} issued */
  #kills(kind, ref, issued) {
    const entry = ref === undefined ? undefined : this.#kinds.get(kind)?.get(ref);
    return entry !== undefined && issued <= entry.at;
  }
}
