// A confidential server app with openid-client: login, userinfo, refresh, introspection, revocation, logout.
import * as client from 'openid-client'

import { serve } from './serve.mjs'

const { AUTHSERVICE_URL: ISSUER, CLIENT_ID, CLIENT_SECRET, PORT } = process.env
const redirectUri = `http://127.0.0.1:${PORT}/callback`

const config = await client.discovery(new URL(ISSUER), CLIENT_ID, CLIENT_SECRET, undefined, {
  execute: [client.allowInsecureRequests], // loopback
})

let expected = {}
let tokens

serve(PORT, {
  async login() {
    const pkceCodeVerifier = client.randomPKCECodeVerifier()
    expected = {
      pkceCodeVerifier,
      expectedState: client.randomState(),
      expectedNonce: client.randomNonce(),
      idTokenExpected: true,
    }
    return client.buildAuthorizationUrl(config, {
      redirect_uri: redirectUri,
      scope: 'openid profile email offline_access',
      prompt: 'consent',
      code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
      code_challenge_method: 'S256',
      state: expected.expectedState,
      nonce: expected.expectedNonce,
    })
  },
  async callback(url) {
    tokens = await client.authorizationCodeGrant(config, url, expected)
    const claims = tokens.claims()
    const userinfo = await client.fetchUserInfo(config, tokens.access_token, claims.sub)
    return { claims, userinfo, scope: tokens.scope }
  },
  async refresh() {
    const before = tokens
    tokens = { ...before, ...(await client.refreshTokenGrant(config, before.refresh_token)) }
    const userinfo = await client.fetchUserInfo(config, tokens.access_token, client.skipSubjectCheck)
    return { userinfo, rotated: tokens.refresh_token !== before.refresh_token }
  },
  async introspect() {
    return await client.tokenIntrospection(config, tokens.access_token)
  },
  async revoke() {
    await client.tokenRevocation(config, tokens.refresh_token)
    return await client.tokenIntrospection(config, tokens.access_token)
  },
  async logout() {
    return client.buildEndSessionUrl(config, {
      id_token_hint: tokens.id_token,
      post_logout_redirect_uri: `http://127.0.0.1:${PORT}/bye`,
      state: 'done',
    })
  },
  async bye(url) {
    return { bye: url.searchParams.get('state') }
  },
})
