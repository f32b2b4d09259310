// A foreign authorization server for the interop tests: npm oidc-provider on
// 127.0.0.1, with every login and consent answered by script, so that an HTTP
// client which follows redirects and keeps cookies ends at its redirect_uri.
//
//   node oidc/server.mjs [PORT]
//
// It prints one JSON line {"issuer": …} once it accepts connections and exits
// when standard input closes. GET /_log answers what clients asked for so far.
//
// Environment:
//   SCOPES    scopes a resource knows, separated by spaces ("*" stands for one
//             word of letters, digits, "_" and "-")
//   DENY      scopes that alice does not consent to, separated by spaces
//   REFRESH   1: a refresh token comes with every code
//   CIMD      1: client id metadata documents are accepted
//   CEILING   1: the scope that a client registers with stays its ceiling
//   OPAQUE    1: access tokens are opaque, so that the resource has to ask for
//             them at the introspection endpoint, as client "stile" with the
//             secret "interop-secret"
//   CLAIMS    what is known of alice, as JSON; the userinfo endpoint tells it to
//             clients that may ask for email and profile
//   PAUSE     seconds that seem to pass before each token after the first
import { generateKeyPairSync } from 'node:crypto';
import http from 'node:http';
import Provider, { errors } from 'oidc-provider';

const ACCOUNT = 'alice';
const TOKEN_SECONDS = 600;
// The gateway's own registration: it asks about tokens and does nothing else.
const RESOURCE_CLIENT = {
  client_id: 'stile', client_secret: 'interop-secret', token_endpoint_auth_method: 'client_secret_basic',
  grant_types: [], response_types: [], redirect_uris: [],
};
const env = process.env;
const words = (text) => (text ?? '').split(' ').filter(Boolean);
const knownScopes = words(env.SCOPES ?? 'notes:*').map(scopePattern);
const deniedScopes = new Set(words(env.DENY));

// What tests ask about afterwards, in the order it happened.
const log = { authorizations: [], registrations: [], tokens: [], introspections: 0 };

function scopePattern(scope) {
  const escaped = scope.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '[A-Za-z0-9_-]+');
  return new RegExp(`^${escaped}$`);
}

function isLoopback(resource) {
  const { protocol, hostname } = new URL(resource);
  return protocol === 'http:' && ['127.0.0.1', 'localhost', '[::1]'].includes(hostname);
}

// A resource server lists its scopes one by one, so what was asked is matched
// with the patterns for each request.
function resourceServer(ctx, resource) {
  if (!isLoopback(resource)) {
    throw new errors.InvalidTarget(`resource is not on loopback: ${resource}`);
  }
  const asked = words(ctx.oidc.params?.scope ?? ctx.oidc.entities.AuthorizationCode?.scope
    ?? ctx.oidc.entities.RefreshToken?.scope);
  const known = asked.filter((scope) => knownScopes.some((pattern) => pattern.test(scope)));
  return {
    scope: known.join(' '),
    audience: resource,
    accessTokenFormat: env.OPAQUE === '1' ? 'opaque' : 'jwt',
    accessTokenTTL: TOKEN_SECONDS,
    jwt: { sign: { alg: 'ES256' } },
  };
}

function signingKey() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid: 'interop-1', use: 'sig', alg: 'ES256' };
}

// pause is how much later than it is a token says it was issued, so that tests
// need not wait for a person who takes their time.
function pause() {
  return Number(env.PAUSE ?? 0) * log.tokens.length;
}

// listedScopes is scopes_supported of the metadata. Clients ask for
// offline_access where it is listed; a client may only register with listed
// scopes, and only those are held against what it registered with.
function listedScopes() {
  const listed = ['openid'];
  if (env.REFRESH === '1') listed.push('offline_access');
  if (env.CLAIMS) listed.push('email', 'profile');
  if (env.CEILING === '1') listed.push(...words(env.SCOPES).filter((scope) => !scope.includes('*')));
  return listed;
}

function configuration() {
  return {
    jwks: { keys: [signingKey()] },
    clients: [RESOURCE_CLIENT],
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    enabledJWA: { idTokenSigningAlgValues: ['ES256', 'RS256'] },
    responseTypes: ['code'],
    cookies: { keys: ['interop'] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'groups'] },
    scopes: listedScopes(),
    pkce: { required: () => true },
    rotateRefreshToken: true,
    issueRefreshToken: () => env.REFRESH === '1',
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ ...JSON.parse(env.CLAIMS ?? '{}'), sub: id }) }),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    formats: { customizers: { jwt: (_ctx, _token, parts) => { parts.payload.iat += pause(); } } },
    ttl: {
      AccessToken: TOKEN_SECONDS, AuthorizationCode: 60, Grant: 3600, IdToken: 600,
      Interaction: 600, RefreshToken: 3600, Session: 3600,
    },
    features: {
      devInteractions: { enabled: false },
      dPoP: { enabled: false },
      introspection: { enabled: true },
      revocation: { enabled: true },
      registration: { enabled: true },
      userinfo: { enabled: Boolean(env.CLAIMS) },
      clientIdMetadataDocument: { enabled: env.CIMD === '1', ack: 'draft-02' },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        useGrantedResource: () => true,
        getResourceServerInfo: resourceServer,
      },
    },
  };
}

// interact answers one prompt: alice logs in, and consents to everything asked
// except what DENY names.
async function interact(provider, req, res) {
  const { prompt, params, grantId, session } = await provider.interactionDetails(req, res);
  if (prompt.name === 'login') {
    return provider.interactionFinished(req, res, { login: { accountId: ACCOUNT } });
  }
  const grant = (grantId && await provider.Grant.find(grantId))
    ?? new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  for (const resource of [params.resource].flat().filter(Boolean)) {
    const asked = words(params.scope);
    grant.addResourceScope(resource, asked.filter((scope) => !deniedScopes.has(scope)).join(' '));
    grant.rejectResourceScope(resource, asked.filter((scope) => deniedScopes.has(scope)).join(' '));
  }
  grant.addOIDCScope(listedScopes().join(' '));
  return provider.interactionFinished(req, res, { consent: { grantId: await grant.save() } },
    { mergeWithLastSubmission: true });
}

// watch records what the endpoints are asked. The provider keeps the scope a
// client registers with as a ceiling for good, and the TypeScript clients
// register with the scope of the first challenge: without CEILING the member is
// dropped before the provider sees it.
function watch(provider) {
  provider.on('authorization.success', (ctx) => note(ctx, 'granted'));
  provider.on('authorization.error', (ctx, error) => note(ctx, error.error));
  provider.on('grant.success', (ctx) => log.tokens.push({
    grant_type: ctx.oidc.params.grant_type,
    client_id: ctx.oidc.client.clientId,
    scope: ctx.body.scope,
    refresh_token: ctx.body.refresh_token !== undefined,
  }));
}

function note(ctx, outcome) {
  const { scope, resource, client_id, code_challenge_method } = ctx.oidc.params ?? {};
  log.authorizations.push({ outcome, scope, resource, client_id, code_challenge_method });
}

async function readJSON(req) {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks));
}

async function register(req, res, next) {
  const body = await readJSON(req);
  log.registrations.push({ scope: body.scope, redirect_uris: body.redirect_uris });
  if (env.CEILING !== '1') delete body.scope;
  req.body = body; // the provider takes a body that was read before
  return next(req, res);
}

async function serve(provider, req, res) {
  const { pathname } = new URL(req.url, provider.issuer);
  if (pathname === '/_log') {
    res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(log));
  } else if (pathname.startsWith('/interaction/')) {
    await interact(provider, req, res);
  } else if (pathname === '/reg' && req.method === 'POST') {
    await register(req, res, provider.callback());
  } else if (pathname === '/token/introspection') {
    log.introspections++;
    await provider.callback()(req, res);
  } else {
    await provider.callback()(req, res);
  }
}

const server = http.createServer();
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration());
  watch(provider);
  server.on('request', (req, res) => {
    serve(provider, req, res).catch((error) => {
      console.error(error);
      if (!res.headersSent) res.writeHead(500);
      res.end();
    });
  });
  console.log(JSON.stringify({ issuer }));
});
process.stdin.on('end', () => process.exit(0)).resume();
