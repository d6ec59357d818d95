/**
 * Strict reading of a compact JWS (RFC 7515) before and after its signature is checked.
 *
 * Stricter than common libraries on purpose. A token that can be written in two ways is two cache keys, two
 * hashes in a denylist and one identity; so exactly one spelling is accepted.
 */

import { TokenInvalid } from './errors.js';

export const MAX_TOKEN_LENGTH = 16 * 1024;
export const MAX_KID_LENGTH = 200;
/**
 * How the names of the issuer's own keys begin, and no other key's. One JWK set holds keys of both kinds. A client's
 * key signs its access tokens, the issuer's own what is no access token; the name, which the issuer gives, says which a
 * key is, and so what it may be believed about.
 */
const ISSUER_KID_PREFIX = 'issuer.';
/** `act` nests once per delegation; nobody delegates sixteen times. The document itself is one level more. */
const MAX_DEPTH = 17;

// Parameters that change how a token is read, bring their own key, or belong to encryption (RFC 8725 §3.10,
// CVE-2018-0114). A DPoP proof brings its key by design, and that parameter only.
const REFUSED = ['crit', 'b64', 'zip', 'jku', 'x5u', 'x5c', 'enc', 'epk', 'apu', 'apv', 'iv', 'tag', 'p2s', 'p2c'];
const ACCESS_TOKEN_TYPES = new Set(['at+jwt', 'application/at+jwt']);

/**
 * Cut a token into its parts. Bounds the work first: an oversized token is refused before anything is
 * allocated for it.
 *
 * @param {unknown} token
 * @param {number} [limit]
 */
export function split(token, limit = MAX_TOKEN_LENGTH) {
  if (typeof token !== 'string' || token.length > limit) throw new TokenInvalid('the token is not a string within its limit');
  const first = token.indexOf('.');
  const second = token.indexOf('.', first + 1);
  if (first <= 0 || second <= first + 1 || second === token.length - 1 || token.indexOf('.', second + 1) !== -1) {
    throw new TokenInvalid('the token does not have three parts');
  }
  return {
    header: token.slice(0, first),
    payload: token.slice(first + 1, second),
    signingInput: token.slice(0, second),
    signature: decodeBase64url(token.slice(second + 1)),
  };
}

/**
 * Read the header of an access token (RFC 9068 §2.1), which no key of the issuer's own signs: a name of a key and a
 * claim about an algorithm.
 *
 * @param {string} part
 */
export function readHeader(part) {
  const header = readHeaderOf(part, ACCESS_TOKEN_TYPES);
  if (header.kid.startsWith(ISSUER_KID_PREFIX)) {
    throw new TokenInvalid("the key is the issuer's own, which signs no access token");
  }
  return header;
}

/**
 * Read the header of a token of these types, which only the issuer's own keys sign.
 *
 * @param {string} part
 * @param {Set<string>} types
 */
export function readIssuerHeader(part, types) {
  const header = readHeaderOf(part, types);
  if (!header.kid.startsWith(ISSUER_KID_PREFIX)) throw new TokenInvalid("the key is not the issuer's own");
  return header;
}

/** @param {string} part @param {Set<string>} types */
function readHeaderOf(part, types) {
  const header = readObject(decodeBase64url(part));
  refuseParameters(header, ['jwk']);
  // The type is what keeps an ID token, a logout token or a mail token from passing as an access token.
  if (typeof header.typ !== 'string' || !types.has(header.typ.toLowerCase())) {
    throw new TokenInvalid('the token is of another type (typ)');
  }
  if (typeof header.alg !== 'string') throw new TokenInvalid('the header names no algorithm');
  if (!isKid(header.kid)) throw new TokenInvalid('the header names no key');
  return { alg: header.alg, kid: /** @type {string} */ (header.kid) };
}

/** @param {Record<string, unknown>} header @param {string[]} [also] */
export function refuseParameters(header, also = []) {
  for (const name of [...REFUSED, ...also]) {
    if (Object.hasOwn(header, name)) throw new TokenInvalid('the header has a parameter that is never accepted');
  }
}

/** @param {unknown} value */
export function isKid(value) {
  // Counted in code points, as other languages do: what is a name here is a name everywhere.
  return typeof value === 'string' && value !== '' && value.length <= 2 * MAX_KID_LENGTH && [...value].length <= MAX_KID_LENGTH;
}

/**
 * Decode unpadded base64url, accepting only the one spelling an encoder would give (RFC 7515 §2).
 *
 * The usual decoders skip foreign characters and ignore the unused bits of the last one, so that up to fifteen
 * other strings mean the same signature. Encoding again and comparing leaves none of them.
 *
 * @param {string} part
 */
export function decodeBase64url(part) {
  const decoded = Buffer.from(part, 'base64url');
  if (decoded.toString('base64url') !== part) throw new TokenInvalid('a part of the token is not canonical base64url');
  return decoded;
}

// `ignoreBOM` means: do not strip it, so that JSON.parse refuses it.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * Read a JSON object in which no name stands twice, no number is infinite and all text can be encoded.
 *
 * @param {Uint8Array} raw
 * @returns {Record<string, unknown>}
 */
export function readObject(raw) {
  let value;
  try {
    const text = utf8.decode(raw);
    value = JSON.parse(text);
    scan(text);
  } catch (error) {
    throw new TokenInvalid('a part of the token is not strict JSON', { cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new TokenInvalid('a part of the token is not a JSON object');
  }
  return value;
}

const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[-\d][-+.eE\d]*/gs;

/**
 * Find what JSON.parse lets pass: equal names in one object (two parsers may pick different ones of them; what
 * one checks, the other then uses), lone surrogates, infinite numbers, and depths that exhaust a stack. Takes
 * only text that JSON.parse has read: on any other this could take long.
 *
 * @param {string} text
 */
function scan(text) {
  /** @type {(Set<string> | null)[]} */
  const open = [];
  let isName = false;
  for (const [token] of text.matchAll(TOKENS)) {
    const names = open[open.length - 1];
    if (token === '{' || token === '[') {
      if (open.length === MAX_DEPTH) throw new SyntaxError('nested too deeply');
      open.push(token === '{' ? new Set() : null);
      isName = token === '{';
    } else if (token === '}' || token === ']') {
      open.pop();
      isName = false;
    } else if (token === ',') {
      isName = Boolean(names);
    } else if (token === ':') {
      isName = false;
    } else if (token[0] !== '"') {
      if (!Number.isFinite(Number(token))) throw new SyntaxError('a number is not finite');
    } else {
      const plain = token.includes('\\') ? JSON.parse(token) : token.slice(1, -1);
      if (LONE_SURROGATE.test(plain)) throw new SyntaxError('a text cannot be encoded');
      if (isName && names) {
        if (names.has(plain)) throw new SyntaxError('a name stands twice');
        names.add(plain);
      }
    }
  }
}
