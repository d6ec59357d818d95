/** The issuer's public keys: loaded once, renewed before they go stale, out of an attacker's reach. */

import { KeysUnavailable, TokenInvalid } from './errors.js';
import { checkUrl, fetchJwks } from './fetch.js';
import { readJwks } from './keys.js';

const MAX_ABSENT_KIDS = 1024;
const LONGEST_RETRY_SECONDS = 30;
/** Renewal starts after this part of the keys' life, so that traffic never waits for it. */
const RENEW_AT = 0.8;

/**
 * Keys of an issuer in a JWKS mode: RS256, ES256 and EdDSA, each key bound to its own algorithm.
 *
 * - However many callers need keys at once, one fetch is made and all share it.
 * - Keys are renewed in the background after four fifths of their `max-age`.
 * - An unknown `kid` may be a new key: it is looked for at once, but no more than once per `cooldown`, and a name
 *   that was just looked for in vain is refused without asking. A flood of invented names costs the issuer one
 *   fetch per `cooldown`.
 * - While the issuer is away, the last keys serve for `staleFor` more; after that verification throws
 *   `KeysUnavailable`. One bad answer (HTML, two keys of one name) counts as being away.
 */
export class JwksKeys {
  #fetch;
  #options;
  #clock;
  /** @type {Map<string, import('./keys.js').VerificationKey>} */
  #keys = new Map();
  #renewAt = -Infinity;
  #freshUntil = -Infinity;
  #usableUntil = -Infinity;
  #failures = 0;
  #retryAt = -Infinity;
  #searchAt = -Infinity;
  /** @type {Map<string, number>} */
  #absent = new Map();
  /** @type {Promise<boolean> | null} */
  #flight = null;

  algorithms = new Set(['RS256', 'ES256', 'EdDSA']);
  /** Changes whenever a key is removed or replaced. */
  generation = 0;

  /**
   * @param {string | import('./index.js').JwksFetcher} source the URL of the JWK set (https, or http on
   *   loopback), or a function that answers the document or `{ document, maxAge }`
   * @param {import('./index.js').JwksOptions} [options]
   */
  constructor(source, options = {}) {
    this.#options = {
      timeout: 5,
      maxAge: 300,
      longestMaxAge: 3600,
      staleFor: 3600,
      cooldown: 5,
      absentFor: 30,
      ...options,
    };
    this.#clock = options.clock ?? (() => performance.now() / 1000);
    if (typeof source === 'string') {
      const { href } = checkUrl(source);
      this.#fetch = (/** @type {AbortSignal} */ signal) => fetchJwks(href, signal);
    } else {
      this.#fetch = source;
    }
  }

  /** The key of this name while the keys need no renewal; never waits. @param {string} kid */
  find(kid) {
    return this.#clock() < this.#renewAt ? this.#keys.get(kid) : undefined;
  }

  /**
   * The key of this name, renewing or loading keys where due.
   *
   * @param {string} kid
   */
  async get(kid) {
    await this.#renewWhenDue();
    return this.#keys.get(kid) ?? this.#search(kid);
  }

  /** Load the keys now: to warm up before serving, or when the issuer announced a change. */
  async refresh() {
    if (!(await this.#load())) throw new KeysUnavailable("the issuer's keys could not be loaded");
  }

  async #renewWhenDue() {
    const now = this.#clock();
    if (now < this.#renewAt) return;
    const mayTry = now >= this.#retryAt || this.#flight !== null;
    if (now >= this.#usableUntil) {
      if (!(mayTry && (await this.#load()))) throw new KeysUnavailable("the issuer's keys could not be loaded");
    } else if (mayTry && now >= this.#freshUntil && !this.#failures) {
      // Idle past freshness: look before believing old keys. Once the issuer is known to be away, nobody waits.
      await this.#load();
    } else if (mayTry) {
      this.#load();
    }
  }

  /** Look for a key that is not among the known ones, within the budget for such searches. @param {string} kid */
  async #search(kid) {
    if ((this.#absent.get(kid) ?? -Infinity) > this.#clock()) {
      throw new TokenInvalid('the issuer has no key of this name');
    }
    // A fetch already under way may bring it; one that began before the key was published may not.
    if (this.#flight !== null && (await this.#load()) && this.#keys.has(kid)) return this.#known(kid);
    if (this.#clock() >= this.#searchAt) {
      this.#searchAt = this.#clock() + this.#options.cooldown;
      if ((await this.#load()) && !this.#keys.has(kid)) this.#rememberAbsent(kid);
    } else if (this.#flight !== null) {
      await this.#load();
    }
    return this.#known(kid);
  }

  /** @param {string} kid */
  #known(kid) {
    const key = this.#keys.get(kid);
    if (key !== undefined) return key;
    if (this.#failures) throw new KeysUnavailable('the issuer could not be asked about an unknown key');
    throw new TokenInvalid('the issuer has no key of this name');
  }

  /** @param {string} kid */
  #rememberAbsent(kid) {
    this.#absent.delete(kid);
    this.#absent.set(kid, this.#clock() + this.#options.absentFor);
    if (this.#absent.size > MAX_ABSENT_KIDS) this.#absent.delete(/** @type {string} */ (this.#absent.keys().next().value));
  }

  /** One fetch for all who wait; never rejects, for nobody may be waiting. */
  #load() {
    this.#flight ??= this.#fly().finally(() => {
      this.#flight = null;
    });
    return this.#flight;
  }

  async #fly() {
    const stop = new AbortController();
    /** @type {NodeJS.Timeout | undefined} */
    let timer;
    try {
      const late = new Promise((_, reject) => {
        timer = setTimeout(() => {
          stop.abort();
          reject(new KeysUnavailable('the issuer did not answer in time'));
        }, this.#options.timeout * 1000);
      });
      const fetched = /** @type {import('./index.js').FetchedJwks} */ (
        await Promise.race([(async () => this.#fetch(stop.signal))(), late])
      );
      const isBare = fetched === null || typeof fetched !== 'object' || 'keys' in fetched;
      this.#take(readJwks(isBare ? fetched : fetched.document), isBare ? undefined : fetched.maxAge);
      return true;
    } catch {
      // A fetcher of the user's may throw anything; all of it means: no keys now.
      stop.abort();
      this.#failures += 1;
      this.#retryAt = this.#clock() + Math.min(2 ** Math.min(this.#failures - 1, 10), LONGEST_RETRY_SECONDS);
      return false;
    } finally {
      clearTimeout(timer);
    }
  }

  /** @param {Map<string, import('./keys.js').VerificationKey>} keys @param {number | undefined} maxAge */
  #take(keys, maxAge) {
    for (const [kid, key] of this.#keys) {
      if (keys.get(kid)?.fingerprint !== key.fingerprint) {
        this.generation += 1;
        break;
      }
    }
    this.#keys = keys;
    const { cooldown, staleFor, longestMaxAge } = this.#options;
    const fresh = Math.max(Math.min(maxAge ?? this.#options.maxAge, longestMaxAge), cooldown);
    const now = this.#clock();
    this.#renewAt = now + fresh * RENEW_AT;
    this.#freshUntil = now + fresh;
    this.#usableUntil = this.#freshUntil + staleFor;
    this.#failures = 0;
    this.#retryAt = -Infinity;
  }
}
