package stile

import (
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/message"
)

// Config is everything a Gateway is made of. New checks it whole, reports every
// mistake at once, and keeps a frozen copy.
type Config struct {
	// PublicURL is what clients see: scheme, host and optional port, without a
	// path, query or trailing slash, such as "https://mcp.example.com". It is
	// never taken from Host or X-Forwarded-* (DES-30). Required.
	PublicURL string
	// Servers are the protected endpoints. At least one.
	Servers []Server
	// AllowedOrigins are further values of Origin that are let through, each
	// "scheme://host[:port]". The origin of PublicURL always is; when PublicURL
	// is on loopback, so is every loopback origin. "*" is refused.
	AllowedOrigins []string
	// CORS is what else pages of the allowed origins may do.
	CORS CORS
	// AllowedHosts are further values of Host that are served, without a port.
	// The host of PublicURL always is; when PublicURL is on loopback, so is
	// every loopback name. When empty and PublicURL is not on loopback, loopback
	// hosts are served too (a reverse proxy on the same machine).
	AllowedHosts []string
	// SessionKeys are the secrets session ids are sealed with, at least 32 bytes
	// each: the first seals, all open. Empty: a random one, so that sessions end
	// with the process.
	SessionKeys [][]byte
	// SessionMaxAge is how long a session id is good for. Default 24 h.
	SessionMaxAge time.Duration
	// Audit receives one JSON object a line for every decision, before anything
	// is forwarded. A write error refuses the call (500): no audit record, no
	// call. Writes are serialised. Default: discarded with a warning at start.
	Audit io.Writer
	// Log receives what an operator should know. Default slog.Default().
	Log *slog.Logger
	// MaxBody is the largest request body, in bytes. Default 4 MiB.
	MaxBody int64
	// BodyTimeout is how long a request body may take to arrive. Default 30 s.
	BodyTimeout time.Duration
	// KeepAlive is the pause after which a quiet event stream gets a comment
	// line. Default 15 s; negative: never.
	KeepAlive time.Duration
	// RootMetadata serves the protected-resource document of the only endpoint
	// at the root well-known URL too. Refused with more than one server (DES-30).
	RootMetadata bool
	// RelayIssuerMetadata serves the authorization server metadata of the only
	// issuer, as it was discovered, at this host's own RFC 8414 URL, for clients
	// of the time before RFC 9728 (revision 2025-03-26) that look nowhere else.
	// Clients that compare the issuer with the URL, as they must today, find it
	// through the protected-resource document instead.
	RelayIssuerMetadata bool
	// OnChallenge is told of each challenge with insufficient_scope, just before it is
	// sent: to whom, and for which call. An authorization server of the same process
	// learns so what the next authorization is for. It is called by many at once and
	// must return at once. Optional.
	OnChallenge func(id *authenticate.Identity, call *message.Call, c challenge.Challenge)
	// RefusalWindow is how long a newer token that still lacks what was
	// challenged is answered in-band instead of with a second 403 (DES-28).
	// Default 60 s; negative: never.
	RefusalWindow time.Duration
	// ChallengesPerMinute is how often one caller is challenged for more scopes, at
	// once and in every minute after; then the answer is 429 with Retry-After (DES-28).
	// Default 120; negative: without limit.
	ChallengesPerMinute int
	// FailuresPerMinute is how many tokens from one address are refused with 401, at
	// once and in every minute after; then the answer is 429. Tokens that are accepted
	// always are. Of IPv6 a /64 network counts as one address; behind a proxy all
	// callers have the proxy's. Default 600; negative: without limit.
	FailuresPerMinute int
	// StreamsPerCaller is how many streams that wait for news (the GET of the 2025
	// revisions, subscriptions/listen) one caller, or one address without a token, may
	// have open; then the answer is 429. Default 1,000; negative: without limit.
	StreamsPerCaller int
	// StreamMaxAge is when an event stream ends whose token has no known end, such as
	// an API key. Default 24 h; negative: never.
	StreamMaxAge time.Duration
}

// Server is one protected endpoint.
type Server struct {
	// Name is how the log, the audit and `stile explain` call it. Letters,
	// digits, ".", "_" and "-". Unique.
	Name string
	// Path is where it is served, such as "/mcp". Unique. The endpoint's
	// resource identifier (RFC 8707, RFC 9728) is PublicURL + Path.
	Path string
	// Upstream is the MCP server. It gets the bytes that were authorised, with
	// every credential of the caller taken out of the header. When it also has
	// the method Ready(context.Context) error, /readyz asks it.
	Upstream http.Handler
	// Policy says what each identity may do. Required.
	Policy *authorize.Policy
	// Verifiers are asked in order until one knows the token. Empty: nobody can
	// log in, which New refuses unless the policy asks for no scopes.
	Verifiers []authenticate.Verifier
	// Issuers are advertised as authorization_servers, byte for byte (DES-30).
	Issuers []*authenticate.Profile
	// Broad names every scope of the policy in the 401 and the metadata instead of
	// the baseline, for clients that never step up (DES-08). Whoever logs in is
	// then asked for everything at once.
	Broad bool
	// InBandChallenge answers a tools/call that lacks scopes with an error result
	// that carries the challenge in _meta["mcp/www_authenticate"] and status 200,
	// which ChatGPT reads, instead of with a 403, which everyone else does (DES-35).
	InBandChallenge bool
	// LegacySSE serves the transport of 2024-11-05 too, for clients that speak
	// nothing newer: the event stream at Path + "/sse", and messages at Path +
	// "/messages". Every request of it is judged like one at Path, and a token is for
	// the same resource. Its sessions live and end with their event stream, in this
	// process.
	LegacySSE bool
	// Stateless gives clients of the 2025 revisions no session ids: those of the
	// upstream are kept back, those of clients ignored, GET and DELETE answered with
	// 405. The upstream must do without them.
	Stateless bool
	// RequestTimeout is how long the answer to a request is waited for; each message
	// of it, such as a notification of progress, begins the wait anew. Then the
	// answer is 504, or a JSON-RPC error on a stream that has begun, and the upstream
	// is told. 0: without end.
	RequestTimeout time.Duration
	// MaxRequestTime is the limit of that however many messages come. 0: none.
	MaxRequestTime time.Duration
	// Tools is where the annotations of the server's tools are kept. It is only
	// needed when the policy reads `tool`; the same catalogue must then be in the
	// policy's Config.Tools.
	Tools *ToolCatalogue
}

// Defaults of Config.
const (
	DefaultSessionMaxAge = 24 * time.Hour
	DefaultBodyTimeout   = 30 * time.Second
	DefaultKeepAlive     = 15 * time.Second
	DefaultRefusalWindow = time.Minute
)
