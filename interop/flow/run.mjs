// The one flow that every TypeScript client goes through:
//
//   1. connect (401, login with what the 401 asks for, connect again)
//   2. a list that the baseline covers
//   3. the operation under test (403, login again, the same call once more)
//   4. close
//
// The result is one JSON line on standard output:
//
//   {ok, result | error, sessionBefore, sessionAfter, logins, rounds, exchanges}
//
// Usage: node CLIENT/flow.mjs ENDPOINT ERA KIND TARGET
//   ERA     2025-11-25 or 2026-07-28
//   KIND    tool, resource, template or prompt
//   TARGET  JSON: {"name": …, "arguments": …} or {"uri": …}
import { MemoryProvider } from './provider.mjs';
import { recordingFetch } from './recorder.mjs';

const MAX_ROUNDS = 3; // logins that one operation may cost before the host gives up

const KINDS = {
  tool: {
    list: (client) => client.listTools(),
    call: (client, target) => client.callTool(target),
  },
  resource: {
    list: (client) => client.listResources(),
    call: (client, target) => client.readResource(target),
  },
  template: {
    list: (client) => client.listResourceTemplates(),
    call: (client, target) => client.readResource(target),
  },
  prompt: {
    list: (client) => client.listPrompts(),
    call: (client, target) => client.getPrompt(target),
  },
};

// run drives one client. adapter has
//   open({url, era, provider, fetch}) → {client, transport}, not yet connected
//   finish(transport, callback)       → exchanges the code of a login
//   isUnauthorized(error)             → whether the host is asked to log in
export async function run(adapter) {
  const [url, era, kind, target] = process.argv.slice(2);
  const report = { ok: false, exchanges: [], rounds: {} };
  const provider = new MemoryProvider();
  const open = () => adapter.open({
    url: new URL(url), era, provider, fetch: recordingFetch(report.exchanges),
  });
  try {
    Object.assign(report, await flow(adapter, { open, provider, report }, KINDS[kind], JSON.parse(target)));
    report.ok = true;
  } catch (error) {
    report.error = `${error.name}: ${error.message}`;
  }
  report.logins = provider.logins;
  process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0));
}

async function flow(adapter, { open, provider, report }, kind, target) {
  let session = open();
  const attempt = async (name, act, retry) => {
    for (let round = 0; ; round++) {
      report.rounds[name] = round;
      try {
        return await act();
      } catch (error) {
        const callback = adapter.isUnauthorized(error) ? provider.takeCallback() : undefined;
        if (!callback || round >= MAX_ROUNDS) throw error;
        await adapter.finish(session.transport, callback);
        await retry?.();
      }
    }
  };
  await attempt('connect', () => session.client.connect(session.transport), () => { session = open(); });
  await attempt('list', () => kind.list(session.client));
  report.sessionBefore = session.transport.sessionId;
  const result = await attempt('call', () => kind.call(session.client, target));
  report.sessionAfter = session.transport.sessionId;
  await session.transport.terminateSession();
  await session.client.close();
  return { result };
}
