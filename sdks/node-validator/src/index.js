/** Validates AuthService access tokens. The Express middleware is in `authservice-validator/express`. */

export { jwkThumbprint, PROOF_ALGORITHMS, ProofVerifier } from './dpop.js';
export {
  KeyRefused,
  KeysUnavailable,
  NonceNeeded,
  ProofError,
  ProofInvalid,
  RevocationsUnavailable,
  TokenError,
  TokenExpired,
  TokenInvalid,
  TokenRevoked,
  ValidatorError,
} from './errors.js';
export { JwksKeys } from './jwks.js';
export { HmacKey, readJwk } from './keys.js';
export { AccessRefused, metadataUrl, ProtectedResource } from './resource.js';
export { REVOCATION_KINDS, RevocationSet } from './revocation.js';
export { StatusLists } from './statuslist.js';
export { RevocationReader, RevocationStream } from './stream.js';
export { TokenVerifier } from './verifier.js';
