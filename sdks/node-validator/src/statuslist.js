/** Token status lists (draft-ietf-oauth-status-list-21): revocation for validators that follow no stream. */

import { inflateSync } from 'node:zlib';

import { RevocationsUnavailable, TokenInvalid, TokenRevoked } from './errors.js';
import { fetchBody } from './fetch.js';
import { decodeBase64url, readIssuerHeader, readObject, split } from './jose.js';

const PATH = '/.well-known/status-lists/';
const TYPES = new Set(['statuslist+jwt', 'application/statuslist+jwt']);
const MAX_JWT_LENGTH = 512 * 1024;
const MAX_OCTETS = 1024 * 1024;
const RENEW_AT = 0.8;
const RETRY_SECONDS = 1;
const MAX_ISSUED_AHEAD_SECONDS = 120;

/**
 * @typedef {{ octets: Buffer, bits: number, ttl: number, expiresAt: number }} StatusList
 * @typedef {{ list?: StatusList, renewAt: number, freshUntil: number, retryAt: number, flight?: Promise<void> }} Held
 */

/**
 * Says by the issuer's status lists whether tokens were revoked; give it to `TokenVerifier`.
 *
 * A list is fetched when a token first names it, however many do at once, and renewed in the background after
 * four fifths of its `ttl`. While the issuer is away the last one is gone by until its `exp`; then, and where
 * there never was one, checking throws `RevocationsUnavailable`. Only addresses of the issuer's own lists are
 * asked. A token without a list (of a service account) passes: let the stream tell of those.
 */
export class StatusLists {
  #keys;
  #issuer;
  #prefix;
  #maxAge;
  #maxLists;
  #timeout;
  #fetch;
  #clock;
  /** @type {Map<string, Held>} */
  #held = new Map();

  /**
   * @param {import('./index.js').KeySource} keys `JwksKeys`: the issuer's own keys are in every client's set,
   *   with names that begin with `issuer.`; what another key signs is no list
   * @param {import('./index.js').StatusListOptions} options
   */
  constructor(keys, { issuer, maxAge = Infinity, maxLists = 64, timeout = 5, fetch, clock }) {
    if (keys.algorithms.has('HS256')) throw new TypeError("status lists are signed with public keys: give the issuer's JwksKeys");
    this.#keys = keys;
    this.#issuer = issuer;
    this.#prefix = issuer.replace(/\/$/, '') + PATH;
    this.#maxAge = maxAge;
    this.#maxLists = maxLists;
    this.#timeout = timeout;
    this.#fetch = fetch ?? fetchList;
    this.#clock = clock ?? (() => Date.now() / 1000);
  }

  /**
   * Whether the token is good, by a list that is at hand and fresh; undefined says only: ask `check`.
   *
   * @param {import('./index.js').VerifiedClaims} claims
   */
  peek(claims) {
    const named = this.#named(claims);
    if (named === undefined) return true;
    const held = this.#held.get(named.uri);
    const now = this.#clock();
    if (held?.list === undefined) return undefined;
    // After a failure nobody waits for the next try, as long as the last list can be gone by.
    if (!(now < held.freshUntil || (now < held.retryAt && now < held.list.expiresAt))) return undefined;
    if (now >= held.renewAt && now >= held.retryAt) this.#start(named.uri, held);
    return isGood(held.list, named.index);
  }

  /**
   * Check a token. Waits only for a list that has to be loaded.
   *
   * @param {import('./index.js').VerifiedClaims} claims
   */
  async check(claims) {
    const good = this.peek(claims) ?? (await this.#ask(claims));
    if (!good) throw new TokenRevoked('the token was revoked, says its status list');
  }

  /** @param {import('./index.js').VerifiedClaims} claims */
  async #ask(claims) {
    const { uri, index } = /** @type {{ uri: string, index: number }} */ (this.#named(claims));
    const held = this.#held.get(uri) ?? { renewAt: -Infinity, freshUntil: -Infinity, retryAt: -Infinity };
    this.#held.delete(uri);
    this.#held.set(uri, held);
    if (this.#held.size > this.#maxLists) this.#held.delete(/** @type {string} */ (this.#held.keys().next().value));
    if (this.#clock() >= held.retryAt) await this.#start(uri, held);
    const { list } = /** @type {Held} */ (held);
    if (list === undefined || this.#clock() >= list.expiresAt) {
      throw new RevocationsUnavailable('the status list of the token could not be loaded');
    }
    return isGood(list, index);
  }

  /** The list and the place that a token names (§6.2). @param {import('./index.js').VerifiedClaims} claims */
  #named({ claims: { status } }) {
    if (status === undefined || status === null) return undefined;
    if (!isRecord(status)) throw new TokenInvalid('status is not an object');
    if (!Object.hasOwn(status, 'status_list')) return undefined;
    const place = status.status_list;
    if (!isRecord(place)) throw new TokenInvalid('status_list is not an object');
    const { uri, idx: index } = place;
    if (typeof index !== 'number' || !Number.isSafeInteger(index) || index < 0 || typeof uri !== 'string') {
      throw new TokenInvalid('status_list lacks a place or an address');
    }
    // Who signs tokens chooses what is written here; where we go for it, the configuration does.
    if (!uri.startsWith(this.#prefix) || !/^\d{1,12}$/.test(uri.slice(this.#prefix.length))) {
      throw new TokenInvalid("the status list is not one of the issuer's");
    }
    return { uri, index };
  }

  /** @param {string} uri @param {Held} held */
  #start(uri, held) {
    held.flight ??= this.#fly(uri, held).finally(() => {
      held.flight = undefined;
    });
    return held.flight;
  }

  /** Fetch once and take what came; never rejects, for nobody may be waiting. @param {string} uri @param {Held} held */
  async #fly(uri, held) {
    const stop = new AbortController();
    /** @type {NodeJS.Timeout | undefined} */
    let timer;
    try {
      const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new RevocationsUnavailable('no list in time')), this.#timeout * 1000);
      });
      const text = /** @type {string} */ (await Promise.race([(async () => this.#fetch(uri, stop.signal))(), late]));
      const list = await this.#read(text, uri);
      const now = this.#clock();
      const fresh = Math.min(list.ttl, this.#maxAge);
      Object.assign(held, { list, retryAt: -Infinity, freshUntil: now + fresh, renewAt: now + fresh * RENEW_AT });
    } catch {
      held.retryAt = this.#clock() + RETRY_SECONDS;
    } finally {
      clearTimeout(timer);
      stop.abort();
    }
  }

  /** Verify a list that was got from `uri` (§8.3). @param {string} text @param {string} uri @returns {Promise<StatusList>} */
  async #read(text, uri) {
    const parts = split(text, MAX_JWT_LENGTH);
    const header = readIssuerHeader(parts.header, TYPES);
    if (!this.#keys.algorithms.has(header.alg)) throw new TokenInvalid("the algorithm is not one of this issuer's");
    const key = this.#keys.find(header.kid) ?? (await this.#keys.get(header.kid));
    if (header.alg !== key.alg || !key.verifies(parts.signingInput, parts.signature)) {
      throw new TokenInvalid('the signature does not fit');
    }
    const payload = readObject(decodeBase64url(parts.payload));
    if (payload.iss !== this.#issuer || payload.sub !== uri) throw new TokenInvalid('the status list is another one');
    const [iat, expiresAt, ttl] = ['iat', 'exp', 'ttl'].map((name) => positive(payload[name]));
    const now = this.#clock();
    if (iat > now + MAX_ISSUED_AHEAD_SECONDS || expiresAt <= now) throw new TokenInvalid('the status list is not of this time');
    return { ...unpacked(payload.status_list), ttl, expiresAt };
  }
}

/** @param {StatusList} list @param {number} index */
function isGood({ octets, bits }, index) {
  const octet = Math.floor((index * bits) / 8);
  if (octet >= octets.length) throw new TokenInvalid('the token names a place that its status list does not have');
  return ((octets[octet] >> (index * bits) % 8) & ((1 << bits) - 1)) === 0;
}

/** The octets of a list and the bits of one status (§4.2). @param {unknown} listed */
function unpacked(listed) {
  if (!isRecord(listed)) throw new TokenInvalid('the status list holds no list');
  const { bits, lst } = listed;
  if (typeof bits !== 'number' || ![1, 2, 4, 8].includes(bits) || typeof lst !== 'string') {
    throw new TokenInvalid('the status list cannot be read');
  }
  const packed = decodeBase64url(lst);
  const options = { maxOutputLength: MAX_OCTETS, info: true };
  // With `info` it also says how much it has read: what follows the end is otherwise ignored.
  const { buffer, engine } = /** @type {{ buffer: Buffer, engine: { bytesWritten: number } }} */ (
    /** @type {unknown} */ (inflateSync(packed, options))
  );
  if (engine.bytesWritten !== packed.length) throw new TokenInvalid('something follows the status list');
  return { octets: buffer, bits };
}

/** @param {unknown} value */
function positive(value) {
  if (typeof value !== 'number' || value <= 0) throw new TokenInvalid('a time of the status list is not a positive number');
  return value;
}

/** @param {unknown} value @returns {value is Record<string, unknown>} */
function isRecord(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** @param {string} uri @param {AbortSignal} signal */
async function fetchList(uri, signal) {
  const { body } = await fetchBody(uri, signal, 'application/statuslist+jwt', MAX_JWT_LENGTH);
  return body.toString('latin1');
}
