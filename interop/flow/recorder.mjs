// A fetch that remembers every exchange, in order, as the tests read them.

// recordingFetch answers a fetch that appends to exchanges.
export function recordingFetch(exchanges) {
  return async (input, init) => {
    const request = new Request(input, init);
    const entry = describe(request.url, request.method, new Headers(init?.headers ?? request.headers), init?.body);
    exchanges.push(entry);
    const response = await fetch(input, init);
    entry.status = response.status;
    entry.wwwAuthenticate = response.headers.get('www-authenticate') ?? undefined;
    entry.sessionGiven = response.headers.get('mcp-session-id') ?? undefined;
    return response;
  };
}

function describe(url, method, headers, body) {
  const entry = {
    method,
    path: new URL(url).pathname,
    sessionSent: headers.get('mcp-session-id') ?? undefined,
    version: headers.get('mcp-protocol-version') ?? undefined,
  };
  const type = headers.get('content-type') ?? '';
  if (typeof body === 'string' && type.startsWith('application/json')) {
    const message = JSON.parse(body);
    entry.rpc = message.method;
    entry.scopeAsked = message.scope; // of a client registration
  } else if (body && type.startsWith('application/x-www-form-urlencoded')) {
    const form = new URLSearchParams(String(body));
    entry.grant = form.get('grant_type') ?? undefined;
    entry.scopeAsked = form.get('scope') ?? undefined;
  }
  return entry;
}
