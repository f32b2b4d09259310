// A person with a browser, as far as an authorization server can tell: follows
// redirects, keeps cookies per host, and stops where the client is called back.
//
// PERSON is the address of somebody else who has the browser: it is sent the
// authorization URL and answers with the URL that the client is called back at.

const MAX_REDIRECTS = 20;

class CookieJar {
  #cookies = new Map(); // host → name → {value, path}

  header(url) {
    const cookies = this.#cookies.get(url.host) ?? new Map();
    return [...cookies]
      .filter(([, { path }]) => url.pathname.startsWith(path))
      .map(([name, { value }]) => `${name}=${value}`)
      .join('; ');
  }

  store(url, response) {
    const cookies = this.#cookies.get(url.host) ?? new Map();
    this.#cookies.set(url.host, cookies);
    for (const line of response.headers.getSetCookie()) {
      const [pair, ...attributes] = line.split(';').map((part) => part.trim());
      const [name, ...rest] = pair.split('=');
      const value = rest.join('=');
      const path = attributes.find((a) => a.toLowerCase().startsWith('path='))?.slice(5) ?? '/';
      if (value === '') cookies.delete(name);
      else cookies.set(name, { value, path });
    }
  }
}

export class Browser {
  #jar = new CookieJar();

  // visit opens an authorization URL and answers with the query that the client
  // is called back with at redirectURI.
  async visit(authorizationURL, redirectURI) {
    if (process.env.PERSON) return askPerson(authorizationURL, redirectURI);
    let url = new URL(authorizationURL);
    for (let hops = 0; hops < MAX_REDIRECTS; hops++) {
      const response = await fetch(url, {
        redirect: 'manual',
        headers: { accept: 'text/html', cookie: this.#jar.header(url) },
      });
      this.#jar.store(url, response);
      const body = await response.text();
      const location = response.headers.get('location');
      if (!location) throw new Error(`no redirect from ${url.pathname}: ${response.status} ${body}`);
      const next = new URL(location, url);
      if (next.href.startsWith(redirectURI)) return next.searchParams;
      url = next;
    }
    throw new Error(`more than ${MAX_REDIRECTS} redirects after ${authorizationURL}`);
  }
}

async function askPerson(authorizationURL, redirectURI) {
  const response = await fetch(process.env.PERSON, { method: 'POST', body: String(authorizationURL) });
  const back = await response.text();
  if (!response.ok || !back.startsWith(redirectURI)) throw new Error(`the person came back with ${response.status} ${back}`);
  return new URL(back).searchParams;
}
