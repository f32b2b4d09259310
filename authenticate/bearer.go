package authenticate

import (
	"net/http"
	"net/url"
	"strings"
)

const (
	authorizationHeader = "Authorization"
	apiKeyHeader        = "X-Api-Key"
	queryParameter      = "access_token"
)

func malformed(description string) *Error { return &Error{Kind: Malformed, Description: description} }

// Bearer reads the bearer token of a request, strictly (RFC 6750 §2.1): exactly
// one Authorization header, the scheme Bearer in any case, spaces, and at most
// MaxToken bytes of b64token. A token in the query is refused wherever else one
// stands (REQ-55), and so is an X-API-Key beside it: two credentials leave open
// which one counts (DES-16). Form bodies carry no token, since a body that is
// not JSON is refused before.
//
// The error is Missing without credentials, Invalid for another scheme, and
// Malformed for everything else.
func Bearer(r *http.Request) (string, *Error) {
	if tokenInQuery(r.URL) {
		return "", malformed("a token in the query is not accepted: send it in the Authorization header")
	}
	headers := r.Header[authorizationHeader]
	switch {
	case len(headers) > 1:
		return "", malformed("the Authorization header was sent more than once")
	case len(headers) == 0:
		return "", &Error{Kind: Missing, Description: "authentication required"}
	case len(r.Header[apiKeyHeader]) > 0:
		return "", malformed("Authorization and X-API-Key were both sent: send one")
	}
	scheme, rest, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "bearer") {
		return "", otherScheme(scheme)
	}
	token := strings.TrimLeft(rest, " ")
	switch {
	case token == "":
		return "", malformed("the Authorization header holds no token")
	case len(token) > MaxToken:
		return "", malformed("the token is longer than 16384 bytes")
	case !isB64Token(token):
		return "", malformed("the token holds characters that RFC 6750 does not allow")
	}
	return token, nil
}

// otherScheme is 401 for a scheme that is not ours, since Bearer would do, and
// 400 for what is no scheme at all.
func otherScheme(scheme string) *Error {
	if scheme == "" || strings.ContainsFunc(scheme, func(c rune) bool {
		return !isAlphanumeric(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
	}) {
		return malformed("the Authorization header cannot be read")
	}
	return &Error{Kind: Invalid, Description: "the Authorization header must use the Bearer scheme"}
}

// presentedKey reads an X-API-Key header, the alternative to a bearer token
// where API keys are configured. It reports false where there is none.
func presentedKey(r *http.Request) (key string, sent bool, err *Error) {
	headers := r.Header[apiKeyHeader]
	if len(headers) == 0 || len(r.Header[authorizationHeader]) > 0 {
		return "", false, nil // Bearer decides, and refuses both at once
	}
	switch {
	case tokenInQuery(r.URL):
		return "", true, malformed("a token in the query is not accepted: send it in the Authorization header")
	case len(headers) > 1:
		return "", true, malformed("the X-API-Key header was sent more than once")
	case headers[0] == "" || len(headers[0]) > MaxToken:
		return "", true, malformed("the X-API-Key header must hold 1 to 16384 bytes")
	}
	return headers[0], true, nil
}

// tokenInQuery looks for access_token in any case and any encoding, also in a
// query that net/url would not parse: what one reader drops, the next may take.
func tokenInQuery(u *url.URL) bool {
	if u == nil || u.RawQuery == "" {
		return false
	}
	for part := range strings.FieldsFuncSeq(u.RawQuery, func(c rune) bool { return c == '&' || c == ';' }) {
		name, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if strings.EqualFold(strings.TrimSpace(name), queryParameter) {
			return true
		}
	}
	return false
}

// isB64Token reports whether s is a b64token: letters, digits and "-._~+/", then
// any number of "=" (RFC 6750 §2.1).
func isB64Token(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		if !b64Char[s[i]] {
			return false
		}
	}
	return s != ""
}

var b64Char = func() (table [256]bool) {
	for c := range table {
		table[c] = isAlphanumeric(rune(c)) || strings.ContainsRune("-._~+/", rune(c))
	}
	return table
}()

func isAlphanumeric(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
