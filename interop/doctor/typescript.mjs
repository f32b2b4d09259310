// @modelcontextprotocol/server as its documentation has it behind an authorization
// server: its own gate, its own metadata, its own scopeChallenge. It prints
// {"url": …}; ISSUER names the authorization server.
import { createServer } from 'node:http';
import {
  createMcpHandler, fromJsonSchema, getOAuthProtectedResourceMetadataUrl, McpServer, oauthMetadataResponse, OAuthError,
  requireBearerAuth, requireScopes,
} from '@modelcontextprotocol/server';
import { issuer, scopesOf, verifier } from './tokens.mjs';

const anything = fromJsonSchema({ type: 'object', additionalProperties: true });
const text = { content: [{ type: 'text', text: 'done' }] };

function build() {
  const server = new McpServer({ name: 'doctor', version: '1' });
  server.registerTool('list_notes', { inputSchema: anything, scopeChallenge: requireScopes('notes:read') }, () => text);
  server.registerTool('delete_note', { inputSchema: anything, scopeChallenge: requireScopes('notes:read', 'notes:write') }, () => text);
  return server;
}

const listener = createServer();
listener.listen(0, '127.0.0.1', async () => {
  const url = `http://127.0.0.1:${listener.address().port}/mcp`;
  const oauthMetadata = await (await fetch(`${issuer}/.well-known/oauth-authorization-server`)).json();
  const metadata = {
    oauthMetadata, resourceServerUrl: new URL(url), scopesSupported: ['notes:read'], dangerouslyAllowInsecureIssuerUrl: true,
  };
  const verify = verifier(url);
  const gate = requireBearerAuth({
    resourceMetadataUrl: getOAuthProtectedResourceMetadataUrl(new URL(url)),
    requiredScopes: ['notes:read'],
    verifier: {
      async verifyAccessToken(token) {
        const claims = await verify(token).catch(() => {
          throw new OAuthError('invalid_token', 'the token is not one for this server');
        });
        return { token, clientId: claims.client_id, scopes: scopesOf(claims), expiresAt: claims.exp };
      },
    },
  });
  const mcp = createMcpHandler(build);
  listener.on('request', (req, res) => {
    serve(req, res).catch((error) => {
      console.error(error);
      if (!res.headersSent) res.writeHead(500);
      res.end();
    });
  });

  async function serve(req, res) {
    const headers = new Headers();
    for (const [name, value] of Object.entries(req.headers)) headers.set(name, String(value));
    const body = req.method === 'POST' ? { body: req, duplex: 'half' } : {};
    const request = new Request(new URL(req.url, url), { method: req.method, headers, ...body });
    const response = oauthMetadataResponse(request, metadata) ?? await answer(request);
    res.writeHead(response.status, Object.fromEntries(response.headers));
    res.end(Buffer.from(await response.arrayBuffer()));
  }

  async function answer(request) {
    if (new URL(request.url).pathname !== '/mcp') return new Response(null, { status: 404 });
    const who = await gate(request);
    return who instanceof Response ? who : mcp.fetch(request, { authInfo: who });
  }

  console.log(JSON.stringify({ url }));
});
process.stdin.resume().on('end', () => process.exit(0));
