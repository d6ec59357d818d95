// The middleware in the real Express, over HTTP.

import assert from 'node:assert/strict';
import { connect } from 'node:net';
import test from 'node:test';

import express from 'express';

import { protect, serveMetadata } from '../src/express.js';
import { JwksKeys, ProofVerifier, ProtectedResource, TokenVerifier } from '../src/index.js';
import { LocalIssuer, ProofKey } from '../src/testing.js';

const RESOURCE = 'https://api.example.com';
const METADATA = `resource_metadata="${RESOURCE}/.well-known/oauth-protected-resource"`;

async function serving(t, options = {}) {
  const issuer = new LocalIssuer();
  const verifier = new TokenVerifier(new JwksKeys(issuer.fetch), { issuer: issuer.issuer, audience: 'api' });
  const resource = new ProtectedResource(verifier, {
    resource: RESOURCE,
    authorizationServers: [issuer.issuer],
    scopes: ['orders:read'],
    dpop: 'accepted',
    ...options,
  });
  const app = express();
  const refusals = [];
  app.use(serveMetadata(resource));
  app.get('/me', protect(resource, {}, { onRefused: (refused) => refusals.push(refused.cause?.message) }), (req, res) =>
    res.json(req.auth.sub),
  );
  const nested = express.Router();
  nested.get('/list', protect(resource, { scopes: ['orders:read'] }), (req, res) => res.json(req.auth.scopes));
  nested.post('/list', protect(resource, { acrValues: ['urn:authservice:acr:2fa'], maxAge: 300 }), (_, res) => res.sendStatus(204));
  app.use('/orders', nested);
  const server = app.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address();
  const call = async (path, headers = {}, method = 'GET') => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { headers, method });
    const text = await answer.text();
    return { status: answer.status, headers: answer.headers, body: text && text !== 'No Content' ? JSON.parse(text) : null };
  };
  return { issuer, verifier, resource, call, port, refusals };
}

const bearer = (token) => ({ authorization: `Bearer ${token}` });

test('a good token comes in, everybody else is told why not', async (t) => {
  const { issuer, verifier, call, refusals } = await serving(t);
  assert.equal((await call('/me', bearer(issuer.token()))).body, 'u1');
  const nothing = await call('/me');
  assert.equal(nothing.status, 401);
  assert.equal(nothing.headers.get('www-authenticate'), `Bearer ${METADATA}, DPoP algs="ES256 EdDSA RS256", ${METADATA}`);
  assert.equal(nothing.headers.get('content-type'), 'application/problem+json');
  assert.equal(nothing.headers.get('cache-control'), 'no-store');
  assert.deepEqual(nothing.body, {
    type: 'about:blank',
    title: 'Unauthorized',
    status: 401,
    detail: 'An access token is needed.',
    code: 'missing_token',
  });
  const forged = await call('/me', bearer(new LocalIssuer().token()));
  assert.deepEqual([forged.status, forged.body.code], [401, 'invalid_token']);
  assert.equal(refusals.at(-1), 'the signature does not fit');
  assert.ok(!JSON.stringify(forged.body).includes('signature'));
  const now = Math.floor(Date.now() / 1000);
  verifier.revocations.add('session', 's1', now, now + 900);
  assert.equal((await call('/me', bearer(issuer.token({ iat: now - 5 })))).body.code, 'token_revoked');
});

test('two Authorization headers are none, whatever Node makes of them', async (t) => {
  const { issuer, port } = await serving(t);
  const raw = (headers) =>
    new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1');
      let text = '';
      socket.on('data', (data) => (text += data));
      socket.on('end', () => resolve(Number(text.slice(9, 12))));
      socket.on('error', reject);
      socket.write(`GET /me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${headers.map((h) => `${h}\r\n`).join('')}\r\n`);
    });
  const header = `Authorization: Bearer ${issuer.token()}`;
  assert.equal(await raw([header]), 200);
  assert.equal(await raw([header, header]), 401);
  assert.equal(await raw([header, 'Authorization: Basic dTpw']), 401);
});

test('scopes and step-up are asked for by RFC 6750 and RFC 9470', async (t) => {
  const { issuer, call } = await serving(t);
  assert.deepEqual((await call('/orders/list', bearer(issuer.token({ scope: 'orders:read' })))).body, ['orders:read']);
  const lacking = await call('/orders/list', bearer(issuer.token()));
  assert.equal(lacking.status, 403);
  assert.equal(lacking.headers.get('www-authenticate'), `Bearer error="insufficient_scope", scope="orders:read", ${METADATA}`);
  const now = Math.floor(Date.now() / 1000);
  const fresh = issuer.token({ acr: 'urn:authservice:acr:2fa', auth_time: now - 10 });
  assert.equal((await call('/orders/list', bearer(fresh), 'POST')).status, 204);
  const weak = await call('/orders/list', bearer(issuer.token({ auth_time: now })), 'POST');
  assert.deepEqual([weak.status, weak.body.code], [401, 'insufficient_user_authentication']);
  assert.match(weak.headers.get('www-authenticate'), /acr_values="urn:authservice:acr:2fa", max_age="300"/);
});

test('a bound token comes in with its proof, once, on mounted routers too', async (t) => {
  const { issuer, call } = await serving(t);
  const key = new ProofKey();
  const token = issuer.token({ cnf: { jkt: key.jkt }, scope: 'orders:read' });
  const proof = key.proof('GET', `${RESOURCE}/orders/list`, { accessToken: token });
  const headers = { authorization: `DPoP ${token}`, dpop: proof };
  assert.equal((await call('/orders/list?page=2', headers)).status, 200);
  const replayed = await call('/orders/list', headers);
  assert.deepEqual([replayed.status, replayed.body.code], [401, 'invalid_dpop_proof']);
  assert.match(replayed.headers.get('www-authenticate'), /^DPoP error="invalid_dpop_proof"/);
  const elsewhere = key.proof('GET', `${RESOURCE}/orders/list`, { accessToken: token });
  assert.equal((await call('/me', { authorization: `DPoP ${token}`, dpop: elsewhere })).status, 401);
  const stolen = new ProofKey().proof('GET', `${RESOURCE}/me`, { accessToken: token });
  assert.equal((await call('/me', { authorization: `DPoP ${token}`, dpop: stolen })).status, 401);
  assert.equal((await call('/me', bearer(token))).status, 401);
});

test('a nonce is asked for, and then taken', async (t) => {
  const { issuer, call } = await serving(t, { nonces: { current: () => 'n-1' } });
  const key = new ProofKey();
  const token = issuer.token({ cnf: { jkt: key.jkt } });
  const sent = (nonce) => ({ authorization: `DPoP ${token}`, dpop: key.proof('GET', `${RESOURCE}/me`, { accessToken: token, nonce }) });
  const asked = await call('/me', sent(undefined));
  assert.deepEqual([asked.status, asked.body.code, asked.headers.get('dpop-nonce')], [401, 'use_dpop_nonce', 'n-1']);
  assert.equal((await call('/me', sent('n-1'))).status, 200);
});

test('twenty uses of one proof at once let one in', async () => {
  const verifier = new ProofVerifier();
  const key = new ProofKey();
  const request = { method: 'GET', url: `${RESOURCE}/me` };
  const proof = key.proof(request.method, request.url);
  const answers = await Promise.allSettled(Array.from({ length: 20 }, () => verifier.verify(proof, request)));
  assert.equal(answers.filter(({ status }) => status === 'fulfilled').length, 1);
});

test('while keys are unavailable the answer is 503', async (t) => {
  const { issuer, call } = await serving(t);
  issuer.isAway = true;
  const answer = await call('/me', bearer(issuer.token()));
  assert.deepEqual([answer.status, answer.body.code, answer.headers.get('retry-after')], [503, 'keys_unavailable', '2']);
  assert.equal(answer.headers.get('www-authenticate'), null);
});

test('the metadata says what the resource takes', async (t) => {
  const { issuer, call, resource } = await serving(t, { dpop: 'required' });
  const answer = await call('/.well-known/oauth-protected-resource');
  assert.equal(answer.headers.get('content-type'), 'application/json');
  assert.deepEqual(answer.body, {
    resource: RESOURCE,
    authorization_servers: [issuer.issuer],
    bearer_methods_supported: ['header'],
    scopes_supported: ['orders:read'],
    dpop_signing_alg_values_supported: ['ES256', 'EdDSA', 'RS256'],
    dpop_bound_access_tokens_required: true,
  });
  assert.equal((await call('/.well-known/oauth-protected-resource', {}, 'HEAD')).body, null);
  assert.throws(() => protect(resource, { scopes: ['a" error="x'] }), TypeError);
  assert.throws(() => protect(resource, { maxAge: 0.5 }), TypeError);
});
