/**
 * A protected resource: who may come in, and what the others are told.
 *
 * Speaks RFC 6750 (bearer tokens), RFC 9449 (DPoP), RFC 9470 (step-up) and RFC 9728 (metadata), and no web
 * framework; `express.js` is a thin layer over it.
 */

import { PROOF_ALGORITHMS, ProofVerifier } from './dpop.js';
import {
  KeysUnavailable,
  NonceNeeded,
  ProofError,
  RevocationsUnavailable,
  TokenError,
  TokenInvalid,
  ValidatorError,
} from './errors.js';
import { checkUrl } from './fetch.js';

const WELL_KNOWN = '/.well-known/oauth-protected-resource';
const TITLES = { 401: 'Unauthorized', 403: 'Forbidden', 503: 'Service Unavailable' };
const INVALID = { error: 'invalid_token', error_description: 'The access token is not valid' };

/** A request that is not let in: status, headers and a problem document (RFC 9457) to answer with. */
export class AccessRefused extends ValidatorError {
  #code;

  /**
   * @param {401 | 403 | 503} status
   * @param {string} code stable
   * @param {string} detail
   * @param {Record<string, string>} headers
   * @param {ErrorOptions} [options] what refused, for your log
   */
  constructor(status, code, detail, headers, options) {
    super(detail, options);
    this.#code = code;
    this.status = status;
    this.headers = { 'Content-Type': 'application/problem+json', 'Cache-Control': 'no-store', ...headers };
    this.body = { type: 'about:blank', title: TITLES[status], status, detail, code };
  }

  get code() {
    return this.#code;
  }
}

/** Lets requests in that bring a good token with what a route needs. */
export class ProtectedResource {
  #verifier;
  #options;
  #dpop;
  #proofs;

  /**
   * @param {import('./index.js').TokenVerifier} verifier
   * @param {import('./index.js').ResourceOptions} [options]
   */
  constructor(verifier, options = {}) {
    const { resource, dpop = 'off' } = options;
    if (!['off', 'accepted', 'required'].includes(dpop)) throw new TypeError("dpop is 'off', 'accepted' or 'required'");
    if (dpop !== 'off' && resource === undefined) throw new TypeError('dpop needs resource, which says what proofs are for');
    this.#verifier = verifier;
    this.#options = options;
    this.#dpop = dpop;
    this.#proofs = options.proofs ?? new ProofVerifier({ clock: verifier.clock });
    /** Where `metadata()` is to be served, or undefined without `resource`. */
    this.metadataUrl = resource === undefined ? undefined : metadataUrl(resource);
    /** What a proof's `htu` begins with; a request's own Host header proves nothing. */
    this.origin = resource === undefined ? undefined : new URL(resource).origin;
  }

  /**
   * The claims of who asks, or AccessRefused.
   *
   * @param {import('./index.js').RequestFacts} request
   * @param {import('./index.js').Needs} [needs]
   * @returns {Promise<import('./index.js').VerifiedClaims>}
   */
  async authenticate(request, needs = {}) {
    const { authorization } = request;
    if (authorization.length === 0) {
      // RFC 6750 §3.1: a caller who tried nothing is told the schemes, and no error.
      const schemes = { off: ['Bearer'], accepted: ['Bearer', 'DPoP'], required: ['DPoP'] }[this.#dpop];
      const challenge = schemes.map((scheme) => this.#challenge(scheme, {})).join(', ');
      throw new AccessRefused(401, 'missing_token', 'An access token is needed.', { 'WWW-Authenticate': challenge });
    }
    const [, scheme = '', token = ''] = /^([A-Za-z]+) (.*)$/s.exec(authorization[0]) ?? [];
    const isProven = scheme.toLowerCase() === 'dpop' && this.#dpop !== 'off';
    const tried = isProven || this.#dpop === 'required' ? 'DPoP' : 'Bearer';
    try {
      // Of two headers a proxy may have checked the other one.
      if (authorization.length !== 1 || !(isProven || scheme.toLowerCase() === 'bearer')) {
        throw new TokenInvalid('the request does not carry one token');
      }
      const claims = this.#verifier.cached(token) ?? (await this.#verifier.verify(token));
      if (isProven) await this.#prove(claims, token, request);
      else if (this.#dpop === 'required') throw new TokenInvalid('a bearer token where proofs are required');
      else if (claims.cnf !== undefined) throw new Unproven('the token is bound to a key and came without a proof');
      this.#satisfy(claims, needs, tried);
      return claims;
    } catch (error) {
      throw this.#refusal(error, tried);
    }
  }

  /** The metadata document of this resource (RFC 9728 §2). */
  metadata() {
    const { resource, authorizationServers, scopes, name, documentation } = this.#options;
    if (resource === undefined) throw new TypeError('metadata needs resource');
    return {
      resource,
      authorization_servers: authorizationServers ?? [],
      bearer_methods_supported: ['header'],
      ...(scopes && { scopes_supported: scopes }),
      ...(name && { resource_name: name }),
      ...(documentation && { resource_documentation: documentation }),
      ...(this.#dpop !== 'off' && { dpop_signing_alg_values_supported: PROOF_ALGORITHMS }),
      ...(this.#dpop === 'required' && { dpop_bound_access_tokens_required: true }),
    };
  }

  /**
   * @param {import('./index.js').VerifiedClaims} claims
   * @param {string} token
   * @param {import('./index.js').RequestFacts} request
   */
  async #prove(claims, token, { dpop, method, url }) {
    const jkt = claims.cnf?.jkt;
    if (typeof jkt !== 'string' || jkt === '') throw new TokenInvalid('the token is not bound to a key');
    if (dpop.length !== 1) throw new ProofError('the request does not carry one proof');
    const nonce = this.#options.nonces?.current();
    await this.#proofs.verify(dpop[0], { method, url, accessToken: token, jkt, nonce });
  }

  /** @param {import('./index.js').VerifiedClaims} claims @param {import('./index.js').Needs} needs @param {string} scheme */
  #satisfy(claims, { scopes = [], acrValues = [], maxAge }, scheme) {
    if (!scopes.every((scope) => claims.scopes.includes(scope))) {
      const challenge = this.#challenge(scheme, { error: 'insufficient_scope', scope: scopes.join(' ') });
      throw new AccessRefused(403, 'insufficient_scope', 'The access token lacks a scope that this needs.', {
        'WWW-Authenticate': challenge,
      });
    }
    const isStrong = acrValues.length === 0 || (claims.acr !== undefined && acrValues.includes(claims.acr));
    const isFresh =
      maxAge === undefined || (claims.authTime !== undefined && this.#verifier.clock() - claims.authTime <= maxAge);
    if (isStrong && isFresh) return;
    const challenge = this.#challenge(scheme, {
      error: 'insufficient_user_authentication',
      error_description: 'A fresher or stronger authentication is needed',
      ...(acrValues.length && { acr_values: acrValues.join(' ') }),
      ...(maxAge !== undefined && { max_age: String(maxAge) }),
    });
    throw new AccessRefused(401, 'insufficient_user_authentication', 'A fresher or stronger authentication is needed.', {
      'WWW-Authenticate': challenge,
    });
  }

  /** @param {unknown} error @param {string} tried */
  #refusal(error, tried) {
    const options = { cause: error };
    if (error instanceof NonceNeeded) {
      const headers = { 'DPoP-Nonce': this.#options.nonces?.current() ?? '' };
      const told = { error: 'use_dpop_nonce', error_description: 'The DPoP proof needs a nonce' };
      const challenge = this.#challenge('DPoP', told);
      return new AccessRefused(401, error.code, 'The DPoP proof needs a nonce.', { 'WWW-Authenticate': challenge, ...headers }, options);
    }
    if (error instanceof ProofError) {
      const told = { error: 'invalid_dpop_proof', error_description: 'The DPoP proof is not valid' };
      const challenge = this.#challenge('DPoP', told);
      return new AccessRefused(401, error.code, 'The DPoP proof is not valid.', { 'WWW-Authenticate': challenge }, options);
    }
    if (error instanceof TokenError) {
      // One text for every cause but `code`: which check failed would guide a forger.
      const scheme = error instanceof Unproven && this.#dpop !== 'off' ? 'DPoP' : tried;
      const challenge = this.#challenge(scheme, INVALID);
      return new AccessRefused(401, error.code, 'The access token is not valid.', { 'WWW-Authenticate': challenge }, options);
    }
    if (error instanceof KeysUnavailable || error instanceof RevocationsUnavailable) {
      const detail = 'Access tokens cannot be checked at the moment.';
      return new AccessRefused(503, error.code, detail, { 'Retry-After': '2' }, options);
    }
    return error;
  }

  /** @param {string} scheme @param {Record<string, string>} told */
  #challenge(scheme, told) {
    const parameters = Object.entries({
      ...told,
      ...(scheme === 'DPoP' && { algs: PROOF_ALGORITHMS.join(' ') }),
      ...(this.metadataUrl !== undefined && { resource_metadata: this.metadataUrl }),
    });
    return [scheme, parameters.map(([name, value]) => `${name}="${value}"`).join(', ')].filter(Boolean).join(' ');
  }
}

class Unproven extends TokenInvalid {}

/**
 * Where a resource publishes its metadata (RFC 9728 §3.1): the well-known path goes between host and path.
 *
 * @param {string} resource https, or http on loopback, without a fragment
 */
export function metadataUrl(resource) {
  const url = checkUrl(resource);
  if (resource.includes('#')) throw new TypeError('a resource has no fragment');
  const path = url.pathname === '/' ? '' : url.pathname;
  return url.origin + WELL_KNOWN + path + url.search;
}

/** The names in scope of a `Needs`, checked once when a route is made. @param {import('./index.js').Needs} needs */
export function checkNeeds(needs) {
  const { scopes = [], acrValues = [], maxAge = 0 } = needs;
  // They are written into a header: a quote or a line break there would be another parameter.
  const words = [...scopes, ...acrValues];
  if (!words.every((word) => /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(word))) {
    throw new TypeError('scopes and acrValues are words of printable ASCII without quotes');
  }
  if (!(Number.isInteger(maxAge) && maxAge >= 0)) throw new TypeError('maxAge is a number of whole seconds');
  return needs;
}
