// @modelcontextprotocol/client in front of a command that speaks stdio:
//
//   node connect/stdio.mjs ERA TARGETS COMMAND ARG...
//
// It connects, lists the tools and calls those of TARGETS, a JSON array of
// {"name": …, "arguments": …}, one after the other. It prints {"connected": true} once
// it is connected, and in the end one JSON line:
//
//   {ok, results, error, notices}
//
// results are those of the calls, notices the log messages that came meanwhile.
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';

const [era, targets, command, ...args] = process.argv.slice(2);
const report = { ok: false, results: [], notices: [] };
const mode = era === '2025-11-25' ? 'legacy' : { pin: era };
const client = new Client({ name: 'client-ts', version: '2.4.0' }, { versionNegotiation: { mode } });
client.setNotificationHandler('notifications/message', ({ params }) => { report.notices.push(params.data); });
const transport = new StdioClientTransport({ command, args, env: process.env, stderr: 'inherit' });
try {
  await client.connect(transport);
  process.stdout.write(`${JSON.stringify({ connected: true, pid: transport.pid })}\n`);
  await client.listTools();
  for (const target of JSON.parse(targets)) {
    report.results.push(await client.callTool(target));
  }
  report.ok = true;
} catch (error) {
  report.error = `${error.name}: ${error.message}`;
}
await client.close();
process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0));
