// Package session seals the ids of 2025-era sessions. An id names its owner and
// the upstream's own id; there is no table of sessions.
package session

import "time"

// Owner is whom a session belongs to (DES-40): the issuer and subject of the
// identity that opened it, never its token, scopes or client. The zero Owner is
// whoever has no token.
type Owner struct {
	Issuer  string
	Subject string
}

// Session is what a sealed id says.
type Session struct {
	// Endpoint is the name of the server the session was opened at. An id is
	// worth nothing at another endpoint.
	Endpoint string
	// Upstream is the id the upstream itself gave, empty when it gave none.
	Upstream string
	// Owner is compared on every request.
	Owner Owner
	// IssuedAt is when the id was sealed, to the second.
	IssuedAt time.Time
}
