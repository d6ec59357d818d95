/** The claims of an access token, as values with types. */

import { TokenInvalid } from './errors.js';

/** The last second of year 9999: later times break dates, and no issuer means them. */
const LATEST = 253_402_300_799;

/**
 * Give a payload its types. Checks shapes only: no time, issuer, audience or tenant is compared here. What the
 * token does not carry is undefined, or an empty list. Values are shared between calls by the cache, so all of
 * them are frozen.
 *
 * @param {Record<string, unknown>} payload
 * @param {string} kid
 */
export function readClaims(payload, kid) {
  freeze(payload);
  const scope = text(payload, 'scope');
  return Object.freeze({
    iss: requiredText(payload, 'iss'),
    sub: requiredText(payload, 'sub'),
    aud: audience(payload),
    exp: requiredTime(payload, 'exp'),
    iat: requiredTime(payload, 'iat'),
    nbf: time(payload, 'nbf'),
    jti: requiredText(payload, 'jti'),
    sid: text(payload, 'sid'),
    clientId: requiredText(payload, 'client_id'),
    tokenUse: requiredText(payload, 'token_use'),
    azp: text(payload, 'azp'),
    email: text(payload, 'email'),
    role: text(payload, 'role'),
    emailVerified: flag(payload, 'email_verified'),
    authTime: time(payload, 'auth_time'),
    amr: texts(payload, 'amr'),
    acr: text(payload, 'acr'),
    scope,
    scopes: scopes(payload, scope),
    serviceAccountId: text(payload, 'service_account_id'),
    serviceAccountName: text(payload, 'service_account_name'),
    orgId: text(payload, 'org_id'),
    orgSlug: text(payload, 'org_slug'),
    orgRole: text(payload, 'org_role'),
    orgPermissions: texts(payload, 'org_permissions'),
    cnf: object(payload, 'cnf'),
    act: object(payload, 'act'),
    kid,
    claims: payload,
  });
}

/** @param {Record<string, unknown>} payload @param {string} name */
function given(payload, name) {
  const value = Object.hasOwn(payload, name) ? payload[name] : undefined;
  return value === null ? undefined : value;
}

/** @param {Record<string, unknown>} payload @param {string} name */
function text(payload, name) {
  const value = given(payload, name);
  if (value === undefined || typeof value === 'string') return value;
  throw new TokenInvalid(`${name} is not a string`);
}

/** @param {Record<string, unknown>} payload @param {string} name */
function requiredText(payload, name) {
  const value = given(payload, name);
  if (typeof value === 'string' && value !== '') return value;
  throw new TokenInvalid(`${name} is not a non-empty string`);
}

/** @param {Record<string, unknown>} payload @param {string} name @returns {readonly string[]} */
function texts(payload, name) {
  const value = given(payload, name);
  if (value === undefined) return NONE;
  if (Array.isArray(value) && value.every((item) => typeof item === 'string' && item !== '')) return value;
  throw new TokenInvalid(`${name} is not a list of non-empty strings`);
}

/** @type {readonly string[]} */
const NONE = Object.freeze([]);

/** @param {Record<string, unknown>} payload */
function audience(payload) {
  const value = given(payload, 'aud');
  if (typeof value === 'string' && value !== '') return Object.freeze([value]);
  const listed = texts(payload, 'aud');
  if (listed.length === 0) throw new TokenInvalid('aud is absent or empty');
  return listed;
}

/** @param {Record<string, unknown>} payload @param {string | undefined} scope */
function scopes(payload, scope) {
  // RFC 6749 §3.3: words parted by one space.
  const words = scope ? scope.split(' ') : NONE;
  if (words.includes('')) throw new TokenInvalid('scope is not words parted by single spaces');
  const listed = texts(payload, 'scopes');
  if (words.length && listed.length) {
    const [left, right] = [new Set(words), new Set(listed)];
    if (left.size !== right.size || ![...left].every((word) => right.has(word))) {
      throw new TokenInvalid('scope and scopes differ');
    }
  }
  return listed.length ? listed : Object.freeze(words);
}

/** @param {Record<string, unknown>} payload @param {string} name */
function flag(payload, name) {
  const value = given(payload, name);
  if (value === undefined || typeof value === 'boolean') return value;
  throw new TokenInvalid(`${name} is not true or false`);
}

/** @param {Record<string, unknown>} payload @param {string} name */
function time(payload, name) {
  return given(payload, name) === undefined ? undefined : requiredTime(payload, name);
}

/** @param {Record<string, unknown>} payload @param {string} name @returns {number} */
export function requiredTime(payload, name) {
  const value = given(payload, name);
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= LATEST) return value;
  throw new TokenInvalid(`${name} is not a time in whole seconds`);
}

/** @param {Record<string, unknown>} payload @param {string} name @returns {Readonly<Record<string, unknown>> | undefined} */
function object(payload, name) {
  const value = given(payload, name);
  if (value === undefined) return undefined;
  if (typeof value !== 'object' || Array.isArray(value)) throw new TokenInvalid(`${name} is not an object`);
  return /** @type {Record<string, unknown>} */ (value);
}

/** @param {unknown} value */
function freeze(value) {
  if (typeof value !== 'object' || value === null) return;
  Object.freeze(value);
  for (const inner of Object.values(value)) freeze(inner);
}
