// The conformance vectors, which every AuthService validator must answer alike.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';

import {
  AccessRefused,
  HmacKey,
  JwksKeys,
  KeyRefused,
  metadataUrl,
  ProofVerifier,
  ProtectedResource,
  readJwk,
  RevocationReader,
  StatusLists,
  TokenRevoked,
  TokenVerifier,
  ValidatorError,
} from '../src/index.js';

const vectors = JSON.parse(readFileSync(new URL('../../conformance/vectors.json', import.meta.url), 'utf8'));
const tokens = new Map(vectors.tokens.map((vector) => [vector.id, vector]));
const clock = () => vectors.verifier.now;
const RS = tokens.get('valid-rs256').token;

function conforming(source = 'jwks', settings = {}) {
  const given = { ...vectors.verifier, ...settings };
  const { secret, kid } = vectors.sources.hs256;
  const keys =
    source === 'jwks'
      ? new JwksKeys(async () => vectors.sources.jwks)
      : new HmacKey(Buffer.from(secret, 'base64url'), { kid });
  return new TokenVerifier(keys, {
    issuer: given.issuer,
    audience: given.audience,
    clientId: given.client_id,
    tokenUses: given.token_uses,
    leeway: given.leeway,
    statusLists: given.statusLists,
    clock,
  });
}

const code = (expected) => (error) => error instanceof ValidatorError && error.code === expected;

test('tokens are answered as their vectors say', async (t) => {
  for (const vector of vectors.tokens) {
    await t.test(vector.id, async () => {
      // The positive control: with this very verifier, the token that the forgery was made from is good.
      const verifier = conforming(vector.source, vector.settings);
      const control = tokens.get(vector.control);
      assert.equal(control.expect, 'valid');
      assert.equal((await verifier.verify(control.token)).clientId, vectors.verifier.client_id);
      if (vector.expect === 'valid') {
        const claims = await verifier.verify(vector.token);
        assert.equal(verifier.cached(vector.token), claims);
        return;
      }
      // A refusal must not become an acceptance by being asked twice.
      for (let turn = 0; turn < 2; turn += 1) {
        await assert.rejects(verifier.verify(vector.token), code(vector.expect));
        assert.equal(verifier.cached(vector.token), undefined);
      }
    });
  }
});

test('secrets that are public or weak are refused', () => {
  new HmacKey(Buffer.from(vectors.sources.hs256.secret, 'base64url'));
  for (const entry of vectors.refused_secrets) {
    const secret = Buffer.from(entry.secret, 'base64url');
    const spaced = Buffer.concat([Buffer.from('\n '), secret, Buffer.from('\r\n')]);
    for (const given of entry.attack === 'J-02' ? [secret, spaced] : [secret]) {
      assert.throws(() => new HmacKey(given), KeyRefused, entry.id);
    }
  }
});

test('keys that are unfit are refused', () => {
  for (const jwk of vectors.sources.jwks.keys) assert.equal(readJwk(jwk).alg, jwk.alg);
  for (const entry of vectors.refused_keys) assert.throws(() => readJwk(entry.jwk), KeyRefused, entry.id);
});

test('a revocation kills the tokens it names, cached or not', async () => {
  for (const entry of vectors.revocations) {
    for (const isWarm of [false, true]) {
      const verifier = conforming();
      if (isWarm) await verifier.verify(RS);
      verifier.revocations.add(entry.kind, entry.name, entry.not_after, vectors.verifier.now + 900);
      if (entry.revoked) {
        assert.equal(verifier.cached(RS), undefined, entry.id);
        await assert.rejects(verifier.verify(RS), TokenRevoked, entry.id);
      } else {
        assert.equal((await verifier.verify(RS)).kid, 'rs-1', entry.id);
      }
    }
  }
});

test('the stream of revocations is read as its vectors say', async () => {
  for (const entry of vectors.streams) {
    const verifier = conforming();
    const reader = new RevocationReader(verifier.revocations);
    for (const chunk of entry.chunks) reader.feed(Buffer.from(chunk));
    assert.equal(reader.state, entry.state, entry.id);
    const isRevoked = await verifier.verify(RS).then(
      () => false,
      (error) => error instanceof TokenRevoked,
    );
    assert.equal(isRevoked, entry.revoked, entry.id);
  }
});

test('status lists are gone by as their vectors say', async (t) => {
  for (const vector of vectors.status_lists) {
    await t.test(vector.id, async () => {
      const fetched = new Set();
      const statusLists = new StatusLists(new JwksKeys(async () => vectors.sources.jwks), {
        issuer: vectors.verifier.issuer,
        clock,
        fetch: async (uri) => {
          fetched.add(uri);
          return vector.list;
        },
      });
      const verifier = conforming('jwks', { statusLists });
      for (let turn = 0; turn < 2; turn += 1) {
        if (vector.expect === 'valid') await verifier.verify(vector.token);
        else await assert.rejects(verifier.verify(vector.token), code(vector.expect));
      }
      // Never an address that a token chose.
      for (const uri of fetched) assert.equal(uri, vector.uri);
    });
  }
});

test('proofs are answered as their vectors say', async (t) => {
  const proofs = new Map(vectors.proofs.map((vector) => [vector.id, vector]));
  const check = (vector) =>
    new ProofVerifier({ clock }).verify(vector.proof, {
      method: vector.method,
      url: vector.url,
      accessToken: vector.access_token ?? undefined,
      jkt: vector.jkt ?? undefined,
      nonce: vector.nonce ?? undefined,
    });
  for (const vector of vectors.proofs) {
    await t.test(vector.id, async () => {
      await check(proofs.get(vector.control));
      if (vector.expect === 'valid') await check(vector);
      else await assert.rejects(check(vector), code(vector.expect));
    });
  }
});

test('requests are let in or told why not, as their vectors say', async (t) => {
  for (const vector of vectors.requests) {
    await t.test(vector.id, async () => {
      const verifier = conforming('jwks', { token_uses: ['access', 'oauth'] });
      const resource = new ProtectedResource(verifier, vector.guard);
      const { authorization, dpop, method, url, need } = vector;
      const needs = { scopes: need.scopes, acrValues: need.acr_values, maxAge: need.max_age };
      const asked = resource.authenticate({ authorization, dpop, method, url }, needs);
      if (vector.status === 200) {
        assert.equal((await asked).sub, vector.subject);
        return;
      }
      const refused = await asked.then(assert.fail, (error) => error);
      assert.ok(refused instanceof AccessRefused, refused);
      assert.deepEqual(
        [refused.status, refused.code, refused.headers['WWW-Authenticate']],
        [vector.status, vector.code, vector.challenge],
      );
    });
  }
});

test('metadata stands where its vectors say', () => {
  for (const { resource, url } of vectors.metadata) {
    if (url === null) assert.throws(() => metadataUrl(resource), TypeError, resource);
    else assert.equal(metadataUrl(resource), url);
  }
});
