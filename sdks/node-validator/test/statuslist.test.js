// Status lists: renewed in the background, gone by while the issuer is away, and never for too long.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import test from 'node:test';
import { deflateSync } from 'node:zlib';

import { HmacKey, JwksKeys, RevocationsUnavailable, StatusLists, TokenRevoked, TokenVerifier } from '../src/index.js';
import { LocalIssuer } from '../src/testing.js';

const ISSUER_KID = 'issuer.k1';

function setting(options = {}) {
  const time = { now: 1_800_000_000 };
  const clock = () => time.now;
  const issuer = new LocalIssuer({ issuer: options.issuer ?? 'https://auth.test', clock });
  issuer.addKey(ISSUER_KID);
  const uri = `${issuer.issuer}/.well-known/status-lists/0`;
  const published = { octets: Buffer.alloc(16), fetches: 0, isAway: false };
  const list = (changes = {}) => {
    const status_list = { bits: 1, lst: deflateSync(published.octets).toString('base64url') };
    const claims = { sub: uri, iat: time.now, exp: time.now + 300, ttl: 10, status_list, ...changes };
    return issuer.token(claims, ISSUER_KID, 'statuslist+jwt');
  };
  const fetch = async () => {
    published.fetches += 1;
    await new Promise((resolve) => setImmediate(resolve));
    if (published.isAway) throw new Error('the issuer is away');
    return list();
  };
  const keys = new JwksKeys(issuer.fetch, { clock: () => 0 });
  const given = options.issuer === undefined ? { fetch } : {};
  const statusLists = new StatusLists(keys, { issuer: issuer.issuer, clock, ...given });
  const verifier = new TokenVerifier(keys, { issuer: issuer.issuer, statusLists, clock });
  const token = (jti, idx = 5) => issuer.token({ jti, exp: time.now + 5000, status: { status_list: { idx, uri } } });
  return { time, published, list, verifier, token, statusLists };
}

test('one fetch serves all, and a revoked token is refused once the list is renewed, cached or not', async () => {
  const { time, published, verifier, token } = setting();
  const [first, second] = [token('a'), token('b', 6)];
  await Promise.all(Array.from({ length: 50 }, () => verifier.verify(first)));
  assert.equal(published.fetches, 1);
  published.octets[0] = 1 << 5;
  time.now += 7;
  assert.ok(verifier.cached(first));
  assert.equal(published.fetches, 1);
  time.now += 1.5;
  assert.ok(verifier.cached(first)); // renews in the background, and nobody waits for it
  const deadline = Date.now() + 20_000;
  while (verifier.cached(first) !== undefined) {
    assert.ok(Date.now() < deadline, 'not in time');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.equal(published.fetches, 2);
  await assert.rejects(verifier.verify(first), TokenRevoked);
  await verifier.verify(second);
});

test('while the issuer is away the last list serves to its end, and none is no verdict', async () => {
  const { time, published, verifier, token } = setting();
  const good = token('a');
  await verifier.verify(good);
  published.isAway = true;
  time.now += 299;
  await verifier.verify(good);
  time.now += 2;
  await assert.rejects(verifier.verify(good), RevocationsUnavailable);
  published.isAway = false;
  time.now += 2;
  await verifier.verify(good);
});

test('lists come over HTTP, whole and not by a redirect; a secret signs none', async (t) => {
  let answer = () => {};
  const asked = [];
  const server = createServer((request, response) => {
    asked.push(request.headers.accept);
    answer(response);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { time, list, verifier, token } = setting({ issuer: `http://127.0.0.1:${server.address().port}` });
  const bomb = () => list({ status_list: { bits: 1, lst: deflateSync(Buffer.alloc(2_000_000)).toString('base64url') } });
  const ways = [
    (response) => response.writeHead(302, { location: '/.well-known/status-lists/0' }).end(),
    (response) => response.end('x'.repeat(600_000)),
    (response) => response.end(bomb()),
  ];
  for (const way of ways) {
    answer = way;
    await assert.rejects(verifier.verify(token('a')), RevocationsUnavailable);
    time.now += 2;
  }
  answer = (response) => response.end(list());
  await verifier.verify(token('a'));
  assert.deepEqual(asked, Array(4).fill('application/statuslist+jwt'));
  assert.throws(() => new StatusLists(new HmacKey(Buffer.from([...Array(32).keys()])), { issuer: 'https://a' }), TypeError);
});
