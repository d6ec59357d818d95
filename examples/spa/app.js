// A single-page app: authorization code with PKCE, and DPoP, so that a stolen token is worth nothing elsewhere.
import * as oauth from './node_modules/oauth4webapi/build/index.js'

const { issuer, client_id } = await (await fetch('config.json')).json()
const own = new URL('./', location.href)
const redirectUri = new URL('index.html', own).href
const client = { client_id }
const auth = oauth.None()
// Without https only on this machine.
const options = { [oauth.allowInsecureRequests]: new URL(issuer).protocol === 'http:' }
const server = await oauth.processDiscoveryResponse(
  new URL(issuer),
  await oauth.discoveryRequest(new URL(issuer), options),
)
// The private key cannot be read, not even by this page.
const DPoP = oauth.DPoP(client, await oauth.generateKeyPair('ES256', { extractable: false }))

let tokens

const show = (id, visible) => (document.getElementById(id).hidden = !visible)
const say = (text) => (document.getElementById('who').textContent = text)

/** Call, and once more with the nonce that the server wants in the proof. */
async function withNonce(call) {
  try {
    return await call()
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error
    return await call()
  }
}

async function login() {
  const verifier = oauth.generateRandomCodeVerifier()
  const state = oauth.generateRandomState()
  const nonce = oauth.generateRandomNonce()
  sessionStorage.setItem('login', JSON.stringify({ verifier, state, nonce }))
  const url = new URL(server.authorization_endpoint)
  url.search = new URLSearchParams({
    client_id,
    redirect_uri: redirectUri,
    response_type: 'code',
    scope: 'openid email offline_access',
    prompt: 'consent',
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
    nonce,
  })
  location.assign(url)
}

async function finish() {
  const { verifier, state, nonce } = JSON.parse(sessionStorage.getItem('login'))
  sessionStorage.removeItem('login')
  const answer = oauth.validateAuthResponse(server, client, new URL(location.href), state)
  history.replaceState({}, '', redirectUri) // the code leaves the address bar
  tokens = await withNonce(async () => {
    const granted = await oauth.authorizationCodeGrantRequest(
      server, client, auth, answer, redirectUri, verifier, { DPoP, ...options },
    )
    return await oauth.processAuthorizationCodeResponse(server, client, granted, {
      expectedNonce: nonce,
      requireIdToken: true,
    })
  })
  await who('signed in as')
}

async function who(greeting) {
  const { sub } = oauth.getValidatedIdTokenClaims(tokens) ?? {}
  const user = await withNonce(async () => {
    const answer = await oauth.userInfoRequest(server, client, tokens.access_token, { DPoP, ...options })
    return await oauth.processUserInfoResponse(server, client, sub ?? oauth.skipSubjectCheck, answer)
  })
  say(`${greeting} ${user.email}`)
  for (const id of ['refresh', 'logout']) show(id, true)
}

async function refresh() {
  const idToken = tokens.id_token
  tokens = await withNonce(async () => {
    const answer = await oauth.refreshTokenGrantRequest(server, client, auth, tokens.refresh_token, {
      DPoP,
      ...options,
    })
    return await oauth.processRefreshTokenResponse(server, client, answer)
  })
  tokens.id_token ??= idToken
  await who('still signed in as')
}

function logout() {
  const url = new URL(server.end_session_endpoint)
  url.search = new URLSearchParams({
    id_token_hint: tokens.id_token,
    post_logout_redirect_uri: redirectUri,
  })
  location.assign(url)
}

document.getElementById('login').onclick = login
document.getElementById('refresh').onclick = refresh
document.getElementById('logout').onclick = logout

try {
  if (new URL(location.href).searchParams.has('code')) {
    await finish()
  } else {
    say('nobody is signed in')
    show('login', true)
  }
} catch (error) {
  say(`failed: ${error.message} ${JSON.stringify(error.cause ?? '')}`)
}
