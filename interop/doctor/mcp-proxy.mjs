// npm mcp-proxy with its own challenges. It decides about scopes where its 403 can be
// had: in updateAuth, for each request of a session after the first, so that a token
// without notes:write meets it there. It serves no metadata; here onUnhandledRequest
// does. It prints {"url": …}; ISSUER names the authorization server.
import { createServer } from 'node:net';
import { fromJsonSchema, McpServer } from '@modelcontextprotocol/server';
import { startHTTPServer } from 'mcp-proxy';
import { issuer, scopesOf, verifier } from './tokens.mjs';

const anything = fromJsonSchema({ type: 'object', additionalProperties: true });
const text = { content: [{ type: 'text', text: 'done' }] };

// InsufficientScopeError is recognised by its name and data.
class InsufficientScopeError extends Error {
  name = 'InsufficientScopeError';
  data = {
    error: 'insufficient_scope', requiredScopes: ['notes:read', 'notes:write'], errorDescription: 'notes:write is needed',
  };
}

function build() {
  const server = new McpServer({ name: 'doctor', version: '1' });
  for (const name of ['list_notes', 'delete_note']) server.registerTool(name, { inputSchema: anything }, () => text);
  server.updateAuth = (who) => {
    if (!who.scopes.includes('notes:write')) throw new InsufficientScopeError();
  };
  return server;
}

const port = await new Promise((resolve) => {
  const probe = createServer().listen(0, '127.0.0.1', () => {
    const { port } = probe.address();
    probe.close(() => resolve(port));
  });
});
const url = `http://127.0.0.1:${port}/mcp`;
const verify = verifier(url);

await startHTTPServer({
  port,
  host: '127.0.0.1',
  streamEndpoint: '/mcp',
  sseEndpoint: null,
  createServer: async () => build(),
  authenticate: async (req) => {
    const [scheme, token] = (req.headers.authorization ?? '').split(' ');
    if (scheme !== 'Bearer') return undefined;
    try {
      return { authenticated: true, scopes: scopesOf(await verify(token)) };
    } catch {
      return { authenticated: false, error: 'the token is not one for this server' };
    }
  },
  oauth: { protectedResource: { resource: url }, scope: 'notes:read' },
  onUnhandledRequest: async (req, res) => {
    if (req.url !== '/.well-known/oauth-protected-resource/mcp') return void res.writeHead(404).end();
    res.writeHead(200, { 'content-type': 'application/json', 'access-control-allow-origin': '*' })
      .end(JSON.stringify({ resource: url, authorization_servers: [issuer], scopes_supported: ['notes:read'] }));
  },
});
console.log(JSON.stringify({ url }));
process.stdin.resume().on('end', () => process.exit(0));
