/** Fetching what the issuer publishes over HTTP: no redirects, a bounded body, bounded waits. */

import { ValidatorError } from './errors.js';
import { readObject } from './jose.js';

const MAX_DOCUMENT_BYTES = 256 * 1024;

/**
 * Check the address of something that is trusted: https, or http on this machine's loopback. What is fetched in
 * the clear is chosen by the network.
 *
 * @param {string} url
 */
export function checkUrl(url) {
  let parts;
  try {
    parts = new URL(url);
  } catch {
    throw new TypeError('a URL is https, or http on loopback, and holds no password');
  }
  const isPlain = parts.protocol === 'http:' && isLoopback(parts.hostname);
  if (parts.username || parts.password || !(parts.protocol === 'https:' || isPlain)) {
    throw new TypeError('a URL is https, or http on loopback, and holds no password');
  }
  return parts;
}

/** @param {string} host */
function isLoopback(host) {
  return host === 'localhost' || host === '[::1]' || /^127(?:\.\d{1,3}){3}$/.test(host);
}

/**
 * Fetch a JWK set.
 *
 * @param {string} url
 * @param {AbortSignal} signal
 * @returns {Promise<import('./index.js').FetchedJwks>}
 */
export async function fetchJwks(url, signal) {
  const { body, headers } = await fetchBody(url, signal, 'application/jwk-set+json, application/json', MAX_DOCUMENT_BYTES);
  return { document: readObject(body), maxAge: maxAge(headers) };
}

/**
 * Fetch a whole document of bounded size.
 *
 * @param {string} url
 * @param {AbortSignal} signal
 * @param {string} accept
 * @param {number} limit in bytes
 */
export async function fetchBody(url, signal, accept, limit) {
  // A redirect is an error: the configured URL is the trust, not what it points to.
  const response = await fetch(url, { redirect: 'error', signal, headers: { accept } });
  if (response.status !== 200 || response.body === null) {
    await response.body?.cancel();
    throw new FetchFailed(`the issuer answered ${response.status}`);
  }
  const chunks = [];
  let size = 0;
  for await (const chunk of response.body) {
    size += chunk.length;
    if (size > limit) throw new FetchFailed("the issuer's answer is too large");
    chunks.push(chunk);
  }
  return { body: Buffer.concat(chunks), headers: response.headers };
}

/** A document could not be fetched. */
export class FetchFailed extends ValidatorError {
  get code() {
    return 'fetch_failed';
  }
}

/**
 * The freshness an answer gives itself in seconds (RFC 9111 §5.2.2); `no-store` and `no-cache` are none at all.
 *
 * @param {Headers} headers
 */
function maxAge(headers) {
  const directives = (headers.get('cache-control') ?? '').split(',').map((word) => word.trim().toLowerCase());
  if (directives.includes('no-store') || directives.includes('no-cache')) return 0;
  const found = directives.map((directive) => /^max-age=(\d{1,9})$/.exec(directive)).find(Boolean);
  return found ? Number(found[1]) : undefined;
}
