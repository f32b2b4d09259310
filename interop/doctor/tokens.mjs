// What both servers here know of tokens: who signs them, and whom they are for.
import { createRemoteJWKSet, jwtVerify } from 'jose';

export const issuer = process.env.ISSUER;

// verifier answers the claims of a token of the issuer for the resource, and throws
// where it is none.
export function verifier(resource) {
  const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));
  return async (token) => (await jwtVerify(token, keys, { issuer, audience: resource })).payload;
}

export const scopesOf = (claims) => (claims.scope ?? '').split(' ').filter(Boolean);
