// @modelcontextprotocol/sdk (the TypeScript SDK's first version, which most Node
// agents are built on) through the flow of ../flow/run.mjs. It speaks the 2025
// revisions only.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { run } from '../flow/run.mjs';

await run({
  open({ url, era, provider, fetch }) {
    if (era !== '2025-11-25') throw new Error(`this client does not speak ${era}`);
    const client = new Client({ name: 'client-v1', version: '1.32.2' }, { capabilities: { elicitation: {} } });
    client.setRequestHandler(ElicitRequestSchema, () => ({ action: 'accept', content: { username: 'Ada' } }));
    return {
      client,
      transport: new StreamableHTTPClientTransport(url, { authProvider: provider, fetch }),
    };
  },
  finish: (transport, callback) => transport.finishAuth(callback.get('code')),
  isUnauthorized: (error) => error instanceof UnauthorizedError,
});
