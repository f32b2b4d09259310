// The TypeScript servers, without sessions. It prints {"url": …} and serves
//   /challenging  @modelcontextprotocol/server with the challenges of policy.mjs
//   /mcp          the same without any authorization: what Stile is put in front of
//   /v1           @modelcontextprotocol/sdk, the same tools
//                 With ISSUER in the environment its metadata names that issuer.
//   /deeds        GET: what tools, prompts and resources of the last two did since
//                 the last time
import { createServer } from 'node:http';
import { createMcpHandler, fromJsonSchema, McpServer, requireBearerAuth, ResourceTemplate } from '@modelcontextprotocol/server';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { CallToolRequestSchema, GetPromptRequestSchema, ReadResourceRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { prompts, resources, templates, tools } from './policy.mjs';

let deeds = [];
// The copy is what many a tool makes of its arguments before it looks at them.
const did = (method, target, given) => {
  const copied = Object.assign({}, given);
  deeds.push({ method, target, arguments: given ?? null, permanent: copied.permanent ?? null });
};

const anything = fromJsonSchema({ type: 'object', additionalProperties: true });
const text = { content: [{ type: 'text', text: 'done' }] };
const namesOfAttacks = ['safe', 'danger', 'Safe'];

function build(challenging) {
  const server = new McpServer({ name: 'interop', version: '1' });
  const guarded = (config, scopeChallenge) => (challenging ? { ...config, scopeChallenge } : config);
  const names = challenging ? Object.keys(tools) : [...Object.keys(tools), ...namesOfAttacks];
  for (const name of names) {
    server.registerTool(name, guarded({ inputSchema: anything }, tools[name]), (args) => {
      did('tools/call', name, args);
      return text;
    });
  }
  const promptNames = challenging ? Object.keys(prompts) : [...Object.keys(prompts), 'safe'];
  for (const name of promptNames) {
    server.registerPrompt(name, guarded({}, prompts[name]), () => {
      did('prompts/get', name);
      return { messages: [] };
    });
  }
  const read = (uri) => {
    did('resources/read', uri.href);
    return { contents: [{ uri: uri.href, text: 'x' }] };
  };
  for (const [name, { uri, scopeChallenge }] of Object.entries(resources)) {
    server.registerResource(name, uri, guarded({}, scopeChallenge), read);
  }
  for (const [name, { uri, scopeChallenge }] of Object.entries(templates)) {
    server.registerResource(name, new ResourceTemplate(uri, { list: undefined }), guarded({}, scopeChallenge), read);
  }
  return server;
}

// Who the token speaks for is Stile's to verify; here its claims are believed.
const verifier = {
  async verifyAccessToken(token) {
    const claims = JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString());
    const scopes = (claims.scope ?? '').split(' ').filter(Boolean);
    return { token, clientId: claims.client_id, scopes, expiresAt: claims.exp };
  },
};
let gate = requireBearerAuth({ verifier });

// publish has the metadata of /challenging name its issuer, and challenges the metadata.
const metadataPath = '/.well-known/oauth-protected-resource/challenging';
let metadata;
function publish(origin, issuer) {
  gate = requireBearerAuth({ verifier, resourceMetadataUrl: `${origin}${metadataPath}` });
  metadata = { resource: `${origin}/challenging`, authorization_servers: [issuer], scopes_supported: ['notes:read'] };
}

const challenging = createMcpHandler(() => build(true));
const open = createMcpHandler(() => build(false));

function asRequest(req) {
  const headers = new Headers();
  for (const [name, value] of Object.entries(req.headers)) headers.set(name, String(value));
  const body = req.method === 'POST' ? { body: req, duplex: 'half' } : {};
  return new Request(new URL(req.url, 'http://127.0.0.1'), { method: req.method, headers, ...body });
}

async function answer(res, response) {
  res.writeHead(response.status, Object.fromEntries(response.headers));
  res.end(Buffer.from(await response.arrayBuffer()));
}

async function serveV1(req, res) {
  const server = new Server({ name: 'interop-v1', version: '1' }, { capabilities: { tools: {}, prompts: {}, resources: {} } });
  server.setRequestHandler(CallToolRequestSchema, ({ params }) => {
    did('tools/call', params.name, params.arguments);
    return text;
  });
  server.setRequestHandler(GetPromptRequestSchema, ({ params }) => {
    did('prompts/get', params.name, params.arguments);
    return { messages: [] };
  });
  server.setRequestHandler(ReadResourceRequestSchema, ({ params }) => {
    did('resources/read', params.uri);
    return { contents: [{ uri: params.uri, text: 'x' }] };
  });
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
  res.on('close', () => {
    transport.close();
    server.close();
  });
  await server.connect(transport);
  await transport.handleRequest(req, res);
}

async function serve(req, res) {
  switch (new URL(req.url, 'http://127.0.0.1').pathname) {
    case '/deeds':
      res.end(JSON.stringify(deeds));
      deeds = [];
      return;
    case metadataPath:
      if (metadata) res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(metadata));
      else res.writeHead(404).end();
      return;
    case '/challenging': {
      const request = asRequest(req);
      const who = await gate(request);
      return answer(res, who instanceof Response ? who : await challenging.fetch(request, { authInfo: who }));
    }
    case '/mcp':
      return answer(res, await open.fetch(asRequest(req)));
    case '/v1':
      return serveV1(req, res);
    default:
      res.writeHead(404).end();
  }
}

const listener = createServer((req, res) => {
  serve(req, res).catch((error) => {
    console.error(error);
    if (!res.headersSent) res.writeHead(500);
    res.end();
  });
});
listener.listen(0, '127.0.0.1', () => {
  const url = `http://127.0.0.1:${listener.address().port}`;
  if (process.env.ISSUER) publish(url, process.env.ISSUER);
  console.log(JSON.stringify({ url }));
});
process.stdin.resume().on('end', () => process.exit(0));
