package stile

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/session"
)

// New checks the whole configuration and builds a Gateway from it. The error is
// a list of every mistake, each with its place in Config and what was expected.
func New(c Config) (*Gateway, error) {
	c.setDefaults()
	var mistakes problem.List
	public := checkPublicURL(c.PublicURL, &mistakes)
	checkOrigins(&c, &mistakes)
	c.CORS.check(public, &mistakes)
	checkLimits(&c, &mistakes)
	sessions := newSealer(&c, &mistakes)
	g := &Gateway{
		publicURL: c.PublicURL,
		endpoints: map[string]*endpoint{},
		documents: map[string]*document{},
		legacy:    map[string]legacyRoute{},
		sessions:  sessions,
		audit:     newAuditLog(c.Audit),
		memory:    newRefusalMemory(c.RefusalWindow),
		limits:    newLimits(&c),
		config:    c,
	}
	g.ids.start()
	if len(c.Servers) == 0 {
		mistakes.Add("servers", "", "at least one server")
	}
	if c.RootMetadata && len(c.Servers) > 1 {
		mistakes.Add("root_metadata", "true", "false with more than one server: the root document can describe only one")
	}
	names, paths := map[string]bool{}, map[string]bool{}
	for i := range c.Servers {
		at := "servers[" + strconv.Itoa(i) + "]"
		before := len(mistakes)
		checkPlace(&c.Servers[i], at, names, paths, &mistakes)
		authenticator := checkParts(&c.Servers[i], at, &mistakes)
		if len(mistakes) == before {
			g.addServer(&c.Servers[i], at, authenticator, &mistakes)
		}
	}
	g.checkLegacy(&mistakes)
	g.relayIssuer(&mistakes)
	if err := mistakes.Err(); err != nil {
		return nil, err
	}
	g.guard = newGuard(public, &c)
	g.cors = newCrossOrigin(g.guard, &c.CORS)
	g.draining, g.drain = context.WithCancel(context.Background())
	g.stopping, g.stop = context.WithCancel(context.Background())
	return g, nil
}

func (c *Config) setDefaults() {
	if c.SessionMaxAge == 0 {
		c.SessionMaxAge = DefaultSessionMaxAge
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Audit == nil {
		c.Audit = io.Discard
		c.Log.Warn("decisions are not recorded: no audit log is configured")
	}
	if c.MaxBody == 0 {
		c.MaxBody = message.DefaultMaxBody
	}
	if c.BodyTimeout == 0 {
		c.BodyTimeout = DefaultBodyTimeout
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = DefaultKeepAlive
	}
	if c.RefusalWindow == 0 {
		c.RefusalWindow = DefaultRefusalWindow
	}
	for _, limit := range []struct {
		of    *int
		usual int
	}{{&c.ChallengesPerMinute, DefaultChallengesPerMinute}, {&c.FailuresPerMinute, DefaultFailuresPerMinute},
		{&c.StreamsPerCaller, DefaultStreamsPerCaller}} {
		if *limit.of == 0 {
			*limit.of = limit.usual
		}
	}
	if c.StreamMaxAge == 0 {
		c.StreamMaxAge = DefaultStreamMaxAge
	}
}

// checkPublicURL wants an origin: what is put before every path.
func checkPublicURL(raw string, mistakes *problem.List) *url.URL {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" ||
		u.Path != "" || u.User != nil || strings.ContainsAny(raw, "?#") || challenge.CheckURL(raw) != nil {
		mistakes.Add("public_url", raw, `scheme and host such as "https://mcp.example.com", without path, query or trailing slash`)
		return &url.URL{}
	}
	return u
}

func checkOrigins(c *Config, mistakes *problem.List) {
	for i, o := range c.AllowedOrigins {
		u, err := url.Parse(o)
		if err != nil || u.Scheme == "" || u.Hostname() == "" || u.Path != "" || u.User != nil || strings.ContainsAny(o, "?#*") {
			mistakes.Add("allowed_origins["+strconv.Itoa(i)+"]", o, `an origin such as "https://app.example.com"; "*" is not one`)
		}
	}
	for i, h := range c.AllowedHosts {
		_, err := netip.ParseAddr(strings.Trim(h, "[]"))
		if isAddress := err == nil; h == "" || strings.ContainsAny(h, "/*@ ?#") || !isAddress && strings.Contains(h, ":") {
			mistakes.Add("allowed_hosts["+strconv.Itoa(i)+"]", h, "a host name or address without a port")
		}
	}
}

// checkLimits refuses limits under which nothing could be served.
func checkLimits(c *Config, mistakes *problem.List) {
	if c.MaxBody < 0 {
		mistakes.Add("max_body", strconv.FormatInt(c.MaxBody, 10), "a number of bytes, or 0 for the default")
	}
	if c.BodyTimeout < 0 {
		mistakes.Add("body_timeout", c.BodyTimeout.String(), "a time, or 0 for the default")
	}
}

func newSealer(c *Config, mistakes *problem.List) *session.Sealer {
	keys := c.SessionKeys
	if len(keys) == 0 {
		keys = [][]byte{make([]byte, 32)}
		rand.Read(keys[0])
	}
	sealer, err := session.New(session.Config{Keys: keys, MaxAge: c.SessionMaxAge})
	var list problem.List
	switch {
	case err == nil:
	case errors.As(err, &list):
		for _, m := range list {
			m.Path = "session_" + m.Path // as the field of Config is called
			*mistakes = append(*mistakes, m)
		}
	default:
		mistakes.Add("session_keys", "", err.Error())
	}
	return sealer
}

var (
	serverName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	serverPath = regexp.MustCompile(`^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$`)
)

// checkPlace checks under which name and path a server is to be found.
func checkPlace(s *Server, at string, names, paths map[string]bool, mistakes *problem.List) {
	switch {
	case !serverName.MatchString(s.Name):
		mistakes.Add(at+".name", s.Name, "letters, digits, dots, dashes and underscores, 64 at most")
	case names[s.Name]:
		mistakes.Add(at+".name", s.Name, "a name that no other server has")
	}
	switch {
	case !serverPath.MatchString(s.Path), path.Clean(s.Path) != s.Path:
		mistakes.Add(at+".path", s.Path, `a path such as "/mcp", without a trailing slash`)
	case paths[s.Path]:
		mistakes.Add(at+".path", s.Path, "a path that no other server has")
	case reserved(s.Path):
		mistakes.Add(at+".path", s.Path, "a path that Stile does not answer itself")
	}
	names[s.Name], paths[s.Path] = true, true
}

// checkParts checks what a server is made of, and returns who tells its callers.
func checkParts(s *Server, at string, mistakes *problem.List) *authenticate.Authenticator {
	if s.Upstream == nil {
		mistakes.Add(at+".upstream", "", "the handler that calls are forwarded to")
	}
	switch {
	case s.Policy == nil:
		mistakes.Add(at+".policy", "", "a policy; nothing is allowed without one")
	case len(s.Verifiers) == 0 && s.Policy.AsksIn() != "":
		mistakes.Add(at+".verifiers", "", "an issuer or API keys: "+s.Policy.AsksIn()+" of the policy asks for scopes, which nobody could have")
	case len(s.Verifiers) == 0 && !s.Policy.Anonymous():
		mistakes.Add(at+".verifiers", "", "an issuer or API keys: nobody could call this server")
	}
	if s.Policy != nil && s.Policy.NeedsTools() && s.Tools == nil {
		mistakes.Add(at+".tools", "", "a ToolCatalogue, because the policy reads `tool`")
	}
	s.checkTimeouts(at, mistakes)
	if s.Stateless && s.LegacySSE {
		mistakes.Add(at+".stateless", "true", "false with legacy_sse, whose event streams are sessions")
	}
	for i, p := range s.Issuers {
		if p == nil {
			mistakes.Add(at+".issuers["+strconv.Itoa(i)+"]", "", "the profile of an issuer")
		}
	}
	authenticator, err := authenticate.New(authenticate.Options{Verifiers: s.Verifiers})
	var list problem.List
	switch {
	case err == nil:
	case errors.As(err, &list):
		for _, m := range list {
			*mistakes = append(*mistakes, m.At(at))
		}
	default:
		mistakes.Add(at+".verifiers", "", err.Error())
	}
	return authenticator
}

// addServer makes the endpoint of a server and its metadata document.
func (g *Gateway) addServer(s *Server, at string, authenticator *authenticate.Authenticator, mistakes *problem.List) {
	e := &endpoint{name: s.Name, path: s.Path, upstream: s.Upstream, policy: s.Policy, verifiers: slices.Clone(s.Verifiers),
		authenticator: authenticator, tools: s.Tools, issuers: slices.Clone(s.Issuers), inBand: s.InBandChallenge, first: s.Policy.Baseline(),
		stateless: s.Stateless, timeout: s.RequestTimeout, maxTime: s.MaxRequestTime}
	if s.Broad {
		e.first = s.Policy.Catalogue()
	}
	g.endpoints[s.Path] = e
	if s.LegacySSE {
		g.addLegacy(e, at, mistakes)
	}
	g.describe(e, at, mistakes)
}

func reserved(path string) bool {
	return path == "/healthz" || path == "/readyz" || path == "/ping" || strings.HasPrefix(path, "/.well-known/")
}

// describe makes the protected-resource document of an endpoint (DES-30).
func (g *Gateway) describe(e *endpoint, at string, mistakes *problem.List) {
	path := strings.TrimSuffix(e.path, "/")
	e.metadataURL = MetadataURL(g.publicURL, e.path)
	prefix := ""
	if len(e.issuers) > 0 {
		prefix = e.issuers[0].ScopePrefix
	}
	doc, err := newDocument(Resource(g.publicURL, e.path), e.name, e.issuers, prefixed(e.first, prefix))
	if err != nil {
		mistakes.Add(at, "", err.Error())
		return
	}
	g.documents[wellKnown+path] = doc
	if g.config.RootMetadata {
		g.documents[wellKnown] = doc
	}
}

// Resource is the resource identifier of an endpoint: what clients send as
// `resource` and what a token's audience must be (RFC 8707, REQ-13).
func Resource(publicURL, path string) string {
	return publicURL + strings.TrimSuffix(path, "/")
}

// MetadataURL is where the protected-resource document of an endpoint stands:
// the well-known part inserted before the path (RFC 9728 §3.1).
func MetadataURL(publicURL, path string) string {
	return publicURL + wellKnown + strings.TrimSuffix(path, "/")
}
