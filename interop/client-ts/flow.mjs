// @modelcontextprotocol/client (the TypeScript SDK's second version) through the
// flow of ../flow/run.mjs.
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { run } from '../flow/run.mjs';

await run({
  open({ url, era, provider, fetch }) {
    const mode = era === '2025-11-25' ? 'legacy' : { pin: era };
    const client = new Client({ name: 'client-ts', version: '2.4.0' }, { versionNegotiation: { mode }, capabilities: { elicitation: { form: {} } } });
    client.setRequestHandler('elicitation/create', () => ({ action: 'accept', content: { name: 'Ada', username: 'Ada' } }));
    return {
      client,
      transport: new StreamableHTTPClientTransport(url, { authProvider: provider, fetch }),
    };
  },
  finish: (transport, callback) => transport.finishAuth(callback),
  isUnauthorized: (error) => error instanceof UnauthorizedError,
});
