// What both TypeScript clients want from their host: a place for registration,
// tokens and the code verifier, and somebody to open the browser. All of it is
// kept in memory; each login is recorded.
import { randomUUID } from 'node:crypto';
import { Browser } from './browser.mjs';

// Nobody listens there: the browser stops before it follows.
const REDIRECT_URI = 'http://127.0.0.1:3334/callback';

export class MemoryProvider {
  logins = []; // scope and resource of each authorization request
  #browser = new Browser();
  #callback; // URLSearchParams of the last login, until it is taken
  #state;
  #verifier;
  #client;
  #tokens;
  #discovery;

  get redirectUrl() { return REDIRECT_URI; }

  get clientMetadata() {
    return {
      client_name: 'stile interop',
      redirect_uris: [REDIRECT_URI],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
    };
  }

  state() { this.#state = randomUUID(); return this.#state; }

  clientInformation() { return this.#client; }
  saveClientInformation(information) { this.#client = information; }

  tokens() { return this.#tokens; }
  saveTokens(tokens) { this.#tokens = tokens; }

  // Optional in the SDKs, and so for hosts: INVALIDATE stands for one that has it.
  get invalidateCredentials() {
    if (!process.env.INVALIDATE) return undefined;
    return (scope) => { if (scope === 'tokens' || scope === 'all') this.#tokens = undefined; };
  }

  codeVerifier() { return this.#verifier; }
  saveCodeVerifier(verifier) { this.#verifier = verifier; }

  discoveryState() { return this.#discovery; }
  saveDiscoveryState(state) { this.#discovery = state; }

  async redirectToAuthorization(url) {
    const asked = url.searchParams;
    this.logins.push({ scope: asked.get('scope'), resource: asked.get('resource') });
    this.#callback = await this.#browser.visit(url, REDIRECT_URI);
  }

  // takeCallback answers the query of the login that is waiting to be finished,
  // once, and undefined where none is.
  takeCallback() {
    const callback = this.#callback;
    this.#callback = undefined;
    if (!callback) return undefined;
    if (callback.has('error')) {
      throw new Error(`login refused: ${callback.get('error')} ${callback.get('error_description') ?? ''}`);
    }
    if (callback.get('state') !== this.#state) throw new Error('login came back with another state');
    return callback;
  }
}
