/** Types of `authservice-validator`. Times are Unix seconds, durations are seconds. */

export interface VerifiedClaims {
  readonly iss: string;
  readonly sub: string;
  readonly aud: readonly string[];
  readonly exp: number;
  readonly iat: number;
  readonly nbf?: number;
  readonly jti: string;
  readonly sid?: string;
  readonly clientId: string;
  readonly tokenUse: string;
  /** The app that a token of `tokenUse` `oauth` was given to. */
  readonly azp?: string;
  readonly email?: string;
  readonly role?: string;
  readonly emailVerified?: boolean;
  readonly authTime?: number;
  readonly amr: readonly string[];
  readonly acr?: string;
  readonly scope?: string;
  /** The words of `scope`, whichever of the two claims the token carries. */
  readonly scopes: readonly string[];
  readonly serviceAccountId?: string;
  readonly serviceAccountName?: string;
  readonly orgId?: string;
  readonly orgSlug?: string;
  readonly orgRole?: string;
  readonly orgPermissions: readonly string[];
  /** The key that the token is bound to (RFC 9449); `ProtectedResource` demands its proof. */
  readonly cnf?: Readonly<Record<string, unknown>>;
  /** Who acts as the subject (RFC 8693 §4.1). */
  readonly act?: Readonly<Record<string, unknown>>;
  /** Name of the signing key, from the header. */
  readonly kid: string;
  /** Every claim of the token, frozen. */
  readonly claims: Readonly<Record<string, unknown>>;
}

export class ValidatorError extends Error {
  /** Stable name of the reason, safe to show. */
  readonly code: string;
}
export class TokenError extends ValidatorError {}
export class TokenInvalid extends TokenError {}
export class TokenExpired extends TokenError {}
export class TokenRevoked extends TokenError {}
export class ProofError extends ValidatorError {}
export class ProofInvalid extends ProofError {}
export class NonceNeeded extends ProofError {}
export class KeysUnavailable extends ValidatorError {}
export class RevocationsUnavailable extends ValidatorError {}
export class KeyRefused extends ValidatorError {}

export interface SigningKey {
  readonly alg: string;
  verifies(input: string, signature: Uint8Array): boolean;
}

/** Where a verifier gets its keys; the source, not the token, decides which algorithms exist. */
export interface KeySource {
  readonly algorithms: ReadonlySet<string>;
  /** Changes whenever a key is taken away, which ends every cached verification made with it. */
  readonly generation: number;
  find(kid: string): SigningKey | undefined;
  get(kid: string): Promise<SigningKey>;
}

export interface FetchedJwks {
  document: unknown;
  /** For how long it is fresh, where the answer says so. */
  maxAge?: number;
}
export type JwksFetcher = (signal: AbortSignal) => Promise<unknown>;

export interface JwksOptions {
  /** For one fetch; 5. */
  timeout?: number;
  /** How long keys are fresh when the answer does not say; 300. */
  maxAge?: number;
  /** How much of the issuer's `max-age` is believed; 3600. */
  longestMaxAge?: number;
  /** How long keys serve past their freshness while the issuer is away; 3600. */
  staleFor?: number;
  /** Least time between two fetches for unknown names, and least freshness; 5. */
  cooldown?: number;
  /** How long a name that the issuer does not have is remembered; 30. */
  absentFor?: number;
  /** Monotonic seconds. */
  clock?: () => number;
}

export class JwksKeys implements KeySource {
  constructor(source: string | JwksFetcher, options?: JwksOptions);
  readonly algorithms: ReadonlySet<string>;
  readonly generation: number;
  find(kid: string): SigningKey | undefined;
  get(kid: string): Promise<SigningKey>;
  refresh(): Promise<void>;
}

export class HmacKey implements KeySource {
  constructor(secret: string | Uint8Array, options?: { kid?: string });
  readonly algorithms: ReadonlySet<string>;
  readonly generation: number;
  find(kid: string): SigningKey | undefined;
  get(kid: string): Promise<SigningKey>;
}

export function readJwk(jwk: Record<string, unknown>): SigningKey;

export type RevocationKind = 'session' | 'user' | 'client' | 'token' | 'key';
export const REVOCATION_KINDS: readonly RevocationKind[];

export class RevocationSet {
  readonly size: number;
  add(kind: RevocationKind, ref: string, at: number, expiresAt: number): void;
  isRevoked(claims: VerifiedClaims): boolean;
  forgetExpired(now: number): number;
}

export class RevocationReader {
  constructor(revocations: RevocationSet);
  readonly revocations: RevocationSet;
  readonly state: 'loading' | 'current' | 'broken';
  feed(bytes: Uint8Array): void;
}

export interface StreamOptions {
  /** A secret API key of the client whose tokens are accepted. */
  apiKey: string;
  revocations?: RevocationSet;
  /** Seconds of silence after which tokens are refused; by default what is known stays in force, without end. */
  refuseAfter?: number;
  /** Seconds of silence after which a connection is dead; 3. The issuer says something every second. */
  silence?: number;
  /** Monotonic seconds. */
  clock?: () => number;
}

export class RevocationStream {
  constructor(issuer: string, options: StreamOptions);
  readonly revocations: RevocationSet;
  readonly isUsable: boolean;
  readonly lastError?: Error;
  start(): Promise<void>;
  close(): Promise<void>;
  assertUsable(): void;
}

export interface StatusListOptions {
  /** Exact value of `iss`, and where the lists are. */
  issuer: string;
  /** The longest that a list is kept, whatever its `ttl` says. */
  maxAge?: number;
  /** How many are kept; 64. */
  maxLists?: number;
  /** For one fetch; 5. */
  timeout?: number;
  /** Your own fetcher: answers the list at an address, as compact JWT. */
  fetch?: (uri: string, signal: AbortSignal) => Promise<string>;
  /** Unix seconds. */
  clock?: () => number;
}

export class StatusLists {
  constructor(keys: KeySource, options: StatusListOptions);
  peek(claims: VerifiedClaims): boolean | undefined;
  check(claims: VerifiedClaims): Promise<void>;
}

export interface VerifierOptions {
  /** Exact value of `iss`. */
  issuer: string;
  /** The only `aud` accepted, as a string or as a list of it alone; without it any audience. */
  audience?: string | null;
  /** The tenant whose tokens are accepted; without it every tenant of the issuer. */
  clientId?: string | null;
  /** Accepted values of `token_use`; by default `access`. Add `oauth` for apps, `client_credentials` for machines. */
  tokenUses?: Iterable<string>;
  /** Tolerance for clocks that differ, up to 60; 30. */
  leeway?: number;
  /** How many verified tokens are remembered; 10000, and 0 for none. */
  cacheSize?: number;
  /** After this time a remembered token is verified anew; 60. */
  cacheTtl?: number;
  revocations?: RevocationSet;
  /** Consulted on every call, and so is its set. */
  revocationStream?: RevocationStream;
  /** Consulted on every call besides, for validators without a stream. */
  statusLists?: StatusLists;
  /** Unix seconds. */
  clock?: () => number;
}

export class TokenVerifier {
  constructor(keys: KeySource, options: VerifierOptions);
  readonly revocations: RevocationSet;
  readonly clock: () => number;
  cached(token: string): VerifiedClaims | undefined;
  verify(token: string): Promise<VerifiedClaims>;
  forget(): void;
}

export interface ProofOptions {
  /** For how long a proof is good, up to 300; 60. */
  maxAge?: number;
  /** How far a client's clock may be ahead, up to 60; 30. */
  leeway?: number;
  /** Unix seconds. */
  clock?: () => number;
  /** Whether `id` was new; remembers it until then. For a store that several processes share. */
  used?: (id: string, until: number) => boolean | Promise<boolean>;
}

export interface ProofRequest {
  method: string;
  url: string;
  /** The token that came with the proof, where one did. */
  accessToken?: string;
  /** The thumbprint that the token demands. */
  jkt?: string;
  /** The nonce that the server gave out, where it gives out any. */
  nonce?: string;
}

export class ProofVerifier {
  constructor(options?: ProofOptions);
  verify(proof: unknown, request: ProofRequest): Promise<{ jkt: string; jti: string }>;
  check(proof: unknown, request: ProofRequest): { jkt: string; jti: string; nonce?: string; expiresAt: number };
}

export const PROOF_ALGORITHMS: readonly string[];
export function jwkThumbprint(jwk: Record<string, unknown>): string;

/** What a route needs beside a good token. */
export interface Needs {
  /** All of these. */
  scopes?: readonly string[];
  /** One of these (RFC 9470). */
  acrValues?: readonly string[];
  /** How long ago the user may have proven who it is, in seconds (RFC 9470). */
  maxAge?: number;
}

export interface RequestFacts {
  /** Every value of the `Authorization` header. */
  authorization: readonly string[];
  /** Every value of the `DPoP` header. */
  dpop: readonly string[];
  method: string;
  /** The whole address as the caller knows it. */
  url: string;
}

export interface ResourceOptions {
  /** The resource's identifier: its public https address (RFC 9728). Challenges then name its metadata. */
  resource?: string;
  authorizationServers?: readonly string[];
  /** What `scopes_supported` says. */
  scopes?: readonly string[];
  name?: string;
  documentation?: string;
  /** Whether tokens bound to a key are taken, or nothing else; `off`. */
  dpop?: 'off' | 'accepted' | 'required';
  proofs?: ProofVerifier;
  /** Nonces that proofs must have. */
  nonces?: { current(): string };
}

export class AccessRefused extends ValidatorError {
  readonly status: 401 | 403 | 503;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Readonly<{ type: string; title: string; status: number; detail: string; code: string }>;
}

export class ProtectedResource {
  constructor(verifier: TokenVerifier, options?: ResourceOptions);
  readonly metadataUrl?: string;
  readonly origin?: string;
  authenticate(request: RequestFacts, needs?: Needs): Promise<VerifiedClaims>;
  metadata(): Record<string, unknown>;
}

export function metadataUrl(resource: string): string;
