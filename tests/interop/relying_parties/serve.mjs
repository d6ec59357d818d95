// A relying party as a small server: what its pages do is the library's that `actions` calls.
import { createServer } from 'node:http'

/** Serve `actions` by the first segment of the path; an action answers a redirect (a URL) or a document. */
export function serve(port, actions) {
  const own = new URL(`http://127.0.0.1:${port}`)
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, own)
    try {
      const body = await read(request)
      const result = await actions[url.pathname.slice(1)](url, body)
      if (result instanceof URL) {
        response.writeHead(303, { location: result.href }).end()
      } else {
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(result))
      }
    } catch (error) {
      const text = `${error.stack}\n${error.cause ? JSON.stringify(error.cause) : ''}`
      response.writeHead(500, { 'content-type': 'text/plain' }).end(text)
    }
  })
  server.listen(port, '127.0.0.1', () => console.log('ready'))
}

async function read(request) {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}
