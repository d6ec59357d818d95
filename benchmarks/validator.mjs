// What a verification costs in Node: a token seen for the first time, and from the cache. One core, no network.
//
//     node benchmarks/validator.mjs
//
// The tokens are the validators' vectors, the clock stands at their time. The best of many rounds is printed: on a
// shared machine the mean measures the neighbours.

import { readFileSync } from 'node:fs';

import { JwksKeys, TokenVerifier } from '../sdks/node-validator/src/index.js';

const ROUNDS = 50;
const CALLS = 200;

const { sources, tokens, verifier: setting } = JSON.parse(
  readFileSync(new URL('../sdks/conformance/vectors.json', import.meta.url), 'utf8'),
);

function make(cacheSize) {
  const keys = new JwksKeys(async () => sources.jwks, { clock: () => 0 });
  const { issuer, audience, client_id: clientId, now } = setting;
  return new TokenVerifier(keys, { issuer, audience, clientId, cacheSize, clock: () => now });
}

/** The least microseconds of one call. */
async function best(call) {
  let least = Infinity;
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = process.hrtime.bigint();
    for (let index = 0; index < CALLS; index += 1) await call();
    least = Math.min(least, Number(process.hrtime.bigint() - start) / CALLS / 1000);
  }
  return least.toFixed(1);
}

console.log('µs per call        first    cached');
for (const alg of ['RS256', 'ES256', 'EdDSA']) {
  const { token } = tokens.find(({ id }) => id === `valid-${alg.toLowerCase()}`);
  const [cold, warm] = [make(0), make(100)];
  await warm.verify(token);
  const [first, cached] = [await best(() => cold.verify(token)), await best(() => warm.verify(token))];
  console.log(alg.padEnd(12) + first.padStart(12) + cached.padStart(10));
}
