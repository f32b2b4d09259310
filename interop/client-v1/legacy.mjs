// @modelcontextprotocol/sdk through the flow of ../flow/run.mjs over the transport of
// 2024-11-05, which its SSEClientTransport speaks. It logs in on a 401 and does
// nothing about a 403.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { run } from '../flow/run.mjs';

class Transport extends SSEClientTransport {
  async terminateSession() {} // it ends with its event stream
}

await run({
  open({ url, era, provider, fetch }) {
    if (era !== '2025-11-25') throw new Error(`this client does not speak ${era}`);
    return {
      client: new Client({ name: 'client-v1-legacy', version: '1.32.2' }),
      transport: new Transport(url, { authProvider: provider, fetch }),
    };
  },
  finish: (transport, callback) => transport.finishAuth(callback.get('code')),
  isUnauthorized: (error) => error instanceof UnauthorizedError || error.code === 401,
});
