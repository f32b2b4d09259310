package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stile-mcp/stile/authserver/internal/protocol"
	"github.com/stile-mcp/stile/authserver/portal"
	"github.com/stile-mcp/stile/internal/fetch"
	"github.com/stile-mcp/stile/store"
)

// Client is a registered client.
type Client struct {
	ID   string `json:"id"`
	Name string `json:"name"` // as it calls itself
	// SecretHash is HashSecret of its secret; empty: a public client.
	SecretHash string `json:"secret_hash,omitempty"`
	// Method is how it proves who it is: none, client_secret_basic or
	// client_secret_post. Empty: none without a secret, client_secret_basic with one.
	Method       string   `json:"method"`
	RedirectURIs []string `json:"redirect_uris"`
	// Scopes are those it may have for itself (client_credentials), without a
	// person; nil: that grant is not for it.
	Scopes []string `json:"scopes,omitempty"`
	// Introspects lets it ask about tokens (RFC 7662).
	Introspects bool `json:"introspects,omitempty"`
	// Verified says who vouches for it: the host of its metadata document, or the
	// operator; empty: nobody does.
	Verified string `json:"verified,omitempty"`

	operators bool // registered beforehand
}

// HashSecret is what Client.SecretHash has of a secret. Secrets are random and long,
// so the hash is a plain SHA-256, base64url.
func HashSecret(secret string) string { return protocol.HashSecret(secret) }

// How long a dynamic registration is kept without being used, and after its last
// use. Clients come back after a year's silence as strangers.
const (
	unusedLife = 24 * time.Hour
	usedLife   = 365 * 24 * time.Hour
)

func clientKey(id string) string { return "client/" + id }

// client finds a client: registered beforehand, by a document of its own, or by
// request. Errors: protocol.ErrUnknown, or why the document could not be had, as a
// *documentError.
func (s *Server) client(ctx context.Context, id string) (Client, error) {
	i := slices.IndexFunc(s.config.Clients, func(c Client) bool { return c.ID == id })
	switch {
	case i >= 0:
		c := s.config.Clients[i]
		c.Verified, c.operators = "the operator", true
		if c.Method == "" && c.SecretHash == "" {
			c.Method = "none"
		} else if c.Method == "" {
			c.Method = "client_secret_basic"
		}
		return c, nil
	case id == "" || len(id) > maxClientID:
		return Client{}, protocol.ErrUnknown
	case strings.HasPrefix(id, "https://") || s.config.LocalDocuments && strings.HasPrefix(id, "http://"):
		return s.documentClient(ctx, id)
	}
	data, _, err := s.config.Store.Load(ctx, clientKey(id))
	if err != nil {
		return Client{}, err
	}
	var c Client
	if data == nil {
		return c, protocol.ErrUnknown
	}
	return c, json.Unmarshal(data, &c)
}

// protocolClient is the same for the protocol.
func (s *Server) protocolClient(ctx context.Context, id string) (protocol.Client, error) {
	c, err := s.client(ctx, id)
	var document *documentError
	if errors.As(err, &document) {
		err = protocol.ErrUnknown
	}
	return protocol.Client{ID: c.ID, SecretHash: c.SecretHash, Method: c.Method, Alone: len(c.Scopes) > 0 && c.Method != "none",
		Scopes: c.Scopes, Introspects: c.Introspects}, err
}

// keepClient makes a dynamic registration live on, since it was used.
func (s *Server) keepClient(ctx context.Context, id string) error {
	return store.Update(ctx, s.config.Store, clientKey(id), func(value []byte) ([]byte, time.Time, error) {
		return value, time.Now().Add(usedLife), nil
	})
}

// shown is a client as people are told of it.
func (c Client) shown() portal.Client {
	name := c.Name
	if name == "" {
		name = "A program without a name"
	}
	return portal.Client{Name: name, Verified: c.Verified}
}

// wellKnownSchemes are those of clients that have no dot in them.
var wellKnownSchemes = []string{"vscode", "vscode-insiders", "vscodium", "cursor", "windsurf", "zed", "claude", "jetbrains", "goose", "raycast", "warp", "kiro", "trae"}

// Bounds of what a client may register.
const (
	maxRedirects   = 20
	maxRedirectURI = 1000 // bytes
	maxName        = 200  // bytes
	maxClientID    = 500  // bytes; the URL of a metadata document is one
	// maxRedirectURIs bounds all of them together, in bytes: a registration is kept
	// for a day, whosoever it is.
	maxRedirectURIs = 4 << 10
)

// checkRedirectURI refuses a redirect URI that no client may register: only https,
// http to loopback (RFC 8252 §7.3), and schemes of programs.
func (s *Server) checkRedirectURI(uri string) error {
	u, err := url.Parse(uri)
	switch {
	case err != nil || len(uri) > maxRedirectURI || !u.IsAbs() || strings.ContainsAny(uri, "#*\\ \t\r\n") || u.User != nil:
		return fmt.Errorf("redirect URI %q: expected an absolute URI without fragment, wildcard and user", plain(uri))
	case u.Scheme == "https" && u.Host != "":
		return nil
	case u.Scheme == "http" && fetch.IsLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http" || u.Scheme == "https":
		return fmt.Errorf("redirect URI %q: http is for loopback only", plain(uri))
	case strings.Contains(u.Scheme, ".") || slices.Contains(s.config.Schemes, u.Scheme):
		return nil
	}
	return fmt.Errorf("redirect URI %q: the scheme %s is not allowed here", plain(uri), plain(u.Scheme))
}

// matchRedirectURI reports whether a requested redirect URI is one of those that
// were registered: the same to the letter, but for the port of a loopback address
// (RFC 8252 §7.3).
func matchRedirectURI(registered []string, asked string) bool {
	return slices.ContainsFunc(registered, func(r string) bool { return r == asked || samePlaceOnLoopback(r, asked) })
}

func samePlaceOnLoopback(registered, asked string) bool {
	r, err := url.Parse(registered)
	if err != nil || r.Scheme != "http" || !fetch.IsLoopback(r.Hostname()) {
		return false
	}
	a, err := url.Parse(asked)
	if err != nil || a.Scheme != "http" || a.User != nil || a.Fragment != "" || a.Hostname() != r.Hostname() {
		return false
	}
	if port, err := strconv.Atoi(a.Port()); a.Port() != "" && (err != nil || port > 65535) {
		return false
	}
	return a.EscapedPath() == r.EscapedPath() && a.RawQuery == r.RawQuery && !strings.Contains(asked, "#")
}

// plain makes a stranger's text safe for an answer: printable ASCII without quotes
// and backslashes, at most 200 characters.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '.'
		}
		return r
	}, s)
	return s[:min(len(s), 200)]
}
