/**
 * For tests of services that accept our tokens: an issuer in memory.
 *
 *     const issuer = new LocalIssuer();
 *     const verifier = new TokenVerifier(new JwksKeys(issuer.fetch), { issuer: issuer.issuer });
 *     await verifier.verify(issuer.token({ sub: 'u1', scope: 'orders:read' }));
 *
 * Signs with fresh keys that nobody else trusts. Not for production: it signs whatever it is asked to.
 */

import { createHash, generateKeyPairSync, randomUUID, sign } from 'node:crypto';

import { jwkThumbprint } from './dpop.js';

/** @param {unknown} value */
const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** @param {Record<string, unknown>} header @param {Record<string, unknown>} payload @param {import('node:crypto').KeyObject} key */
function jws(header, payload, key) {
  const input = `${encode(header)}.${encode(payload)}`;
  return `${input}.${sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

const newKey = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });

/** An issuer with ES256 keys, which can be told to roll over and to fail. */
export class LocalIssuer {
  /** @type {Map<string, { privateKey: import('node:crypto').KeyObject, publicKey: import('node:crypto').KeyObject }>} */
  keys = new Map();
  fetches = 0;
  isAway = false;
  /** @type {number | undefined} */
  maxAge = 300;

  /** @param {{ issuer?: string, clock?: () => number }} [options] */
  constructor({ issuer = 'https://auth.test', clock = () => Date.now() / 1000 } = {}) {
    this.issuer = issuer;
    this.clock = clock;
    this.addKey('k1');
  }

  /** Make and publish a key. @param {string} kid */
  addKey(kid) {
    this.keys.set(kid, newKey());
  }

  /** The JWK set as published now. */
  document() {
    const keys = [...this.keys].map(([kid, key]) => ({
      ...key.publicKey.export({ format: 'jwk' }),
      kid,
      alg: 'ES256',
      use: 'sig',
    }));
    return { keys };
  }

  /** Answers as the issuer's JWKS endpoint would; to be given to `JwksKeys`. */
  fetch = async () => {
    this.fetches += 1;
    const document = this.document();
    await new Promise((resolve) => setImmediate(resolve));
    if (this.isAway) throw new Error('the issuer is away');
    return { document, maxAge: this.maxAge };
  };

  /**
   * A good access token of 15 minutes; `claims` are added or replaced, also by bad ones.
   *
   * @param {Record<string, unknown>} [claims]
   * @param {string} [kid] by default the first key
   * @param {string} [typ] for a token of another type
   */
  token(claims = {}, kid = /** @type {string} */ (this.keys.keys().next().value), typ = 'at+jwt') {
    const now = Math.floor(this.clock());
    const payload = {
      iss: this.issuer,
      sub: 'u1',
      aud: 'api',
      exp: now + 900,
      iat: now,
      jti: 't1',
      sid: 's1',
      client_id: 'c1',
      token_use: 'access',
      ...claims,
    };
    const key = this.keys.get(kid);
    if (key === undefined) throw new TypeError(`no key ${kid}`);
    return jws({ alg: 'ES256', typ, kid }, payload, key.privateKey);
  }
}

/** A client's key, which makes proofs (RFC 9449). */
export class ProofKey {
  #pair = newKey();
  #jwk = /** @type {Record<string, unknown>} */ (this.#pair.publicKey.export({ format: 'jwk' }));
  /** What a token's `cnf.jkt` must be for this key. */
  jkt = jwkThumbprint(this.#jwk);

  /**
   * @param {string} method
   * @param {string} url
   * @param {{ accessToken?: string, nonce?: string, clock?: () => number }} [options]
   */
  proof(method, url, { accessToken, nonce, clock = () => Date.now() / 1000 } = {}) {
    const ath = accessToken && createHash('sha256').update(accessToken).digest('base64url');
    const claims = { jti: randomUUID(), htm: method, htu: url, iat: Math.floor(clock()), ath, nonce };
    return jws({ typ: 'dpop+jwt', alg: 'ES256', jwk: this.#jwk }, claims, this.#pair.privateKey);
  }
}
