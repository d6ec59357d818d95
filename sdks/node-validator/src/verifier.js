/** The verifier: one strict path from a string to claims, and a cache in front of it. */

import { createHash } from 'node:crypto';

import { readClaims } from './claims.js';
import { TokenExpired, TokenInvalid, TokenRevoked } from './errors.js';
import { decodeBase64url, MAX_TOKEN_LENGTH, readHeader, readObject, split } from './jose.js';
import { MAX_LEEWAY_SECONDS, RevocationSet } from './revocation.js';

// `iat` says when a token was issued, not from when on it holds (RFC 7519 §4.1.6): that is `nbf`, which the
// issuer sets for clocks that differ. It is refused only when further ahead than clocks of one system can be.
const MAX_ISSUED_AHEAD_SECONDS = 120;
/** Headers that signed something; an issuer has one per key in use. */
const MAX_KNOWN_HEADERS = 64;

/**
 * Verifies access tokens of one issuer: signature, type, times, audience, tenant, use, revocation.
 *
 * It does not check scopes or roles, nor the proof that a `cnf` claim demands: `ProtectedResource` does. A
 * verified token is remembered by its SHA-256, never by its text, for at most `cacheTtl` and never past its own
 * end; revocations are asked on every call, and a key that its source drops takes its tokens along.
 */
export class TokenVerifier {
  #keys;
  #issuer;
  #audience;
  #clientId;
  #tokenUses;
  #leeway;
  #cacheSize;
  #cacheTtl;
  #feed;
  #statusLists;
  /** @type {Map<string, { claims: import('./index.js').VerifiedClaims, until: number, generation: number }>} */
  #cache = new Map();
  /** @type {Map<string, { alg: string, kid: string }>} */
  #headers = new Map();

  /**
   * @param {import('./index.js').KeySource} keys decides which algorithms exist
   * @param {import('./index.js').VerifierOptions} options
   */
  constructor(keys, options) {
    const { issuer, audience, clientId, tokenUses = ['access'], leeway = 30 } = options;
    if (!issuer || audience === '' || clientId === '') {
      throw new TypeError('issuer, audience and clientId must not be empty strings');
    }
    if (typeof tokenUses === 'string' || [...tokenUses].length === 0) throw new TypeError('tokenUses is a non-empty list of words');
    if (!(leeway >= 0 && leeway <= MAX_LEEWAY_SECONDS)) throw new RangeError('leeway is between 0 and 60 s');
    if (options.revocations && options.revocationStream && options.revocations !== options.revocationStream.revocations) {
      throw new TypeError("the stream would fill another set than is asked: give the stream's, or none");
    }
    this.#keys = keys;
    this.#issuer = issuer;
    this.#audience = audience ?? undefined;
    this.#clientId = clientId ?? undefined;
    this.#tokenUses = new Set(tokenUses);
    this.#leeway = leeway;
    this.#cacheSize = options.cacheSize ?? 10_000;
    this.#cacheTtl = options.cacheTtl ?? 60;
    this.#feed = options.revocationStream;
    this.#statusLists = options.statusLists;
    this.revocations = options.revocations ?? this.#feed?.revocations ?? new RevocationSet();
    this.clock = options.clock ?? (() => Date.now() / 1000);
  }

  /**
   * The claims of a token verified before and good still; undefined says only: ask `verify`.
   *
   * @param {string} token
   */
  cached(token) {
    const digest = digestOf(token);
    if (digest === undefined) return undefined;
    this.#feed?.assertUsable();
    return this.#remembered(digest);
  }

  /**
   * Verify a token. Waits only for keys that have to be loaded.
   *
   * @param {string} token
   * @returns {Promise<import('./index.js').VerifiedClaims>}
   */
  async verify(token) {
    this.#feed?.assertUsable();
    const digest = digestOf(token);
    const known = digest === undefined ? undefined : this.#remembered(digest);
    if (known !== undefined) return known;
    const parts = split(token);
    const header = this.#headers.get(parts.header) ?? readHeader(parts.header);
    if (!this.#keys.algorithms.has(header.alg)) throw new TokenInvalid("the algorithm is not one of this issuer's");
    const key = this.#keys.find(header.kid) ?? (await this.#keys.get(header.kid));
    if (header.alg !== key.alg) throw new TokenInvalid("the algorithm is not the key's");
    const generation = this.#keys.generation;
    if (!key.verifies(parts.signingInput, parts.signature)) throw new TokenInvalid('the signature does not fit');
    if (this.#headers.size < MAX_KNOWN_HEADERS) this.#headers.set(parts.header, header);
    // Only now is the payload read: what nobody signed never reaches the parser.
    const claims = readClaims(readObject(decodeBase64url(parts.payload)), header.kid);
    this.#check(claims);
    await this.#statusLists?.check(claims);
    if (digest !== undefined) this.#remember(digest, claims, generation);
    return claims;
  }

  /** Drop every remembered token, so that each is verified anew. */
  forget() {
    this.#cache.clear();
  }

  /** @param {import('./index.js').VerifiedClaims} claims */
  #check(claims) {
    if (claims.iss !== this.#issuer) throw new TokenInvalid('the token is of another issuer');
    if (this.#audience !== undefined && !(claims.aud.length === 1 && claims.aud[0] === this.#audience)) {
      throw new TokenInvalid('the token is for another audience');
    }
    if (this.#clientId !== undefined && claims.clientId !== this.#clientId) {
      throw new TokenInvalid('the token is of another client');
    }
    if (!this.#tokenUses.has(claims.tokenUse)) throw new TokenInvalid('the token is for another use');
    const now = this.clock();
    if ((claims.nbf ?? claims.iat) > now + this.#leeway || claims.iat > now + MAX_ISSUED_AHEAD_SECONDS) {
      throw new TokenInvalid('the token is not valid yet');
    }
    if (now >= claims.exp + this.#leeway) throw new TokenExpired('the token has expired');
    if (this.revocations.isRevoked(claims)) throw new TokenRevoked('the token was revoked');
  }

  /** @param {string} digest */
  #remembered(digest) {
    const entry = this.#cache.get(digest);
    if (entry === undefined) return undefined;
    const holds = this.clock() < entry.until && entry.generation === this.#keys.generation;
    const isListedGood = this.#statusLists === undefined || this.#statusLists.peek(entry.claims) === true;
    if (holds && !this.revocations.isRevoked(entry.claims) && isListedGood) return entry.claims;
    this.#cache.delete(digest);
    return undefined;
  }

  /** @param {string} digest @param {import('./index.js').VerifiedClaims} claims @param {number} generation */
  #remember(digest, claims, generation) {
    if (this.#cacheSize <= 0) return;
    const until = Math.min(claims.exp + this.#leeway, this.clock() + this.#cacheTtl);
    this.#cache.set(digest, { claims, until, generation });
    // The oldest goes first. Entries live a minute, so a busy token is soon young again.
    if (this.#cache.size > this.#cacheSize) this.#cache.delete(/** @type {string} */ (this.#cache.keys().next().value));
  }
}

/** The cache key, or undefined for what cannot be a token; `split` says why. @param {unknown} token */
function digestOf(token) {
  if (typeof token !== 'string' || token.length > MAX_TOKEN_LENGTH) return undefined;
  return createHash('sha256').update(token).digest('base64');
}
