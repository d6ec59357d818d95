// Compiled, never run: the types fit Express's own, and the ways the README shows.

import express from 'express';

import { protect, serveMetadata, type ProtectedRequest } from 'authservice-validator/express';
import { JwksKeys, ProtectedResource, RevocationStream, TokenVerifier, type VerifiedClaims } from 'authservice-validator';
import { LocalIssuer, ProofKey } from 'authservice-validator/testing';

const local = new LocalIssuer();
const stream = new RevocationStream(local.issuer, { apiKey: 'ask_1', refuseAfter: 60 });
const keys = new JwksKeys(local.fetch, { cooldown: 1 });
const verifier = new TokenVerifier(keys, { issuer: local.issuer, tokenUses: ['access', 'oauth'], revocationStream: stream });
const resource = new ProtectedResource(verifier, { resource: 'https://api.example.com', dpop: 'accepted' });
const app = express();
app.use(serveMetadata(resource));
app.get('/orders', protect(resource, { scopes: ['orders:read'], maxAge: 300 }), (request: ProtectedRequest, response) => {
  const claims: VerifiedClaims | undefined = request.auth;
  response.json(claims?.scopes);
});
const proof: string = new ProofKey().proof('GET', 'https://api.example.com/orders');
// @ts-expect-error a word that does not exist
new ProtectedResource(verifier, { dpop: 'maybe' });
void proof;
