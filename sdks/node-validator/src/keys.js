/** Keys that verify, each bound to one algorithm before any token is seen. */

import { createHmac, createPublicKey, timingSafeEqual, verify } from 'node:crypto';

import { KeyRefused, TokenInvalid } from './errors.js';
import { decodeBase64url, isKid } from './jose.js';

const PRIVATE = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'];
const MIN_SECRET_BYTES = 32;
const MIN_DISTINCT_BYTES = 8;

/** One public key and the only algorithm it is ever used with (RFC 8725 §3.1). */
export class VerificationKey {
  #material;
  #hash;
  #length;

  /**
   * @param {string} alg
   * @param {import('node:crypto').KeyObject} material
   * @param {number} length bytes of a signature
   * @param {string} fingerprint tells whether two keys are the same
   */
  constructor(alg, material, length, fingerprint) {
    this.alg = alg;
    this.fingerprint = fingerprint;
    this.#hash = alg === 'EdDSA' ? null : 'sha256';
    this.#material = alg === 'ES256' ? { key: material, dsaEncoding: /** @type {const} */ ('ieee-p1363') } : material;
    this.#length = length;
  }

  /**
   * Whether `signature` is this key's over `input`, in the one length the algorithm gives.
   *
   * @param {string} input ASCII
   * @param {Uint8Array} signature
   */
  verifies(input, signature) {
    if (signature.length !== this.#length) return false;
    try {
      return verify(this.#hash, Buffer.from(input, 'latin1'), this.#material, signature);
    } catch {
      return false; // some runtimes throw at numbers out of range instead of saying no
    }
  }
}

/**
 * The secret of a client in `v1_hs256` mode: verifies HS256 and nothing else.
 *
 * A public key or certificate in any of its forms is refused: who verifies HS256 with something public accepts
 * tokens from everybody (CVE-2017-11424, CVE-2022-29217).
 */
export class HmacKey {
  #secret;
  #kid;

  /** @param {string | Uint8Array} secret at least 32 bytes (RFC 7518 §3.2) @param {{ kid?: string }} [options] */
  constructor(secret, { kid } = {}) {
    const material = Buffer.from(secret);
    if (isAsymmetricKey(material)) throw new KeyRefused('the HS256 secret is an asymmetric key, certificate or JWK');
    if (material.length < MIN_SECRET_BYTES || new Set(material).size < MIN_DISTINCT_BYTES) {
      throw new KeyRefused('the HS256 secret has fewer than 32 bytes, or hardly any different ones');
    }
    this.#secret = material;
    this.#kid = kid;
    this.algorithms = new Set(['HS256']);
    this.generation = 0;
    this.alg = 'HS256';
  }

  /** The secret, when it goes by this name. @param {string} kid */
  find(kid) {
    return this.#kid === undefined || kid === this.#kid ? this : undefined;
  }

  /** @param {string} kid */
  async get(kid) {
    const key = this.find(kid);
    if (key === undefined) throw new TokenInvalid('the token names another secret');
    return key;
  }

  /** @param {string} input @param {Uint8Array} signature */
  verifies(input, signature) {
    const mac = createHmac('sha256', this.#secret).update(input, 'latin1').digest();
    return signature.length === mac.length && timingSafeEqual(mac, signature);
  }
}

/**
 * Whether a secret is really an asymmetric key: PEM, DER, SSH, JWK or JWKS, bare or base64.
 *
 * @param {Buffer} material
 */
export function isAsymmetricKey(material) {
  const text = material.toString('latin1').trim();
  if (text.includes('-----BEGIN') || /^(?:sk-)?(?:ssh-|ecdsa-sha2-)/.test(text)) return true;
  if (isDer(material) || isDer(Buffer.from(text, 'latin1'))) return true;
  if (/^(?:\u00ef\u00bb\u00bf)?\s*[{[]/.test(text)) {
    try {
      JSON.parse(text.replace(/^\u00ef\u00bb\u00bf/, ''));
      return true;
    } catch (error) {
      if (error instanceof RangeError) return true;
    }
  }
  // An `x5c` entry, or the body of a PEM whose armour was stripped, wrapped or not.
  const bare = text.replace(/\s+/g, '');
  return /^[A-Za-z0-9+/_-]+={0,2}$/.test(bare) && isDer(Buffer.from(bare, 'base64'));
}

/** Whether the bytes are one whole DER SEQUENCE, as every key and certificate is. @param {Buffer} raw */
function isDer(raw) {
  if (raw.length < 16 || raw[0] !== 0x30) return false;
  if (raw[1] < 0x80) return raw.length === 2 + raw[1];
  const size = raw[1] & 0x7f;
  if (size < 1 || size > 4) return false;
  return raw.length === 2 + size + raw.readUIntBE(2, size);
}

/**
 * Read the verification keys of a JWK set by name (RFC 7517 §5). Keys of other kinds or for other uses are left
 * out, as the RFC asks. An empty set is an answer: the issuer has no keys, and no token is good.
 *
 * @param {unknown} document
 * @returns {Map<string, VerificationKey>}
 */
export function readJwks(document) {
  const listed = isRecord(document) ? document.keys : undefined;
  if (!Array.isArray(listed)) throw new KeyRefused('the document is not a JWK set');
  const keys = new Map();
  for (const jwk of listed) {
    if (!isRecord(jwk)) throw new KeyRefused('the JWK set holds something that is not a key');
    let key;
    try {
      key = readJwk(jwk);
    } catch (error) {
      if (error instanceof KeyRefused) continue;
      throw error;
    }
    if (keys.has(jwk.kid)) throw new KeyRefused('two keys of the JWK set have one name');
    keys.set(jwk.kid, key);
  }
  if (listed.length && keys.size === 0) throw new KeyRefused('no key of the JWK set can be used');
  return keys;
}

/**
 * Read one named public key: RSA of 2048 to 8192 bits for RS256, P-256 for ES256, Ed25519 for EdDSA.
 *
 * @param {Record<string, unknown>} jwk
 */
export function readJwk(jwk) {
  if (!isKid(jwk.kid)) throw new KeyRefused('the key has no name');
  return readPublicJwk(jwk);
}

/**
 * Read one public key, named or not; the key of a DPoP proof has no name.
 *
 * @param {Record<string, unknown>} jwk
 */
export function readPublicJwk(jwk) {
  // An issuer that publishes its private key has lost it: what it signs proves nothing.
  if (PRIVATE.some((name) => Object.hasOwn(jwk, name))) throw new KeyRefused('the key holds private material');
  const operations = jwk.key_ops ?? ['verify'];
  if ((jwk.use ?? 'sig') !== 'sig' || !Array.isArray(operations) || !operations.includes('verify')) {
    throw new KeyRefused('the key is not for signatures');
  }
  const { kty, crv, alg } = jwk;
  if (kty === 'RSA' && crv === undefined && (alg === undefined || alg === 'RS256')) return rsaKey(jwk);
  if (kty === 'EC' && crv === 'P-256' && (alg === undefined || alg === 'ES256')) {
    return new VerificationKey('ES256', ...load(jwk, ['crv', 'kty', 'x', 'y'], { x: 32, y: 32 }));
  }
  if (kty === 'OKP' && crv === 'Ed25519' && (alg === undefined || alg === 'EdDSA')) {
    return new VerificationKey('EdDSA', ...load(jwk, ['crv', 'kty', 'x'], { x: 32 }));
  }
  throw new KeyRefused('the key is of another kind');
}

/** @param {Record<string, unknown>} jwk */
function rsaKey(jwk) {
  const [material, , fingerprint] = load(jwk, ['e', 'kty', 'n'], {});
  const bits = material.asymmetricKeyDetails?.modulusLength ?? 0;
  if (bits < 2048 || bits > 8192 || material.asymmetricKeyDetails?.publicExponent !== 65537n) {
    throw new KeyRefused('the RSA key is too small, too large, or has an unusual exponent');
  }
  return new VerificationKey('RS256', material, Math.ceil(bits / 8), fingerprint);
}

/**
 * Only what the kind needs reaches the library, and only canonical numbers. `names` are in the order of
 * RFC 7638, so that the fingerprint is the text that a thumbprint hashes.
 *
 * @param {Record<string, unknown>} jwk
 * @param {string[]} names
 * @param {Record<string, number>} sizes
 * @returns {[import('node:crypto').KeyObject, number, string]}
 */
function load(jwk, names, sizes) {
  /** @type {Record<string, string>} */
  const members = {};
  for (const name of names) {
    const value = jwk[name];
    if (typeof value !== 'string') throw new KeyRefused(`the key lacks ${name}`);
    members[name] = value;
  }
  try {
    for (const name of names.filter((name) => name !== 'kty' && name !== 'crv')) {
      const raw = decodeBase64url(members[name]);
      if (name in sizes && raw.length !== sizes[name]) throw new KeyRefused(`${name} has another length`);
    }
    return [createPublicKey({ key: members, format: 'jwk' }), 64, JSON.stringify(members)];
  } catch (error) {
    throw new KeyRefused('the key cannot be read', { cause: error });
  }
}

/** @param {unknown} value @returns {value is Record<string, unknown>} */
function isRecord(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
