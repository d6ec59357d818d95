// Following the issuer's stream of revocations over HTTP.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import test from 'node:test';

import { JwksKeys, RevocationSet, RevocationsUnavailable, RevocationStream, TokenRevoked, TokenVerifier } from '../src/index.js';
import { LocalIssuer } from '../src/testing.js';

const SYNCED = 'event: synced\ndata: {}\n\n';
const now = Math.floor(Date.now() / 1000);
const killing = (ref, kind = 'session') =>
  `event: revocation\ndata: ${JSON.stringify({ kind, ref, at: now + 900, expires_at: now + 900 })}\n\n`;

/** An issuer's stream: `begins` is sent to who connects, `say` to all who are there. */
async function issuing(t, begins) {
  const state = { begins, streams: new Set(), keys: [], status: 200 };
  const server = createServer((request, response) => {
    state.keys.push([request.url, request.headers['x-api-key']]);
    response.writeHead(state.status, { 'content-type': 'text/event-stream' });
    if (state.status !== 200) return response.end();
    response.flushHeaders();
    response.write(state.begins);
    state.streams.add(response);
    response.on('close', () => state.streams.delete(response));
    return server.emit('stream');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  state.url = `http://127.0.0.1:${server.address().port}`;
  state.say = (text) => state.streams.forEach((response) => response.write(text));
  state.cut = () => state.streams.forEach((response) => response.destroy());
  state.connected = () => once(server, 'stream');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return state;
}

async function eventually(probe) {
  const deadline = Date.now() + 20_000;
  while (!probe()) {
    assert.ok(Date.now() < deadline, 'not in time');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function following(t, url, options = {}) {
  const stream = new RevocationStream(url, { apiKey: 'ask_1', ...options });
  t.after(() => stream.close());
  const local = new LocalIssuer();
  const verifier = new TokenVerifier(new JwksKeys(local.fetch), { issuer: local.issuer, revocationStream: stream });
  return { stream, verifier, token: (sid) => local.token({ sid, jti: sid }) };
}

test('what was revoked before, and what is revoked now, is refused', async (t) => {
  const issuer = await issuing(t, killing('old') + SYNCED);
  const { stream, verifier, token } = following(t, issuer.url);
  await assert.rejects(verifier.verify(token('s1')), RevocationsUnavailable);
  assert.throws(() => verifier.cached(token('s1')), RevocationsUnavailable);
  await stream.start();
  assert.deepEqual(issuer.keys, [['/api/revocations/stream', 'ask_1']]);
  await verifier.verify(token('s1'));
  await assert.rejects(verifier.verify(token('old')), TokenRevoked);
  const cached = token('s2');
  await verifier.verify(cached);
  issuer.say(killing('s2'));
  await eventually(() => verifier.cached(cached) === undefined);
  await assert.rejects(verifier.verify(cached), TokenRevoked);
});

test('after a lost connection the whole set comes again, and nothing known is forgotten', async (t) => {
  const issuer = await issuing(t, killing('first') + SYNCED);
  const { stream, verifier, token } = following(t, issuer.url);
  await stream.start();
  issuer.begins = killing('meanwhile') + SYNCED;
  const again = issuer.connected();
  issuer.cut();
  // What is known goes on being enforced while nobody is there.
  await assert.rejects(verifier.verify(token('first')), TokenRevoked);
  await verifier.verify(token('s1'));
  await again;
  await eventually(() => stream.revocations.size === 2);
  await assert.rejects(verifier.verify(token('meanwhile')), TokenRevoked);
  await assert.rejects(verifier.verify(token('first')), TokenRevoked);
});

test('where it was asked for, silence ends in refusal', async (t) => {
  const issuer = await issuing(t, SYNCED);
  let time = 0;
  const { stream, verifier, token } = following(t, issuer.url, { refuseAfter: 10, clock: () => time });
  await stream.start();
  time = 10;
  await verifier.verify(token('s1'));
  time = 10.1;
  await assert.rejects(verifier.verify(token('s1')), RevocationsUnavailable);
  issuer.say(': ping\n\n');
  await eventually(() => stream.isUsable);
  await verifier.verify(token('s1'));
});

test('what it cannot read ends in refusal, until a stream brings all without it', async (t) => {
  const issuer = await issuing(t, SYNCED);
  const { stream, verifier, token } = following(t, issuer.url);
  await stream.start();
  issuer.begins = killing('good') + SYNCED;
  issuer.say(killing('x', 'planet'));
  await eventually(() => !stream.isUsable);
  await assert.rejects(verifier.verify(token('s1')), RevocationsUnavailable);
  await eventually(() => stream.isUsable);
  assert.match(stream.lastError.message, /cannot read/);
  await verifier.verify(token('s1'));
  await assert.rejects(verifier.verify(token('good')), TokenRevoked);
});

test('a refused key is tried again, and told', async (t) => {
  const issuer = await issuing(t, SYNCED);
  issuer.status = 401;
  const { stream } = following(t, issuer.url);
  const started = stream.start();
  await eventually(() => stream.lastError !== undefined);
  assert.match(stream.lastError.message, /401/);
  issuer.status = 200;
  await started;
});

for (const status of [401, 403]) {
  test(`a key refused with ${status} later on ends in refusal, until it is accepted again`, async (t) => {
    const issuer = await issuing(t, killing('old') + SYNCED);
    const { stream, verifier, token } = following(t, issuer.url);
    await stream.start();
    issuer.status = 500;
    issuer.cut();
    await eventually(() => /500/.test(stream.lastError?.message));
    await verifier.verify(token('s1'));
    issuer.status = status;
    await eventually(() => !stream.isUsable);
    assert.match(stream.lastError.message, new RegExp(status));
    await assert.rejects(verifier.verify(token('s1')), RevocationsUnavailable);
    issuer.status = 200;
    await eventually(() => stream.isUsable);
    await verifier.verify(token('s1'));
    await assert.rejects(verifier.verify(token('old')), TokenRevoked);
  });
}

test('a dead connection is noticed by its silence', async (t) => {
  const issuer = await issuing(t, SYNCED);
  const { stream } = following(t, issuer.url, { silence: 0.2 });
  await stream.start();
  const again = issuer.connected();
  await again;
  assert.match(stream.lastError.message, /silent|abort/i);
});

test('closing ends it, and who waits is told', async (t) => {
  const issuer = await issuing(t, '');
  const { stream } = following(t, issuer.url);
  const waiting = assert.rejects(stream.start(), RevocationsUnavailable);
  await stream.close();
  await waiting;
  assert.throws(() => new RevocationStream('http://auth.example.com', { apiKey: 'ask_1' }), TypeError);
  assert.throws(() => new RevocationStream('https://auth.example.com', { apiKey: '' }), TypeError);
  const apart = { issuer: 'i', revocationStream: stream, revocations: new RevocationSet() };
  assert.throws(() => new TokenVerifier(new JwksKeys(async () => ({ keys: [] })), apart), TypeError);
});
