// Package challenge says NO: it is the only writer of WWW-Authenticate, it
// parses the challenges of others, and it recognises an upstream's own refusal
// so that it can be turned into one that our client can follow.
package challenge

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/scope"
)

// Challenge is one Bearer challenge (RFC 6750 §3, RFC 9728 §5.1).
type Challenge struct {
	// Error is "", "invalid_token", "invalid_request" or "insufficient_scope".
	Error string
	// Scope is what to ask for, in the issuer's vocabulary; left out when empty.
	Scope scope.Set
	// Optional says how many scopes at the end of Scope may be dropped to keep
	// the header under MaxHeader: the held ones of a union (DES-09).
	Optional int
	// ResourceMetadata is the absolute URL of the RFC 9728 document.
	ResourceMetadata string
	// Description is for a human. Header leaves it out when it has characters
	// outside [A-Za-z0-9 ._:/-] (DES-12).
	Description string
}

// MaxHeader is the longest WWW-Authenticate value written, in bytes (DES-09).
const MaxHeader = 4 << 10

// Need is what an upstream's own refusal asks for.
type Need struct {
	// Scopes are what the upstream named, in its own words; may be empty.
	Scopes scope.Set
	// Description is the upstream's text, unchecked: never put it in a header.
	Description string
	// ID is the raw JSON id of the message that refused, a string or a number;
	// nil for a header and for a message without one.
	ID jsontext.Value
}
