package main

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/internal/problem"
)

// build makes what a gateway is made of from a checked file. It opens the audit
// and makes the session key where data_dir has none, but reaches no network. The
// closer closes all that was opened, once the gateway is no longer used; it is
// nil with an error.
func build(f *File, log *slog.Logger, stdout, stderr io.Writer) (stile.Config, io.Closer, error) {
	keys, err := f.sessionKeys()
	if err != nil {
		return stile.Config{}, nil, err
	}
	audit, closeAudit, err := f.openAudit(stdout, stderr)
	if err != nil {
		return stile.Config{}, nil, err
	}
	closeTap, err := f.openTap(stderr)
	if err != nil {
		return stile.Config{}, nil, errors.Join(err, closeAudit.Close())
	}
	config, opened, found := f.assemble(log)
	opened = append(closers{closeAudit, closeTap}, opened...)
	if len(found) > 0 {
		return stile.Config{}, nil, errors.Join(found, opened.Close())
	}
	config.Audit, config.SessionKeys = audit, keys
	return config, opened, nil
}

// trial builds everything in memory, so that what only the library refuses is
// told with its place too. It is the last of the checks.
func (f *File) trial() mistakes {
	silent := slog.New(slog.DiscardHandler)
	config, opened, found := f.assemble(silent)
	defer func() { _ = opened.Close() }() // nothing was written
	if len(found) > 0 {
		return found
	}
	config.Audit = io.Discard
	gateway, err := stile.New(config)
	if err != nil {
		return f.foundBy(err, "")
	}
	gateway.Drain()
	return nil
}

// assemble turns a file without mistakes into what the library takes, all but
// what must be opened.
func (f *File) assemble(log *slog.Logger) (stile.Config, closers, mistakes) {
	config := stile.Config{
		PublicURL:      f.PublicURL,
		AllowedOrigins: f.AllowedOrigins,
		CORS:           f.crossOrigin(),
		AllowedHosts:   f.AllowedHosts,
		RootMetadata:   f.RootMetadata,

		RelayIssuerMetadata: f.RelayIssuerMetadata,

		SessionMaxAge: time.Duration(f.SessionMaxAge),
		MaxBody:       int64(f.MaxBody),
		BodyTimeout:   time.Duration(f.BodyTimeout),
		KeepAlive:     time.Duration(f.KeepAlive),
		RefusalWindow: time.Duration(f.RefusalWindow),
		StreamMaxAge:  time.Duration(f.StreamMaxAge),

		ChallengesPerMinute: int(f.ChallengesPerMinute),
		FailuresPerMinute:   int(f.FailedLoginsPerMinute),
		StreamsPerCaller:    int(f.StreamsPerCaller),
		Log:                 log,
	}
	for _, origin := range f.CORS.Origins {
		if origin != anyOrigin {
			config.AllowedOrigins = append(slices.Clip(config.AllowedOrigins), origin)
		}
	}
	for _, i := range f.Issuers {
		if n := len(i.DangerouslyNoAudienceClients); n > 0 {
			log.Warn("tokens without aud are accepted: whoever else receives tokens of these clients can use them here",
				"issuer", i.Issuer, "clients", i.DangerouslyNoAudienceClients)
		}
	}
	kept, found := f.embed(&config, log)
	var opened closers
	if kept != nil {
		opened = append(opened, kept)
	}
	if len(found) > 0 {
		return config, opened, found
	}
	who, more, found := f.newCallers()
	opened = append(opened, more...)
	if len(found) > 0 {
		return config, opened, found
	}
	for i := range f.Servers {
		server, closer, wrong := f.newServer(&f.Servers[i], who, log)
		found = append(found, wrong...)
		if closer != nil {
			opened = append(opened, closer)
		}
		config.Servers = append(config.Servers, server)
	}
	return config, opened, found
}

// crossOrigin is what the library takes of CORS.
func (f *File) crossOrigin() stile.CORS {
	return stile.CORS{AnyOrigin: slices.Contains(f.CORS.Origins, anyOrigin), Headers: f.CORS.Headers, Expose: f.CORS.Expose,
		Credentials: f.CORS.Credentials, MaxAge: time.Duration(f.CORS.MaxAge)}
}

// callers is what all servers share to tell who is calling.
type callers struct {
	keySets  []*authenticate.KeySet // by position in File.Issuers
	own      *authenticate.KeySet   // of the embedded authorization server; nil: none
	apiKeys  *authenticate.APIKeys  // nil: none
	profiles []*authenticate.Profile
}

// newCallers makes the key set of every issuer, which all servers share, and the
// API keys.
func (f *File) newCallers() (callers, closers, mistakes) {
	var (
		who    = callers{profiles: f.profiles()}
		opened closers
		found  mistakes
	)
	if f.authServer != nil {
		keys, err := authenticate.NewKeySet(authenticate.KeySetConfig{Issuer: f.PublicURL, Transport: inProcess{f.authServer}})
		if err != nil {
			return who, opened, f.foundBy(err, "public_url")
		}
		who.own = keys
		opened = append(opened, closerFunc(keys.Close))
	}
	for i, issuer := range f.Issuers {
		keys, err := authenticate.NewKeySet(authenticate.KeySetConfig{
			Issuer: issuer.Issuer, JWKSURI: issuer.JWKSURI, MetadataURL: issuer.MetadataURL})
		if err != nil {
			found = append(found, f.foundBy(err, index("issuers", i))...)
			continue
		}
		who.keySets = append(who.keySets, keys)
		opened = append(opened, closerFunc(keys.Close))
	}
	if len(f.APIKeys) > 0 {
		keys := make([]authenticate.APIKey, len(f.APIKeys))
		for i, key := range f.APIKeys {
			keys[i] = authenticate.APIKey{Name: key.Name, SHA256: key.SHA256, Subject: key.Subject, Scopes: key.Scopes}
		}
		var err error
		if who.apiKeys, err = authenticate.NewAPIKeys(keys); err != nil {
			found = append(found, f.foundBy(err, "api_keys")...)
		}
	}
	return who, opened, found
}

// newServer makes one server with verifiers of its own: a token is for one
// endpoint (REQ-04), and only policies that read claims keep them.
func (f *File) newServer(e *entry[Server], who callers, log *slog.Logger) (stile.Server, io.Closer, mistakes) {
	var found mistakes
	p := f.policies[e.Name]
	server := stile.Server{Name: e.Name, Path: e.Value.Path, Policy: p.compiled, Issuers: who.profiles,
		Broad: e.Value.Advertise == advertiseBroad, InBandChallenge: e.Value.InBandChallenge, LegacySSE: e.Value.SSE, Stateless: e.Value.Stateless,
		RequestTimeout: e.Value.Timeouts.request(), MaxRequestTime: e.Value.Timeouts.maximum()}
	if p.compiled.NeedsTools() {
		server.Tools = p.tools
	}
	upstream, closer, err := f.newUpstream(e, log)
	if err != nil {
		found = append(found, f.foundBy(err, join("servers", e.Name))...)
	} else {
		server.Upstream = f.tap.behind(e.Name, upstream)
	}
	// Keys come first: what is a key is not shown to an issuer.
	if who.apiKeys != nil {
		server.Verifiers = append(server.Verifiers, who.apiKeys)
	}
	if who.own != nil {
		own, wrong := f.newOwnTokens(who.own, f.resource(&e.Value))
		server.Verifiers, found = append(server.Verifiers, own), append(found, wrong...)
	}
	for i := range f.Issuers {
		verifiers, wrong := f.newVerifiers(i, who, f.resource(&e.Value), p.compiled.NeedsClaims())
		server.Verifiers, found = append(server.Verifiers, verifiers...), append(found, wrong...)
	}
	return server, closer, found
}

// newVerifiers makes what verifies the tokens of one issuer at one endpoint: one
// for signed tokens, and one for opaque ones where the issuer can be asked.
func (f *File) newVerifiers(i int, who callers, resource string, claims bool) ([]authenticate.Verifier, mistakes) {
	issuer, at := &f.Issuers[i], index("issuers", i)
	audiences := issuer.Audiences
	if len(audiences) == 0 {
		audiences = []string{resource}
	}
	signed, err := authenticate.NewJWT(authenticate.JWTConfig{
		Issuer: issuer.Issuer, Audiences: audiences, Keys: who.keySets[i], Algorithms: issuer.Algorithms,
		ClockSkew: time.Duration(issuer.ClockSkew), ScopeClaims: issuer.ScopeClaims, ScopePrefix: issuer.ScopePrefix,
		Grantable: issuer.Grantable, SubjectClaim: issuer.SubjectClaim, NonInteractiveClients: issuer.NonInteractiveClients,
		RequireAccessTokenType: issuer.RequireATJWT, KeepClaims: claims, DangerouslyNoAudienceClients: issuer.DangerouslyNoAudienceClients,
	})
	if err != nil {
		return nil, f.foundBy(err, at)
	}
	verifiers := []authenticate.Verifier{signed}
	if issuer.Introspection == nil {
		return verifiers, nil
	}
	asked, err := authenticate.NewIntrospection(authenticate.IntrospectionConfig{
		Issuer: issuer.Issuer, URL: issuer.Introspection.URL, ClientID: issuer.Introspection.ClientID,
		ClientSecret: issuer.Introspection.ClientSecret, Audiences: audiences, OpaqueOnly: true,
		ClockSkew: time.Duration(issuer.ClockSkew), ScopeClaims: issuer.ScopeClaims, ScopePrefix: issuer.ScopePrefix,
		Grantable: issuer.Grantable, SubjectClaim: issuer.SubjectClaim, NonInteractiveClients: issuer.NonInteractiveClients,
		KeepClaims: claims, DangerouslyNoAudienceClients: issuer.DangerouslyNoAudienceClients,
	})
	if err != nil {
		return nil, f.foundBy(err, at+".introspection")
	}
	return append(verifiers, asked), nil
}

// profiles are what clients are told of the issuers.
func (f *File) profiles() []*authenticate.Profile {
	var profiles []*authenticate.Profile
	if f.embedded() {
		profiles = append(profiles, &authenticate.Profile{Issuer: f.PublicURL})
	}
	for _, i := range f.Issuers {
		profiles = append(profiles, &authenticate.Profile{Issuer: i.Issuer, ScopePrefix: i.ScopePrefix, Grantable: i.Grantable})
	}
	return profiles
}

// resource is the URL of an endpoint as clients see it.
func (f *File) resource(s *Server) string { return stile.Resource(f.PublicURL, s.Path) }

// foundBy turns what the library refuses into mistakes of the file.
func (f *File) foundBy(err error, at string) mistakes {
	var list problem.List
	if !errors.As(err, &list) {
		list = problem.List{{Want: err.Error()}}
	}
	renamed := make(problem.List, len(list))
	for i, one := range list {
		one = one.At(at)
		one.Path = f.namedServer(one.Path)
		if !strings.HasPrefix(one.Want, "expected") {
			one.Want = "expected " + one.Want
		}
		renamed[i] = one
	}
	return f.source.locateAll(renamed, "")
}

// namedServer turns servers[0] of the library into the name that it has in the
// file.
func (f *File) namedServer(path string) string {
	rest, ok := strings.CutPrefix(path, "servers[")
	if !ok {
		return path
	}
	digits, rest, _ := strings.Cut(rest, "]")
	i, err := strconv.Atoi(digits)
	if err != nil || i < 0 || i >= len(f.Servers) {
		return path
	}
	return join("servers", f.Servers[i].Name) + rest
}

// closerFunc is a function without an error as an io.Closer.
type closerFunc func()

// Close calls the function.
func (f closerFunc) Close() error {
	f()
	return nil
}
