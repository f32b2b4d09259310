package main

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/stile-mcp/stile/internal/fetch"
	"github.com/stile-mcp/stile/internal/problem"
)

// check finds what is wrong with a file beyond the shape of its values.
func (f *File) check() problem.List {
	var list problem.List
	f.checkListen(&list)
	checkPublicURL(&list, f.PublicURL)
	seen := map[string]bool{}
	for i, issuer := range f.Issuers {
		at := index("issuers", i)
		checkIssuer(&list, at, issuer)
		if seen[issuer.Issuer] && issuer.Issuer != "" {
			list.Add(at+".issuer", issuer.Issuer, "the issuer was given before: expected each once")
		}
		seen[issuer.Issuer] = true
	}
	f.checkAuthServer(&list)
	f.checkLogin(&list)
	f.checkAPIKeys(&list)
	f.checkServers(&list)
	for i, origin := range f.AllowedOrigins {
		if !isOrigin(origin) {
			list.Add(index("allowed_origins", i), origin, `expected "scheme://host" with an optional port and nothing after it`)
		}
	}
	f.checkWeb(&list)
	for i, host := range f.AllowedHosts {
		if !isHostName(host) {
			list.Add(index("allowed_hosts", i), host, "expected a host name without a port")
		}
	}
	for i, key := range f.SessionKeys {
		if len(key) < minSessionKey {
			list.Add(index("session_keys", i), "", fmt.Sprintf("expected at least %d bytes", minSessionKey))
		}
	}
	if f.RootMetadata && len(f.Servers) > 1 {
		list.Add("root_metadata", "true", "expected only with a single server")
	}
	return list
}

// minSessionKey is the shortest secret for session ids, in bytes.
const minSessionKey = 32

// checkListen looks at the address, and at who can come in by it.
func (f *File) checkListen(list *problem.List) {
	host, port, err := net.SplitHostPort(f.Listen)
	number, perr := strconv.Atoi(port)
	if err != nil || perr != nil || number < 0 || number > 65535 || (host != "" && !isHostName(host)) {
		list.Add("listen", f.Listen, `expected "host:port", such as 127.0.0.1:8080`)
		return
	}
	if !fetch.IsLoopback(host) && !f.hasCallers() && !f.OpenToEveryone {
		list.Add("listen", f.Listen, "expected a loopback address, because there are neither issuers nor api_keys: anyone could call")
	}
	if (host == "" || isUnspecified(host)) && f.PublicURL == f.scheme()+f.Listen {
		list.Add("listen", f.Listen, "expected with public_url, because clients cannot use this address as it is")
	}
}

// checkPublicURL looks at the URL that every endpoint's own is made of.
func checkPublicURL(list *problem.List, text string) {
	if !isOrigin(text) {
		list.Add("public_url", text, `expected "https://host" with an optional port, without path, query or trailing slash`)
	}
}

// checkAPIKeys looks at the keys, never telling what stands in sha256: it may be
// the key itself.
func (f *File) checkAPIKeys(list *problem.List) {
	names, hashes := map[string]bool{}, map[string]bool{}
	for i, key := range f.APIKeys {
		at := index("api_keys", i)
		switch {
		case key.Name == "":
			list.Add(at+".name", "", "a key needs a name")
		case names[key.Name]:
			list.Add(at+".name", key.Name, "the name was given before: expected each once")
		}
		hash := strings.ToLower(key.SHA256)
		switch {
		case !isHex256(hash):
			list.Add(at+".sha256", "", "expected the SHA-256 of the key, 64 hex digits")
		case hashes[hash]:
			list.Add(at+".sha256", "", "the key was given before: expected each once")
		}
		if bad := badScope(key.Scopes); bad != "" {
			list.Add(at+".scopes", bad, wantScope)
		}
		names[key.Name], hashes[hash] = true, true
	}
}

// checkServers looks at the servers alone and beside each other.
func (f *File) checkServers(list *problem.List) {
	if len(f.Servers) == 0 {
		list.Add("servers", "", "expected at least one server")
	}
	paths := map[string]string{}
	for _, server := range f.Servers {
		at := join("servers", server.Name)
		if !isServerName(server.Name) {
			list.Add(at, server.Name, `expected a name of letters, digits, ".", "_" and "-"`)
		}
		server.Value.check(list, at)
		if other, ok := paths[server.Value.Path]; ok && server.Value.Path != "" {
			list.Add(at+".path", server.Value.Path, "the path is that of "+other+" already: expected one of its own")
		}
		paths[server.Value.Path] = server.Name
	}
}

// check looks at one server.
func (s *Server) check(list *problem.List, at string) {
	checkPath(list, at+".path", s.Path)
	switch {
	case s.URL != "" && s.Command != nil:
		list.Add(at+".command", "", "expected either url or command, not both")
	case s.URL != "":
		checkUpstream(list, at+".url", s.URL)
	case s.Command != nil:
		checkProgram(list, at, s)
	default:
		list.Add(at+".url", "", "expected one of url and command")
	}
	if s.Command == nil {
		s.checkOnlyWithCommand(list, at)
	} else if s.Headers != nil {
		list.Add(at+".headers", "", "expected only with url: a command gets its credentials by env")
	}
	if s.Advertise != advertiseBaseline && s.Advertise != advertiseBroad {
		list.Add(at+".advertise", s.Advertise, "expected baseline or broad")
	}
	if !slices.Contains(isolations, s.Isolation) {
		list.Add(at+".isolation", s.Isolation, "expected session, caller or shared")
	}
	if !slices.Contains(protocols, s.Protocol) {
		list.Add(at+".protocol", s.Protocol, "expected auto, 2025 or 2026")
	}
	spelt := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		checkHeader(list, join(at+".headers", name), name, s.Headers[name])
		if lower := strings.ToLower(name); spelt[lower] {
			list.Add(join(at+".headers", name), name, "expected each header field once: it was given in another spelling already")
		}
		spelt[strings.ToLower(name)] = true
	}
	s.checkTransport(list, at)
	switch {
	case s.Policy != nil && s.PolicyFile != "":
		list.Add(at+".policy_file", s.PolicyFile, "expected either policy or policy_file, not both")
	case s.Policy == nil && s.PolicyFile == "":
		list.Add(at+".policy", "", "expected one of policy and policy_file")
	}
}

// checkOnlyWithCommand looks for keys that say how a command is run.
func (s *Server) checkOnlyWithCommand(list *problem.List, at string) {
	const want = "expected only with command"
	for _, key := range []struct {
		name  string
		given bool
	}{
		{"env", s.Env != nil}, {"dir", s.Dir != ""},
	} {
		if key.given {
			list.Add(at+"."+key.name, "", want)
		}
	}
	if s.Transport != defaultTransport {
		return // connections of the legacy transport are kept like processes
	}
	for _, key := range []struct {
		name  string
		given bool
	}{
		{"start_timeout", s.StartTimeout != 0}, {"idle_timeout", s.IdleTimeout != 0},
		{"max_processes", s.MaxProcesses != 0}, {"max_per_caller", s.MaxPerCaller != 0},
		{"max_sessions", s.MaxSessions != 0},
	} {
		if key.given {
			list.Add(at+"."+key.name, "", want)
		}
	}
	if s.Isolation != defaultIsolation && slices.Contains(isolations, s.Isolation) {
		list.Add(at+".isolation", s.Isolation, want)
	}
}

// checkProgram looks at what is run. Whether the program is there is not for the
// file to say: it may come later, or be on another machine.
func checkProgram(list *problem.List, at string, s *Server) {
	if len(s.Command) == 0 || s.Command[0] == "" {
		list.Add(at+".command", "", "expected a program and its arguments, such as [npx, -y, some-server]")
	}
	for name := range s.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			list.Add(at+".env", name, "expected the name of a variable")
		}
	}
	for _, key := range []struct {
		name  string
		value int
	}{{"max_processes", s.MaxProcesses}, {"max_per_caller", s.MaxPerCaller}, {"max_sessions", s.MaxSessions}} {
		if key.value < 0 {
			list.Add(at+"."+key.name, strconv.Itoa(key.value), "expected a number above zero")
		}
	}
}

var isolations = []string{"session", "caller", "shared"}

var protocols = []string{"auto", "2025", "2026"}

// checkPath looks at the path of an endpoint, which becomes part of the resource
// identifier that clients compare byte for byte (REQ-13, DES-30).
func checkPath(list *problem.List, at, text string) {
	switch {
	case text == "":
		list.Add(at, "", "a server needs a path, such as /mcp")
	case text[0] != '/' || (text != "/" && path.Clean(text) != text) || strings.ContainsFunc(text, notPathRune):
		list.Add(at, text, `expected a path that starts with "/", without "..", "%", query or trailing slash`)
	case text == "/healthz" || text == "/readyz" || text == "/ping" || text == "/.well-known" || strings.HasPrefix(text, "/.well-known/"):
		list.Add(at, text, "expected another path: this one is the gateway's own")
	}
}

func notPathRune(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune(`%?#"<>\^{}|`+"`", r)
}

// checkUpstream looks at the URL of an MCP server.
func checkUpstream(list *problem.List, at, text string) {
	u, err := url.Parse(text)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Hostname() == "":
		list.Add(at, withoutPassword(u), "expected an http or https URL")
	case u.User != nil:
		list.Add(at, u.Redacted(), "expected no user in the URL: give the credential in headers")
	case u.Fragment != "":
		list.Add(at, text, "expected no fragment in the URL")
	}
}

// withoutPassword is a URL as it may be shown.
func withoutPassword(u *url.URL) string {
	if u == nil {
		return ""
	}
	return u.Redacted()
}

// checkHeader looks at a header field for the upstream; its value is not told.
func checkHeader(list *problem.List, at, name, value string) {
	lower := strings.ToLower(name)
	switch {
	case !isFieldName(name):
		list.Add(at, name, "expected the name of a header field")
	case slices.Contains(ownHeaders, lower) || strings.HasPrefix(lower, "mcp-"):
		list.Add(at, name, "expected another header field: this one is set by the protocol")
	case strings.ContainsFunc(value, notFieldRune):
		list.Add(at, "", "expected a value on one line without control characters")
	}
}

// ownHeaders are the fields that the transport or the protocol sets.
var ownHeaders = []string{"accept", "connection", "content-length", "content-type", "expect", "host", "keep-alive",
	"last-event-id", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

// isFieldName reports whether a text is a token of RFC 9110 §5.6.2.
func isFieldName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// notFieldRune reports what no field value may hold (RFC 9110 §5.5).
func notFieldRune(r rune) bool { return (r < ' ' && r != '\t') || r == 0x7f }

func isUnspecified(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsUnspecified()
}

// isOrigin reports whether a text is scheme, host and optional port alone.
func isOrigin(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && isHostName(u.Hostname()) &&
		u.Scheme+"://"+u.Host == text && !strings.HasSuffix(u.Host, ":")
}

// isHostName reports whether a text is a DNS name or an IP address.
func isHostName(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	return isMadeOf(text, "-._")
}

func isServerName(name string) bool {
	return isMadeOf(name, "._-")
}

func isHex256(text string) bool {
	return len(text) == 64 && strings.Trim(text, "0123456789abcdef") == ""
}

// isMadeOf reports whether a text has only ASCII letters, digits and some other
// characters, and at least one of them.
func isMadeOf(text, others string) bool {
	for _, c := range text {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.ContainsRune(others, c):
		default:
			return false
		}
	}
	return text != ""
}
