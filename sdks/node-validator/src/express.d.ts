import type { IncomingMessage, ServerResponse } from 'node:http';

import type { AccessRefused, Needs, ProtectedResource, VerifiedClaims } from './index.js';

/** A request as Express gives it; `auth` holds the claims behind `protect`. */
export type ProtectedRequest = IncomingMessage & { originalUrl?: string; auth?: VerifiedClaims };

/** Express's, and Connect's. */
export type Middleware = (request: ProtectedRequest, response: ServerResponse, next: (error?: unknown) => void) => unknown;

export function protect(
  resource: ProtectedResource,
  needs?: Needs,
  options?: { onRefused?: (refused: AccessRefused, request: IncomingMessage) => void },
): Middleware;

export function serveMetadata(resource: ProtectedResource): Middleware;
