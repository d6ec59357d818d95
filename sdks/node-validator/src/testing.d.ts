import type { FetchedJwks } from './index.js';

/** An issuer in memory, for tests of services that accept our tokens. */
export class LocalIssuer {
  constructor(options?: { issuer?: string; clock?: () => number });
  readonly issuer: string;
  fetches: number;
  isAway: boolean;
  maxAge?: number;
  readonly keys: Map<string, unknown>;
  addKey(kid: string): void;
  document(): { keys: Record<string, unknown>[] };
  readonly fetch: () => Promise<FetchedJwks>;
  token(claims?: Record<string, unknown>, kid?: string, typ?: string): string;
}

/** A client's key, which makes DPoP proofs. */
export class ProofKey {
  readonly jkt: string;
  proof(method: string, url: string, options?: { accessToken?: string; nonce?: string; clock?: () => number }): string;
}
