package challenge

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// The longest pieces that CheckURL and CheckScope accept, in bytes. Together
// with the fixed parts they stay well below MaxHeader, so that a header always
// has room for the metadata URL and the first required scope.
const (
	maxURL   = 2048
	maxScope = 512
)

// CheckURL reports why a URL cannot stand in a challenge. It wants an absolute
// http or https URL with a host, at most 2048 bytes long, without credentials
// and fragment, in the ASCII characters of RFC 3986 less `,` and `=`: clients
// split values at the one and search them for names followed by the other
// (DES-12). Whether http is acceptable is for the caller to say.
func CheckURL(s string) error {
	if len(s) > maxURL {
		return fmt.Errorf("URL of %d bytes: want at most %d", len(s), maxURL)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !isURLRune(r) }); i >= 0 {
		return fmt.Errorf("URL %q: has a character that cannot stand in a challenge at byte %d; want RFC 3986 characters without %q and %q", s, i, ',', '=')
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("URL %q: does not parse: %w", s, errors.Unwrap(err))
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("URL %q: want a scheme of https or http", s)
	case u.Hostname() == "":
		return fmt.Errorf("URL %q: want an absolute URL with a host", s)
	case u.User != nil:
		return fmt.Errorf("URL %q: want no credentials in it", u.Redacted())
	}
	return nil
}

// isURLRune reports whether r may stand in a URL of a challenge. The fragment
// sign is not among them.
func isURLRune(r rune) bool {
	return isAlphanumeric(r) || r < 0x80 && strings.ContainsRune("-._~:/?[]@!$&'()*+;%", r)
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// CheckScope reports why a scope token cannot stand in a challenge. It wants one
// to 512 of the characters %x21, %x23-5B and %x5D-7E (RFC 6749 §3.3, DES-11).
//
// Tokens that a client could take for another parameter are refused besides: any
// with a parameter name of ours followed by "=", for which some clients search
// the whole header while others split it at commas, and any that begins with
// "=", which could give that to the token before it. A scope made from the
// arguments of a call could otherwise point a client at a foreign authorization
// server.
func CheckScope(token string) error {
	switch {
	case token == "":
		return errors.New("scope is empty: want at least one character")
	case len(token) > maxScope:
		return fmt.Errorf("scope of %d bytes: want at most %d", len(token), maxScope)
	case !isScopeToken(token):
		return fmt.Errorf("scope %q: want only the characters %%x21, %%x23-5B and %%x5D-7E of RFC 6749 (no space, quote, backslash)", token)
	case isConfusable(token):
		return fmt.Errorf("scope %q: clients would read a challenge parameter in it; want no %q at its start or after scope, error, error_description or resource_metadata", token, '=')
	}
	return nil
}

// isScopeToken reports whether s is a scope-token of RFC 6749 §3.3.
func isScopeToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7E || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

// paramNames are the parameters clients look for. A name that ends in one of
// them needs no entry of its own.
var paramNames = [...]string{"scope", "error", "error_description", "resource_metadata"}

// isConfusable reports whether a client could find one of our parameters in a
// scope token, alone or behind another one.
func isConfusable(token string) bool {
	if !strings.Contains(token, "=") {
		return false
	}
	lower := strings.ToLower(token)
	for _, name := range paramNames {
		if strings.Contains(lower, name+"=") {
			return true
		}
	}
	return token[0] == '='
}

// CheckDescription reports why a text cannot stand in a challenge. It wants one
// or more of the characters [A-Za-z0-9 ._:/-], spaces single and not at an end
// (DES-12): C# clients split at commas, others search for `name=` inside it.
func CheckDescription(s string) error {
	if s == "" {
		return errors.New("description is empty: want at least one character")
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !isDescriptionRune(r) }); i >= 0 {
		return fmt.Errorf("description %q: has another character than [A-Za-z0-9 ._:/-] at byte %d", s, i)
	}
	if s != singleSpaced(s) {
		return fmt.Errorf("description %q: want single spaces, and none at its ends", s)
	}
	return nil
}

func isDescriptionRune(r rune) bool {
	return isAlphanumeric(r) || r < 0x80 && strings.ContainsRune(" ._:/-", r)
}

// maxError is the longest error code written, in bytes.
const maxError = 64

// isErrorCode reports whether s can be an error code: lower-case words joined by
// underscores, as every registered one is (RFC 6750 §6.2).
func isErrorCode(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= maxError
}
