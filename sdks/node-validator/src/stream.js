/** Follows the issuer's stream of revocations, so that a revoked token is refused within a second. */

import { RevocationsUnavailable } from './errors.js';
import { checkUrl } from './fetch.js';
import { readObject } from './jose.js';
import { RevocationSet } from './revocation.js';

/** The issuer says something every second; silence of this long is a dead connection. */
const SILENCE_SECONDS = 3;
const FIRST_RETRY_SECONDS = 0.25;
const LONGEST_RETRY_SECONDS = 5;
const MAX_EVENT_LENGTH = 64 * 1024;

/**
 * Reads `text/event-stream` (WHATWG HTML §9.2.6) as it comes, in pieces of any size, into a set of revocations.
 *
 * `state` is `loading` until all that was in force has come, then `current`; `broken` for good once something
 * came that cannot be read, for it may have named any token. What comes after still counts.
 */
export class RevocationReader {
  #decoder = new TextDecoder();
  #line = '';
  #isAfterCr = false;
  #name = '';
  /** @type {string[]} */
  #data = [];
  #length = 0;
  /** @type {'loading' | 'current' | 'broken'} */
  state = 'loading';

  /** @param {RevocationSet} revocations */
  constructor(revocations) {
    this.revocations = revocations;
  }

  /** @param {Uint8Array} bytes */
  feed(bytes) {
    const text = this.#decoder.decode(bytes, { stream: true });
    let start = 0;
    for (let index = 0; index < text.length; index += 1) {
      const character = text[index];
      if (character !== '\n' && character !== '\r') {
        this.#isAfterCr = false;
        continue;
      }
      // CR LF is one end of a line, also when the two come in different pieces.
      const isSecondHalf = character === '\n' && this.#isAfterCr;
      if (!isSecondHalf) this.#take(this.#line + text.slice(start, index));
      this.#line = '';
      start = index + 1;
      this.#isAfterCr = character === '\r';
    }
    this.#line += text.slice(start);
    if (this.#line.length + this.#length > MAX_EVENT_LENGTH) throw new RangeError('an event of the stream is too large');
  }

  /** @param {string} line */
  #take(line) {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (field === 'event') this.#name = value;
    if (field === 'data') {
      this.#data.push(value);
      this.#length += value.length;
    }
  }

  #dispatch() {
    const [name, data] = [this.#name, this.#data.join('\n')];
    this.#name = '';
    this.#data = [];
    this.#length = 0;
    if (name === 'synced' && this.state === 'loading') this.state = 'current';
    if (name !== 'revocation') return;
    try {
      const { kind, ref, at, expires_at: expiresAt } = readObject(Buffer.from(data));
      this.revocations.add(...(/** @type {[string, string, number, number]} */ ([kind, ref, at, expiresAt])));
    } catch {
      this.state = 'broken';
    }
  }
}

/**
 * Keeps a `RevocationSet` up to date from `GET /api/revocations/stream`, and connects again for ever.
 *
 * Until the whole set has come once, `assertUsable` throws: nobody knows which tokens are dead. The same while
 * the issuer refuses the key (401, 403) or says something that this version cannot read. While the issuer is away,
 * what is known goes on being enforced, for at most `refuseAfter` seconds of silence where that is given.
 */
export class RevocationStream {
  #url;
  #apiKey;
  #clock;
  #refuseAfter;
  #silence;
  #forgetAt = 0;
  #heardAt = -Infinity;
  #isComplete = false;
  #stop = new AbortController();
  /** @type {Promise<void> | undefined} */
  #running;
  /** @type {(() => void)[]} */
  #waiting = [];

  /**
   * @param {string} issuer AuthService's address
   * @param {import('./index.js').StreamOptions} options
   */
  constructor(issuer, { apiKey, revocations, refuseAfter, silence, clock }) {
    if (!apiKey) throw new TypeError('the stream needs a secret API key');
    this.#url = checkUrl(issuer.replace(/\/$/, '') + '/api/revocations/stream').href;
    this.#apiKey = apiKey;
    this.#refuseAfter = refuseAfter ?? Infinity;
    this.#silence = silence ?? SILENCE_SECONDS;
    this.#clock = clock ?? (() => performance.now() / 1000);
    this.revocations = revocations ?? new RevocationSet();
    /** Why the last connection ended, for your log. @type {Error | undefined} */
    this.lastError = undefined;
  }

  /** Whether all revocations in force are known, as of the last sign of life. */
  get isUsable() {
    return this.#isComplete && this.#clock() - this.#heardAt <= this.#refuseAfter;
  }

  /** Throws `RevocationsUnavailable` while it is not known which tokens are dead. */
  assertUsable() {
    if (!this.isUsable) throw new RevocationsUnavailable('which tokens were revoked is not known');
  }

  /** Begin to follow; fulfilled once the whole set has come. Call it before serving. */
  start() {
    const started = this.#begin();
    // Who does not wait must not be ended by what it would have been told; the verifier refuses all the same.
    started.catch(() => {});
    return started;
  }

  /** Stop following. What is known stays in force. */
  async close() {
    this.#stop.abort();
    await this.#running;
  }

  async #begin() {
    this.#running ??= this.#follow();
    if (this.#isComplete) return;
    await new Promise((resolve, reject) => {
      this.#waiting.push(/** @type {() => void} */ (resolve));
      this.#stop.signal.addEventListener('abort', () => reject(new RevocationsUnavailable('the stream was closed')));
    });
  }

  async #follow() {
    let pause = FIRST_RETRY_SECONDS;
    while (!this.#stop.signal.aborted) {
      const began = this.#clock();
      try {
        await this.#connect();
      } catch (error) {
        this.lastError = /** @type {Error} */ (error);
      }
      // A connection that lived was good: begin anew at once. Otherwise ever slower, and not all in step.
      pause = this.#clock() - began > LONGEST_RETRY_SECONDS ? FIRST_RETRY_SECONDS : Math.min(pause * 2, LONGEST_RETRY_SECONDS);
      await this.#sleep((pause / 2) * (1 + Math.random()));
    }
  }

  async #connect() {
    const connection = new AbortController();
    const stop = () => connection.abort(this.#stop.signal.reason);
    this.#stop.signal.addEventListener('abort', stop);
    const watchdog = setTimeout(() => connection.abort(new Error('the stream fell silent')), this.#silence * 1000);
    try {
      const response = await fetch(this.#url, {
        redirect: 'error',
        signal: connection.signal,
        headers: { accept: 'text/event-stream', 'x-api-key': this.#apiKey },
      });
      // Nobody tells this key any more what is revoked: what is known is not all.
      if (response.status === 401 || response.status === 403) this.#isComplete = false;
      if (response.status !== 200 || response.body === null) throw new Error(`the issuer answered ${response.status}`);
      const reader = new RevocationReader(this.revocations);
      for await (const bytes of response.body) {
        watchdog.refresh();
        this.#take(reader, bytes);
      }
      throw new Error('the stream ended');
    } finally {
      clearTimeout(watchdog);
      this.#stop.signal.removeEventListener('abort', stop);
      connection.abort();
    }
  }

  /** @param {RevocationReader} reader @param {Uint8Array} bytes */
  #take(reader, bytes) {
    reader.feed(bytes);
    if (reader.state === 'broken') {
      // Only a stream that brings the whole set without it helps: perhaps after an update of this package.
      this.#isComplete = false;
      throw new Error('the stream said something that this version cannot read');
    }
    const now = this.#clock();
    if (reader.state === 'current') {
      this.#isComplete = true;
      // Only from here on: a connection that has not said all yet says nothing about what is known.
      this.#heardAt = now;
      for (const resolve of this.#waiting.splice(0)) resolve();
    }
    if (now >= this.#forgetAt) {
      this.#forgetAt = now + 60;
      this.revocations.forgetExpired(Date.now() / 1000);
    }
  }

  /** @param {number} seconds */
  async #sleep(seconds) {
    if (this.#stop.signal.aborted) return;
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      this.#stop.signal.addEventListener('abort', () => {
        clearTimeout(timer);
        resolve(undefined);
      });
    });
  }
}
