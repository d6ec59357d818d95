/** DPoP proofs (RFC 9449): that who sends a token also holds the key it is bound to. */

import { createHash, timingSafeEqual } from 'node:crypto';

import { KeyRefused, NonceNeeded, ProofInvalid, TokenInvalid } from './errors.js';
import { decodeBase64url, readObject, refuseParameters, split } from './jose.js';
import { readPublicJwk } from './keys.js';

/** What a proof may be signed with, as `algs` of a challenge names it. */
export const PROOF_ALGORITHMS = Object.freeze(['ES256', 'EdDSA', 'RS256']);

const MAX_PROOF_LENGTH = 8 * 1024;
const MAX_TEXT_LENGTH = 512;
const MAX_KNOWN_PROOFS = 100_000;

/**
 * The thumbprint of a public JWK (RFC 7638): what a token's `cnf.jkt` names.
 *
 * @param {Record<string, unknown>} jwk
 */
export function jwkThumbprint(jwk) {
  return sha256(readPublicJwk(jwk).fingerprint);
}

/**
 * Checks proofs, and takes each one once.
 *
 * What was used is remembered in this process. Several processes of one service that must not let a proof pass
 * once in each share a store: `used(id, until)` answers whether `id` was new, and remembers it until then.
 */
export class ProofVerifier {
  #maxAge;
  #leeway;
  #clock;
  #used;
  /** @type {Map<string, number>} */
  #known = new Map();

  /** @param {import('./index.js').ProofOptions} [options] */
  constructor({ maxAge = 60, leeway = 30, clock, used } = {}) {
    if (!(maxAge > 0 && maxAge <= 300)) throw new RangeError('maxAge is between 0 and 300 s');
    if (!(leeway >= 0 && leeway <= 60)) throw new RangeError('leeway is between 0 and 60 s');
    this.#maxAge = maxAge;
    this.#leeway = leeway;
    this.#clock = clock ?? (() => Date.now() / 1000);
    this.#used = used ?? ((id, until) => this.#isNew(id, until));
  }

  /**
   * Check a proof (RFC 9449 §4.3) and use it up.
   *
   * @param {unknown} proof
   * @param {import('./index.js').ProofRequest} request
   * @returns {Promise<{ jkt: string, jti: string }>}
   */
  async verify(proof, request) {
    const found = this.check(proof, request);
    const id = sha256(`${found.jkt} ${found.jti}`);
    if (!(await this.#used(id, found.expiresAt))) throw new ProofInvalid('the proof was used before');
    return { jkt: found.jkt, jti: found.jti };
  }

  /**
   * Check a proof without using it up: for a caller who sees to it that each is taken once.
   *
   * @param {unknown} proof
   * @param {import('./index.js').ProofRequest} request
   */
  check(proof, { method, url, accessToken, jkt, nonce }) {
    try {
      const { key, claims } = open(proof);
      const jti = text(claims, 'jti');
      if (text(claims, 'htm') !== method) throw new ProofInvalid('the proof is for another method');
      if (normalized(text(claims, 'htu')) !== normalized(url)) throw new ProofInvalid('the proof is for another address');
      const { iat } = claims;
      if (typeof iat !== 'number') throw new ProofInvalid('iat is not a number');
      const [now, expiresAt] = [this.#clock(), iat + this.#maxAge];
      if (iat > now + this.#leeway || now >= expiresAt) throw new ProofInvalid('the proof is of another time');
      if (accessToken !== undefined && !equal(text(claims, 'ath'), sha256(accessToken))) {
        throw new ProofInvalid('the proof is for another token');
      }
      const thumbprint = sha256(key.fingerprint);
      if (jkt !== undefined && !equal(jkt, thumbprint)) throw new ProofInvalid('the proof is by another key');
      const said = Object.hasOwn(claims, 'nonce') ? text(claims, 'nonce') : undefined;
      if (nonce !== undefined && (said === undefined || !equal(said, nonce))) {
        throw new NonceNeeded("the proof lacks the server's nonce");
      }
      return { jkt: thumbprint, jti, nonce: said, expiresAt };
    } catch (error) {
      if (error instanceof TokenInvalid || error instanceof KeyRefused) throw new ProofInvalid(error.message, { cause: error });
      throw error;
    }
  }

  /** @param {string} id @param {number} until */
  #isNew(id, until) {
    const now = this.#clock();
    if ((this.#known.get(id) ?? -Infinity) >= now) return false;
    this.#known.delete(id);
    this.#known.set(id, until);
    // In the order they came, which is nearly that in which they end. Past the bound the oldest goes: only who
    // holds good tokens and keys can get there.
    for (const [known, end] of this.#known) {
      if (end >= now && this.#known.size <= MAX_KNOWN_PROOFS) break;
      this.#known.delete(known);
    }
    return true;
  }
}

/** One well-formed JWT of the right type, signed by the key it carries. @param {unknown} proof */
function open(proof) {
  if (typeof proof === 'string' && proof.length > MAX_PROOF_LENGTH) throw new ProofInvalid('the proof is longer than 8 KiB');
  const parts = split(proof);
  const header = readObject(decodeBase64url(parts.header));
  refuseParameters(header);
  if (header.typ !== 'dpop+jwt') throw new ProofInvalid('not a DPoP proof (typ)');
  const jwk = header.jwk;
  if (typeof jwk !== 'object' || jwk === null || Array.isArray(jwk)) throw new ProofInvalid('the proof carries no key');
  const key = readPublicJwk(/** @type {Record<string, unknown>} */ (jwk));
  if (header.alg !== key.alg) throw new ProofInvalid("the algorithm is not the key's");
  if (!key.verifies(parts.signingInput, parts.signature)) throw new ProofInvalid('the signature does not fit');
  return { key, claims: readObject(decodeBase64url(parts.payload)) };
}

/** @param {Record<string, unknown>} claims @param {string} name */
function text(claims, name) {
  const value = claims[name];
  if (typeof value !== 'string' || value === '' || value.length > MAX_TEXT_LENGTH) {
    throw new ProofInvalid(`${name} is not a string of up to ${MAX_TEXT_LENGTH} characters`);
  }
  return value;
}

// No parser of addresses: those forgive white space, backslashes and dots, and no two forgive the same.
const ADDRESS = /^(https?):\/\/([^\s\\@/?#]+)(\/[^\s\\?#]*)?(?:[?#]\S*)?$/i;
const DEFAULT_PORT = /** @type {Record<string, RegExp>} */ ({ http: /:80$/, https: /:443$/ });

/**
 * An address without query and fragment, normalized by case and default port (RFC 3986 §6.2.2.1, §6.2.3).
 *
 * @param {string} url
 */
function normalized(url) {
  const found = ADDRESS.exec(url);
  if (found === null) throw new ProofInvalid('htu is not an address');
  const scheme = found[1].toLowerCase();
  return `${scheme}://${found[2].toLowerCase().replace(DEFAULT_PORT[scheme], '')}${found[3] ?? '/'}`;
}

/** @param {string} left @param {string} right */
function equal(left, right) {
  const [a, b] = [Buffer.from(left), Buffer.from(right)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** @param {string} value */
function sha256(value) {
  return createHash('sha256').update(value).digest('base64url');
}
