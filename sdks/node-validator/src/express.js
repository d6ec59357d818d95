/**
 * Express middleware: a route behind it is reached only with a good access token, as `req.auth`.
 *
 *     app.get('/orders', protect(resource, { scopes: ['orders:read'] }), (req, res) => res.json(req.auth.sub));
 *     app.use(serveMetadata(resource));
 */

import { AccessRefused, checkNeeds } from './resource.js';

/**
 * Let in who brings a good token with what `needs` says; answer everybody else.
 *
 * @param {import('./index.js').ProtectedResource} resource
 * @param {import('./index.js').Needs} [needs]
 * @param {{ onRefused?: (refused: AccessRefused, request: import('node:http').IncomingMessage) => void }} [options]
 *   `onRefused` is told of each refusal, for a log: `refused.cause` says which check failed
 * @returns {import('./express.js').Middleware}
 */
export function protect(resource, needs = {}, { onRefused } = {}) {
  checkNeeds(needs);
  return async (request, response, next) => {
    let claims;
    try {
      claims = await resource.authenticate(
        {
          authorization: sent(request, 'authorization'),
          dpop: sent(request, 'dpop'),
          method: request.method ?? '',
          // `url` is cut by routers that are mounted on a path; a proof is for the whole one.
          url: (resource.origin ?? '') + (request.originalUrl ?? request.url),
        },
        needs,
      );
    } catch (error) {
      if (!(error instanceof AccessRefused)) return next(error);
      onRefused?.(error, request);
      response.writeHead(error.status, error.headers);
      response.end(request.method === 'HEAD' ? undefined : JSON.stringify(error.body));
      return undefined;
    }
    request.auth = claims;
    return next();
  };
}

/**
 * Serve the resource's metadata (RFC 9728) at its well-known path, to everybody.
 *
 * @param {import('./index.js').ProtectedResource} resource
 * @returns {import('./express.js').Middleware}
 */
export function serveMetadata(resource) {
  const { pathname } = new URL(resource.metadataUrl ?? '');
  const body = JSON.stringify(resource.metadata());
  return (request, response, next) => {
    const path = (request.originalUrl ?? request.url ?? '').split('?', 1)[0];
    if (path !== pathname || (request.method !== 'GET' && request.method !== 'HEAD')) return next();
    response.writeHead(200, {
      'Content-Type': 'application/json',
      'Cache-Control': 'public, max-age=3600',
      'Access-Control-Allow-Origin': '*',
      'X-Content-Type-Options': 'nosniff',
    });
    response.end(request.method === 'HEAD' ? undefined : body);
    return undefined;
  };
}

/**
 * Every value of a header as it was sent: Node keeps the first of two `Authorization` headers and joins others.
 *
 * @param {import('node:http').IncomingMessage} request
 * @param {string} name
 */
function sent(request, name) {
  const values = [];
  for (let index = 0; index < request.rawHeaders.length; index += 2) {
    if (request.rawHeaders[index].toLowerCase() === name) values.push(request.rawHeaders[index + 1]);
  }
  return values;
}
