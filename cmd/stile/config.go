package main

import (
	"crypto/tls"
	"time"

	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/authserver"
)

// The comments of the types below are the manual: docs/config.md is generated
// from them (see manual_test.go), so they speak to whoever writes a stile.yaml.

// File is a stile.yaml. Every key may be left out but servers.
type File struct {
	// The address and port to listen on, "host:port". Port 0 takes a free one.
	// Any other host than a loopback address needs issuers or api_keys.
	// Default 127.0.0.1:8080.
	Listen string `yaml:"listen"`
	// What clients see: scheme, host and optional port, without a path, query or
	// trailing slash, such as https://mcp.example.com. It is never taken from
	// Host or X-Forwarded-*. Default "http://", or "https://" with tls, and
	// listen, which is only good for clients on the same machine.
	PublicURL string `yaml:"public_url"`
	// Serve https instead of http. Default: http, for clients on the same machine and
	// for a proxy in front.
	TLS *TLS `yaml:"tls"`
	// A folder of Stile's own, made with mode 0700 when it is missing. It keeps
	// session.key, which lets sessions outlive a restart, and everything of the
	// embedded authorization server. Default: with that server
	// ~/.local/state/stile/default, else none, so that sessions end with the process.
	DataDir string `yaml:"data_dir"`
	// Who may issue tokens. They are asked in this order, and clients are told
	// of them in this order.
	Issuers []Issuer `yaml:"issuers"`
	// The embedded authorization server, which issues tokens for every endpoint where
	// there are neither issuers nor api_keys. It needs public_url to be what clients
	// reach, and keeps accounts, grants and keys in data_dir.
	AuthServer AuthServer `yaml:"authserver"`
	// Who signs people in to the embedded authorization server, in place of local
	// accounts. Default: local accounts.
	Login *Login `yaml:"login"`
	// Keys for callers that cannot log in, sent as "Authorization: Bearer KEY"
	// or "X-API-Key: KEY". A caller with a key is never sent to a login page:
	// what its scopes do not allow is refused for good.
	APIKeys []APIKey `yaml:"api_keys"`
	// The protected servers by name. A name is how the log and the audit call a
	// server: letters, digits, ".", "_" and "-". At least one.
	Servers ordered[Server] `yaml:"servers"`
	// What people are told of the scopes when they are asked to grant them.
	// Default: the scopes by their names alone.
	Scopes Scopes `yaml:"scopes"`
	// Further values of the Origin header that are let through, each
	// "scheme://host[:port]". That of public_url always is; when public_url is on
	// loopback, so is every loopback origin. "*" is refused.
	AllowedOrigins []string `yaml:"allowed_origins"`
	// What pages of other origins may do.
	CORS CORS `yaml:"cors"`
	// Further host names that are served, without a port. That of public_url
	// always is. When the list is empty, loopback names are served too, for a
	// reverse proxy on the same machine.
	AllowedHosts []string `yaml:"allowed_hosts"`
	// Serve the protected-resource document at the root well-known URL too, for
	// clients that look nowhere else. Only with a single server. Default false.
	RootMetadata bool `yaml:"root_metadata"`
	// Serve the metadata of the only issuer at this host's own
	// /.well-known/oauth-authorization-server, for clients of 2025-03-26 that
	// look nowhere else. Default false.
	RelayIssuerMetadata bool `yaml:"relay_issuer_metadata"`
	// Where the audit goes, one JSON object a line for every decision: stderr,
	// stdout, or the path of a file that is appended to. A decision that cannot be
	// written is not acted on. Default stderr.
	Audit string `yaml:"audit"`
	// Secrets that session ids are sealed with, at least 32 bytes each, given as
	// "file:PATH" or "${NAME}": the first seals, all open, so that a key can be
	// changed without ending sessions. Replicas need the same list. Default: the
	// key in data_dir, made on the first start; without data_dir a random one.
	SessionKeys []string `yaml:"session_keys" secret:"true"`
	// How long a session id is good for. Default 24h.
	SessionMaxAge Duration `yaml:"session_max_age"`
	// The largest request body: bytes, or a number with KiB or MiB. At most
	// 64MiB. Default 4MiB.
	MaxBody Size `yaml:"max_body"`
	// How long a request body may take to arrive before it is cut off. Default
	// 30s.
	BodyTimeout Duration `yaml:"body_timeout"`
	// The pause after which a quiet event stream gets a comment line, so that
	// nothing on the way closes it; "off" for never. Default 15s.
	KeepAlive Duration `yaml:"keep_alive" off:"true"`
	// How long a newer token that still lacks what was asked for is answered
	// with an explanation instead of a second challenge; "off" for never.
	// Default 60s.
	RefusalWindow Duration `yaml:"refusal_window" off:"true"`
	// How often one caller is challenged for more scopes, at once and in every minute
	// after; then the answer is 429. "off" for no limit. Default 120.
	ChallengesPerMinute Count `yaml:"challenges_per_minute" off:"true"`
	// How many bad tokens from one address are answered with 401, at once and in
	// every minute after; then the answer is 429. Good tokens are always accepted.
	// Behind a reverse proxy all callers have its address. "off" for no limit.
	// Default 600.
	FailedLoginsPerMinute Count `yaml:"failed_logins_per_minute" off:"true"`
	// How many event streams that wait for news one caller may have open; then the
	// answer is 429. "off" for no limit. Default 1000.
	StreamsPerCaller Count `yaml:"streams_per_caller" off:"true"`
	// When an event stream ends whose token has no known end, such as an API key;
	// "off" for never. The stream of a token that can be introspected also ends
	// within two minutes of its revocation. Default 24h.
	StreamMaxAge Duration `yaml:"stream_max_age" off:"true"`
	// How long calls under way may take to end when the gateway is stopped. Event
	// streams are ended at once. Default 10s.
	ShutdownTimeout Duration `yaml:"shutdown_timeout"`
	// For looking at what passes.
	Debug Debug `yaml:"debug"`
	// Listen on an address that is not loopback although there are neither
	// issuers nor api_keys, so that anyone who reaches it may call whatever the
	// policies allow without a token. Only for networks where everyone may.
	// Default false.
	OpenToEveryone bool `yaml:"dangerously_open_to_everyone_on_the_network"`

	certificates *certificates      // of TLS; nil: none
	tap          *tap               // of Debug; nil: none
	stores       *storePool         // stores that outlive a reload; nil: in memory
	authServer   *authserver.Server // nil: not embedded
	upstreamTLS  map[string]*tls.Config
	source       *source
	policies     map[string]*policy // compiled, by name of the server
	commands     *commandPool       // keeps processes over reloads; nil: none are kept
}

// Issuer is an authorization server whose tokens are accepted.
type Issuer struct {
	// The issuer identifier, compared byte for byte with the token's iss claim
	// and given to clients as it stands here: https, or http on loopback, without
	// query or fragment. Required.
	Issuer string `yaml:"issuer"`
	// The values of aud that are accepted; one must be in the token. Default: the
	// endpoint's own URL, public_url and path, which is what clients ask for.
	Audiences []string `yaml:"audiences"`
	// DANGER. The client ids whose tokens are accepted although they have no aud claim
	// at all, for issuers that write none: client_id, or else azp, appid or cid, must be
	// one of these. Nothing in such a token says which server it is for, so any
	// other service that a listed client's tokens are sent to can use them here. List only
	// clients that get tokens for this server alone. An aud that is there is still held
	// against audiences. Default: none; a token without aud is refused.
	DangerouslyNoAudienceClients []string `yaml:"dangerously_no_audience_clients"`
	// Where the issuer's keys are. Default: as its metadata says.
	JWKSURI string `yaml:"jwks_uri"`
	// Where the issuer's metadata is. Default: found by RFC 8414 and then OpenID
	// Connect discovery, in the inserted and appended forms.
	MetadataURL string `yaml:"metadata_url"`
	// How to ask about tokens that cannot be read (RFC 7662). Default: such tokens
	// are refused.
	Introspection *Introspection `yaml:"introspection"`
	// The claims that may hold the scopes, as a string or a list; the first one
	// present counts. Default [scope, scp].
	ScopeClaims []string `yaml:"scope_claims"`
	// What this issuer puts before every scope. It is taken off the scopes of
	// tokens, put before those of challenges, and never written in policies.
	// Default: nothing.
	ScopePrefix string `yaml:"scope_prefix"`
	// The scopes this issuer can grant, each whole or ending in "*". What it
	// cannot grant is never challenged for. Default: any.
	Grantable []string `yaml:"grantable"`
	// The claim that names the caller; with the issuer it is who a session
	// belongs to. Default sub.
	SubjectClaim string `yaml:"subject_claim"`
	// The signature algorithms that are accepted. HMAC and none never are.
	// Default [ES256, RS256, PS256, EdDSA].
	Algorithms []string `yaml:"algorithms"`
	// How far this machine's clock and the issuer's may be apart, at most 5m.
	// Default 30s.
	ClockSkew Duration `yaml:"clock_skew"`
	// The client ids that have no person to send to a login page, such as jobs:
	// what their scopes do not allow is refused for good.
	NonInteractiveClients []string `yaml:"non_interactive_clients"`
	// Accept only tokens whose typ header says that they are access tokens
	// (at+jwt, RFC 9068). Default false: ID tokens and the like are refused, a
	// missing typ or JWT is not.
	RequireATJWT bool `yaml:"require_at_jwt"`
}

// Introspection is how an issuer is asked about a token.
type Introspection struct {
	// The introspection endpoint: https, or http on loopback. Required.
	URL string `yaml:"url"`
	// The client that Stile is to this issuer. Required.
	ClientID string `yaml:"client_id"`
	// Its secret, best given as "${NAME}" or "file:PATH". Required.
	ClientSecret string `yaml:"client_secret" secret:"true"`
}

// APIKey is one key. The file holds its hash, never the key.
type APIKey struct {
	// How the log calls the key. Required, unique.
	Name string `yaml:"name"`
	// The SHA-256 of the key in hex, 64 digits, as printed by
	// "printf %s KEY | sha256sum". Required, unique.
	SHA256 string `yaml:"sha256" secret:"true"`
	// Who the caller is. Default: the name.
	Subject string `yaml:"subject"`
	// The scopes the caller has, with spaces between them.
	Scopes string `yaml:"scopes"`
}

// Scopes is what people are told of scopes.
type Scopes struct {
	// A sentence for each scope, on one line of at most 200 characters, such as
	// "notes:write: Add and change notes." The scope must be one that a policy
	// knows, as it is written there or with values for its variables. Default: none.
	Descriptions map[string]string `yaml:"descriptions"`
}

// Server is one protected MCP server.
type Server struct {
	// Where it is served, such as /mcp. public_url and path together are the
	// URL that clients use and that tokens must be for. Required, unique.
	Path string `yaml:"path"`
	// The MCP server itself, http or https. Requests reach it without the
	// caller's token. Either url or command.
	URL string `yaml:"url"`
	// How url is spoken to. streamable: by Streamable HTTP. sse: by the transport of
	// 2024-11-05; url is then that of the event stream. auto: by streamable, and by
	// sse where the first initialize is refused with 400, 404 or 405 and a GET of
	// url opens such a stream. With sse, isolation, the limits and the timeouts of
	// commands count for its connections, which a reload ends. Default streamable.
	Transport string `yaml:"transport"`
	// Serve the transport of 2024-11-05 too, for clients that speak nothing newer:
	// the event stream at path and "/sse", messages at path and "/messages". Each
	// request is judged like one at path. Such clients cannot step up: give them
	// tokens that suffice, see advertise. With several replicas the event stream
	// and its messages must reach the same one. A reload ends event streams, and
	// sessions with them. Default false.
	SSE bool `yaml:"sse"`
	// Give clients of the 2025 revisions no sessions: each request stands alone, GET
	// and DELETE are answered with 405. A command is then shared by all requests of a
	// caller, or of everyone, see isolation; a server behind url must do without
	// sessions. Not with sse. Default false.
	Stateless bool `yaml:"stateless"`
	// How https is spoken to url.
	TLS *UpstreamTLS `yaml:"tls"`
	// How long the server is waited for.
	Timeouts Timeouts `yaml:"timeouts"`
	// A command that speaks MCP on its standard input and output, and its
	// arguments, which no shell reads. Either url or command.
	Command []string `yaml:"command"`
	// The environment of the command. It sees these variables, of the gateway's
	// own PATH, HOME, LANG, LC_*, TMPDIR, USER, LOGNAME, SHELL, TERM and TZ, and
	// nothing else.
	Env map[string]string `yaml:"env" secret:"true"`
	// The working directory of the command, seen from this file. Default: that of
	// the gateway.
	Dir string `yaml:"dir"`
	// Which callers share a process of the command. session: none; each session
	// of the 2025 revisions has its own, and in 2026-07-28, which has no sessions,
	// each caller. caller: all sessions of one caller. shared: everyone, for
	// servers that keep nothing about who asks. A process that is shared cannot
	// ask its clients for anything: sampling, elicitation and roots of the 2025
	// revisions need session. Default session.
	Isolation string `yaml:"isolation"`
	// How long the command may take to answer for the first time. Default 1m.
	StartTimeout Duration `yaml:"start_timeout"`
	// How long a session, or a process that several share, is kept when nothing is
	// asked of it; "off" for ever. A client that only listens is sent a ping
	// first. The one process of shared stays. Default 30m.
	IdleTimeout Duration `yaml:"idle_timeout" off:"true"`
	// How many processes of the command there may be at once. Beyond that new
	// sessions are answered with 503. Default 100.
	MaxProcesses int `yaml:"max_processes"`
	// How many sessions, and processes, one caller may have. A new one ends the
	// caller's oldest that is idle; where none is, it is answered with 429.
	// Default 16.
	MaxPerCaller int `yaml:"max_per_caller"`
	// How many sessions there may be in all, on however many processes. Beyond that
	// new ones are answered with 503. Default 10000.
	MaxSessions int `yaml:"max_sessions"`
	// Which generation of the protocol the server speaks. 2025: the revisions up to
	// 2025-11-25, with sessions. 2026: 2026-07-28. auto: Stile finds out, and again
	// when the server was down. Clients of the other generation are translated; see
	// eras.md. Default auto.
	Protocol string `yaml:"protocol"`
	// Header fields put on every request to url, such as the server's own
	// credential.
	Headers map[string]string `yaml:"headers" secret:"true"`
	// Who may do what. Either policy or policy_file. See policy.md.
	Policy *authorize.Config `yaml:"policy"`
	// A file that holds the policy alone. Either policy or policy_file.
	PolicyFile string `yaml:"policy_file"`
	// What a first login is told to ask for, by the 401 and the metadata.
	// baseline: the policy's baseline. broad: every scope of the policy, for
	// clients that never step up; whoever logs in is asked for everything at
	// once. Default baseline.
	Advertise string `yaml:"advertise"`
	// Answer a tool call that lacks scopes with status 200 and an error result
	// that carries the challenge, which ChatGPT reads, instead of with a 403,
	// which every other client does. Default false.
	InBandChallenge bool `yaml:"in_band_challenge"`
}

// Defaults of the file; what is not here is the default of the library.
const (
	defaultConfigFile      = "stile.yaml"
	defaultListen          = "127.0.0.1:8080"
	defaultAudit           = "stderr"
	defaultIsolation       = "session"
	isolationCaller        = "caller"
	defaultProtocol        = "auto"
	defaultTransport       = transportStreamable
	transportStreamable    = "streamable"
	transportSSE           = "sse"
	transportAuto          = "auto"
	advertiseBaseline      = "baseline"
	advertiseBroad         = "broad"
	defaultShutdownTimeout = 10 * time.Second
)

// applyDefaults fills in what was left out and does not depend on other files.
func (f *File) applyDefaults() {
	setDefault(&f.Listen, defaultListen)
	setDefault(&f.PublicURL, f.scheme()+f.Listen)
	setDefault(&f.Audit, defaultAudit)
	if f.ShutdownTimeout == 0 {
		f.ShutdownTimeout = Duration(defaultShutdownTimeout)
	}
	for i := range f.APIKeys {
		setDefault(&f.APIKeys[i].Subject, f.APIKeys[i].Name)
	}
	for i := range f.Servers {
		if f.Servers[i].Value.Stateless {
			setDefault(&f.Servers[i].Value.Isolation, isolationCaller)
		}
		setDefault(&f.Servers[i].Value.Isolation, defaultIsolation)
		setDefault(&f.Servers[i].Value.Protocol, defaultProtocol)
		setDefault(&f.Servers[i].Value.Transport, defaultTransport)
		setDefault(&f.Servers[i].Value.Advertise, advertiseBaseline)
	}
}

// listeningOn says which address was got. Where public_url was left out, it
// follows, so that port 0 works; call it before build.
func (f *File) listeningOn(address string) {
	if f.PublicURL == f.scheme()+f.Listen {
		f.PublicURL = f.scheme() + address
	}
	f.Listen = address
}

// scheme is what the listener speaks.
func (f *File) scheme() string {
	if f.TLS != nil {
		return "https://"
	}
	return "http://"
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}
