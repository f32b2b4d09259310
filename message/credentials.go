package message

import (
	"net/http"
	"slices"
)

// credentialHeaders speak for the caller: credentials that are meant for the
// gateway, and names under which front ends hand an identity, or what was asked
// for, to a server that trusts them. A name ending in "-" stands for all that begin with it.
var credentialHeaders = []string{
	// Credentials.
	"Authorization",
	"Proxy-",
	"Cookie",
	"Cookie2",
	"DPoP",
	"X-API-Key",
	"API-Key",
	"X-Access-Token",
	"X-ID-Token",
	"X-Auth-",
	"X-Authorization",
	"X-Serverless-Authorization",
	// Where a request came from, as front ends tell it.
	"Forwarded",
	"X-Forwarded-",
	"X-Real-IP",
	"X-Client-IP",
	"True-Client-IP",
	"CF-Connecting-IP",
	"Client-Cert",
	"Client-Cert-Chain",
	"X-Client-Cert",
	"SSL-Client-",
	"X-SSL-",
	// What was asked for, as front ends tell it: some servers take the path or the
	// method from there, past the one that was decided on.
	"X-Original-",
	"X-Rewrite-",
	"X-HTTP-Method",
	"X-HTTP-Method-Override",
	"X-Method-Override",
	// Who the caller is, as front ends tell it.
	"Remote-",
	"X-Remote-",
	"X-User",
	"X-User-ID",
	"X-User-Name",
	"X-User-Email",
	"X-User-Groups",
	"X-User-Roles",
	"X-Username",
	"X-Email",
	"X-Groups",
	"X-Roles",
	"X-WebAuth-",
	"X-Authenticated-",
	"X-Consumer-",
	"X-Credential-",
	"X-JWT-Assertion",
	"X-Pomerium-",
	"X-Vouch-",
	"X-Authentik-",
	"X-Goog-Authenticated-",
	"X-Goog-IAP-",
	"X-Amzn-OIDC-",
	"X-MS-Client-Principal",
	"X-MS-Client-Principal-",
	"X-MS-Token-",
	"CF-Access-",
	"Tailscale-",
	"Impersonate-",
}

// CredentialHeaders returns the names StripCredentials removes. A name ending
// in "-" stands for every name that begins with it. The slice is the caller's.
func CredentialHeaders() []string { return slices.Clone(credentialHeaders) }

// StripCredentials removes every header in which a caller's credential or
// somebody's word for the caller's identity could reach an upstream (REQ-05,
// DES-45): the first would pass the token on, the second could be forged by
// the caller. Names are compared without regard to case, and an underscore
// counts as a hyphen, because servers behind CGI-like interfaces cannot tell
// them apart. The upstream's own credential is to be added afterwards.
func StripCredentials(h http.Header) {
	for name := range h {
		if isCredential(name) {
			delete(h, name)
		}
	}
}

// credentialsByLetter are the credentialHeaders by their first letter, lower case.
var credentialsByLetter = func() (by [256][]string) {
	for _, c := range credentialHeaders {
		letter := foldHeader(c[0])
		by[letter] = append(by[letter], c)
	}
	return by
}()

func isCredential(name string) bool {
	if name == "" {
		return false
	}
	for _, c := range credentialsByLetter[foldHeader(name[0])] {
		if c[len(c)-1] == '-' {
			if len(name) >= len(c) && sameHeader(name[:len(c)], c) {
				return true
			}
		} else if sameHeader(name, c) {
			return true
		}
	}
	return false
}
