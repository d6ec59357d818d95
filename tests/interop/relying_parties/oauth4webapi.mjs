// A public app with oauth4webapi: pushed authorization requests, PKCE, DPoP with nonces, form_post, refresh.
import * as oauth from 'oauth4webapi'

import { serve } from './serve.mjs'

const { AUTHSERVICE_URL: ISSUER, CLIENT_ID, PORT } = process.env
const redirectUri = `http://127.0.0.1:${PORT}/callback`
const loopback = { [oauth.allowInsecureRequests]: true }

const issuer = new URL(ISSUER)
const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, loopback))
const client = { client_id: CLIENT_ID }
const auth = oauth.None()
const DPoP = oauth.DPoP(client, await oauth.generateKeyPair('ES256'))

let expected = {}
let tokens

/** Call, and once more with the nonce that the server wants in the proof. */
async function withNonce(call) {
  try {
    return await call()
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error
    return await call()
  }
}

async function userinfo(sub) {
  const ask = async () => {
    const answer = await oauth.userInfoRequest(server, client, tokens.access_token, { DPoP, ...loopback })
    return await oauth.processUserInfoResponse(server, client, sub, answer)
  }
  return await withNonce(ask)
}

serve(PORT, {
  async login() {
    const verifier = oauth.generateRandomCodeVerifier()
    expected = { verifier, state: oauth.generateRandomState(), nonce: oauth.generateRandomNonce() }
    const parameters = new URLSearchParams({
      client_id: CLIENT_ID,
      redirect_uri: redirectUri,
      response_type: 'code',
      response_mode: 'form_post',
      scope: 'openid email offline_access',
      prompt: 'consent',
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      state: expected.state,
      nonce: expected.nonce,
    })
    const pushed = await withNonce(async () => {
      const answer = await oauth.pushedAuthorizationRequest(server, client, auth, parameters, {
        DPoP,
        ...loopback,
      })
      return await oauth.processPushedAuthorizationResponse(server, client, answer)
    })
    const url = new URL(server.authorization_endpoint)
    url.searchParams.set('client_id', CLIENT_ID)
    url.searchParams.set('request_uri', pushed.request_uri)
    return url
  },
  async callback(url, body) {
    const answer = oauth.validateAuthResponse(server, client, new URLSearchParams(body), expected.state)
    tokens = await withNonce(async () => {
      const granted = await oauth.authorizationCodeGrantRequest(
        server, client, auth, answer, redirectUri, expected.verifier, { DPoP, ...loopback },
      )
      return await oauth.processAuthorizationCodeResponse(server, client, granted, {
        expectedNonce: expected.nonce,
        requireIdToken: true,
      })
    })
    const claims = oauth.getValidatedIdTokenClaims(tokens)
    return { claims, userinfo: await userinfo(claims.sub), token_type: tokens.token_type }
  },
  async refresh() {
    const before = tokens
    tokens = await withNonce(async () => {
      const answer = await oauth.refreshTokenGrantRequest(server, client, auth, before.refresh_token, {
        DPoP,
        ...loopback,
      })
      return await oauth.processRefreshTokenResponse(server, client, answer)
    })
    const info = await userinfo(oauth.skipSubjectCheck)
    return { userinfo: info, rotated: tokens.refresh_token !== before.refresh_token }
  },
  async stolen() {
    // A thief has the token and no key: as a bearer token, and with a key of its own.
    const headers = { authorization: `Bearer ${tokens.access_token}` }
    const bearer = await fetch(server.userinfo_endpoint, { headers })
    const other = oauth.DPoP(client, await oauth.generateKeyPair('ES256'))
    const proven = []
    for (let attempt = 0; attempt < 2; attempt++) {
      const answer = await oauth.userInfoRequest(server, client, tokens.access_token, {
        DPoP: other,
        ...loopback,
      })
      proven.push(answer.status)
    }
    return { bearer: bearer.status, proven: proven.at(-1) }
  },
})
