// The issuer's keys: rollover without a miss, and out of an attacker's reach.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import test from 'node:test';

import { JwksKeys, KeysUnavailable, TokenExpired, TokenInvalid, TokenVerifier } from '../src/index.js';
import { LocalIssuer } from '../src/testing.js';

function setting(options = {}) {
  const time = { now: 1_800_000_000 };
  const clock = () => time.now;
  const issuer = new LocalIssuer({ clock });
  const keys = new JwksKeys(issuer.fetch, { clock, ...options });
  const verifier = new TokenVerifier(keys, { issuer: issuer.issuer, audience: 'api', clientId: 'c1', clock });
  return { time, clock, issuer, keys, verifier };
}

test('a hundred callers at once cost one fetch', async () => {
  const { issuer, verifier } = setting();
  const token = issuer.token();
  await Promise.all(Array.from({ length: 100 }, () => verifier.verify(token)));
  assert.equal(issuer.fetches, 1);
});

test('keys roll over three times under fifty verifications each, and none fails', async () => {
  const { time, issuer, verifier } = setting();
  await verifier.verify(issuer.token());
  for (const [old, next] of [['k1', 'k2'], ['k2', 'k3'], ['k3', 'k4']]) {
    issuer.addKey(next);
    const tokens = Array.from({ length: 50 }, (_, index) => issuer.token({ jti: `${next}-${index}` }, index % 2 ? old : next));
    await Promise.all(tokens.map((token) => verifier.verify(token)));
    issuer.keys.delete(old);
    time.now += 300;
  }
  assert.ok(issuer.fetches <= 7, `${issuer.fetches} fetches`);
});

test('a flood of invented names costs one fetch per cool-down, and good tokens go on', async () => {
  const { time, issuer, verifier } = setting();
  await verifier.verify(issuer.token());
  const { fetches } = issuer;
  const forger = new LocalIssuer();
  for (let round = 0; round < 3; round += 1) {
    const forged = Array.from({ length: 200 }, (_, index) => {
      forger.addKey(`x${round}-${index}`);
      return forger.token({}, `x${round}-${index}`);
    });
    const answers = await Promise.allSettled(forged.map((token) => verifier.verify(token)));
    assert.ok(answers.every((answer) => answer.reason instanceof TokenInvalid));
    await verifier.verify(issuer.token({ jti: `good-${round}` }));
    time.now += 5;
  }
  assert.equal(issuer.fetches - fetches, 3);
});

test('a key that is withdrawn takes its cached tokens along', async () => {
  const { time, issuer, verifier } = setting();
  const token = issuer.token();
  await verifier.verify(token);
  issuer.addKey('k2');
  issuer.keys.delete('k1');
  time.now += 301;
  await assert.rejects(verifier.verify(issuer.token({ jti: 't2' }, 'k2')).then(() => verifier.verify(token)), TokenInvalid);
});

test('while the issuer is away known keys serve for a bounded time', async () => {
  const { time, issuer, verifier } = setting({ staleFor: 1000 });
  const long = (jti) => issuer.token({ jti, exp: time.now + 9000 });
  await verifier.verify(long('a'));
  issuer.isAway = true;
  time.now += 1299;
  await verifier.verify(long('b'));
  time.now += 2;
  await assert.rejects(verifier.verify(long('c')), KeysUnavailable);
  issuer.isAway = false;
  time.now += 31;
  await verifier.verify(long('d'));
});

test('an issuer that is away from the start is no verdict on the token', async () => {
  const { issuer, verifier } = setting();
  issuer.isAway = true;
  await assert.rejects(verifier.verify(issuer.token()), KeysUnavailable);
});

test('a fetch that hangs is given up', async () => {
  const { issuer, clock } = setting();
  const keys = new JwksKeys(() => new Promise(() => {}), { timeout: 0.05, clock });
  const verifier = new TokenVerifier(keys, { issuer: issuer.issuer, clock });
  await assert.rejects(verifier.verify(issuer.token()), KeysUnavailable);
});

test('a cached token ends when it expires', async () => {
  const { time, issuer, verifier } = setting();
  const token = issuer.token({ exp: time.now + 10 });
  await verifier.verify(token);
  time.now += 39;
  await verifier.verify(token);
  time.now += 1;
  await assert.rejects(verifier.verify(token), TokenExpired);
});

test('the built-in fetcher takes a whole JSON answer and nothing else', async (t) => {
  const { issuer, clock } = setting();
  const good = JSON.stringify(issuer.document());
  let answer = (response) => response.end(good);
  let asked = 0;
  const server = createServer((_, response) => {
    asked += 1;
    answer(response);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${server.address().port}/jwks.json`;
  const tried = (timeout = 20) => new JwksKeys(url, { clock, timeout }).refresh();
  await tried();
  const bad = {
    status: (response) => response.writeHead(500).end(good),
    redirect: (response) => response.writeHead(302, { location: '/jwks.json' }).end(),
    html: (response) => response.end('<html>'),
    large: (response) => response.end(`{"keys":[],"x":"${'x'.repeat(300_000)}"}`),
    short: (response) => {
      response.writeHead(200, { 'content-length': good.length + 10 });
      response.write(good);
      setTimeout(() => response.destroy(), 10);
    },
    slow: (response) => response.write(good.slice(0, 9)),
    twice: (response) => response.end(`{"keys":[],${good.slice(1)}`),
  };
  for (const [name, way] of Object.entries(bad)) {
    answer = way;
    const before = asked;
    await assert.rejects(tried(name === 'slow' ? 0.3 : 20), KeysUnavailable, name);
    assert.equal(asked, before + 1, name);
  }
  for (const unsafe of ['http://auth.example.com/jwks', 'https://u:p@auth.example.com/jwks', 'ftp://127.0.0.1/x', 'jwks']) {
    assert.throws(() => new JwksKeys(unsafe), TypeError, unsafe);
  }
});

test('settings that are unsafe are refused', () => {
  const { keys } = setting();
  const unsafe = [{ issuer: '' }, { audience: '' }, { clientId: '' }, { tokenUses: [] }, { tokenUses: 'access' }, { leeway: 61 }, { leeway: -1 }];
  new TokenVerifier(keys, { issuer: 'i', leeway: 60 });
  for (const wrong of unsafe) assert.throws(() => new TokenVerifier(keys, { issuer: 'i', ...wrong }));
});
