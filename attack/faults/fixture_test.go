//go:build linux

package faults_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/stiletest"
)

// publicURL is what the gateways in this process call themselves; resource is
// what their tokens are for.
const (
	publicURL = "http://127.0.0.1"
	resource  = publicURL + "/mcp"
)

// policyText allows what the tests call, to whoever has the scope.
const policyText = `
baseline: notes:read
rules:
  - tools: ["*"]
    scopes: notes:read
  - methods: [ping]
    scopes: notes:read
`

// gateway is Stile on loopback, with an issuer and an upstream behind links.
type gateway struct {
	base     string // URL of the listener
	client   *http.Client
	handler  *stile.Gateway
	issuer   *issuer
	upstream *link
	audit    *lockedBuffer
	log      *lockedBuffer
}

// setup is what a test wants different.
type setup struct {
	upstream http.Handler
	direct   bool // no link to the upstream: a link turns a reset into an end
	forward  func(*forward.HTTPConfig)
	change   func(*stile.Config)
}

func newGateway(t *testing.T, s setup) *gateway {
	t.Helper()
	g := &gateway{issuer: newIssuer(t), audit: &lockedBuffer{}, log: &lockedBuffer{}}
	upstream := httptest.NewServer(s.upstream)
	t.Cleanup(func() {
		upstream.CloseClientConnections()
		upstream.Close()
	})
	address := upstream.Listener.Addr().String()
	if !s.direct {
		g.upstream = between(t, address)
		address = g.upstream.address
	}
	config := forward.HTTPConfig{URL: "http://" + address + "/mcp", ResponseHeaderTimeout: 700 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	if s.forward != nil {
		s.forward(&config)
	}
	proxy, err := forward.NewHTTP(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	c := stile.Config{
		PublicURL: publicURL, Audit: g.audit, Log: slog.New(slog.NewTextHandler(g.log, nil)),
		Servers: []stile.Server{{Name: "notes", Path: "/mcp", Upstream: proxy, Policy: compile(t, policyText),
			Verifiers: []authenticate.Verifier{g.issuer.verifier(t)}, Issuers: []*authenticate.Profile{{Issuer: g.issuer.URL()}}}},
	}
	if s.change != nil {
		s.change(&c)
	}
	if g.handler, err = stile.New(c); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(g.handler)
	g.base = server.URL
	g.client = &http.Client{Timeout: 2 * limit, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(func() {
		g.client.CloseIdleConnections()
		g.handler.Stop()
		server.CloseClientConnections()
		server.Close()
		if log := g.log.String() + g.audit.String(); strings.Contains(log, "eyJ") {
			t.Error("a token stands in the log or the audit")
		}
	})
	return g
}

func compile(t testing.TB, text string) *authorize.Policy {
	t.Helper()
	var config authorize.Config
	if err := yaml.UnmarshalWithOptions([]byte(text), &config, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	policy, err := authorize.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

// issuer is a stiletest.Issuer behind a link. Its own server can be restarted.
type issuer struct {
	*stiletest.Issuer
	link    *link
	address string // of the server behind the link
	server  atomic.Pointer[http.Server]
	serial  atomic.Int64

	resource string // what its tokens are for
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{address: listener.Addr().String(), resource: resource}
	i.link = between(t, i.address)
	i.Issuer = stiletest.NewIssuer(stiletest.IssuerOptions{URL: "http://" + i.link.address})
	i.serve(listener)
	t.Cleanup(func() { _ = i.server.Load().Close() })
	return i
}

func (i *issuer) serve(listener net.Listener) {
	server := &http.Server{Handler: i.Issuer, ReadHeaderTimeout: limit}
	i.server.Store(server)
	go func() { _ = server.Serve(listener) }()
}

// stop ends the issuer's process, as far as anybody can see.
func (i *issuer) stop() { _ = i.server.Load().Close() }

// start starts it again at the same address.
func (i *issuer) start(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", i.address)
	if err != nil {
		t.Fatal(err)
	}
	i.serve(listener)
}

func (i *issuer) verifier(t *testing.T) authenticate.Verifier {
	t.Helper()
	keys, err := authenticate.NewKeySet(authenticate.KeySetConfig{Issuer: i.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	jwt, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: i.URL(), Audiences: []string{resource}, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return jwt
}

// token mints a good token that no cache knows yet, changed by c.
func (i *issuer) token(c stiletest.Claims) string {
	if c.Audience == nil {
		c.Audience = []string{i.resource}
	}
	if c.Scope == "" {
		c.Scope = "notes:read"
	}
	if c.Extra == nil {
		c.Extra = map[string]any{}
	}
	c.Extra["jti"] = strconv.FormatInt(i.serial.Add(1), 10)
	return i.Token(c)
}

// answer is an HTTP answer read to its end; cut says why the end never came.
type answer struct {
	status int
	header http.Header
	body   []byte
	cut    error
}

// callBody is a tools/call of 2026-07-28 with the id 7.
func callBody(tool string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"` + tool + `","arguments":{},` +
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
}

// callRequest is the request of such a call.
func callRequest(t testing.TB, base, token, tool string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/mcp", strings.NewReader(callBody(tool)))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range callHeader(token, tool) {
		r.Header.Set(name, value)
	}
	return r
}

func callHeader(token, tool string) map[string]string {
	return map[string]string{
		"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"MCP-Protocol-Version": stiletest.Version2026, "Mcp-Method": "tools/call", "Mcp-Name": tool,
	}
}

// do sends a request and reads the answer as far as it comes. The error is that
// no answer came at all.
func do(client *http.Client, r *http.Request) (answer, error) {
	res, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, header: res.Header}
	a.body, a.cut = io.ReadAll(res.Body)
	return a, nil
}

// call is a tools/call that must be answered in some way.
func (g *gateway) call(t testing.TB, token string) answer {
	t.Helper()
	a, err := do(g.client, callRequest(t, g.base, token, "list_notes"))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// get asks for one of the health probes.
func (g *gateway) get(t testing.TB, path string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := do(g.client, r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// refusal is the error in a JSON-RPC answer.
type refusal struct {
	ID    json.RawMessage `json:"id"`
	Error struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// wantRefusal wants a status and a JSON-RPC error that says the same.
func (a answer) wantRefusal(t testing.TB, status int) {
	t.Helper()
	var e refusal
	if a.status != status || a.cut != nil || json.Unmarshal(a.body, &e) != nil || e.Error.Code != status || e.Error.Message == "" {
		t.Fatalf("got %d %q (%v), want %d with a JSON-RPC error of that code", a.status, a.body, a.cut, status)
	}
}

// wantOutage wants the 503 of keys out of reach: come back, and no challenge,
// which would send people to a login that helps nothing (DES-26).
func (a answer) wantOutage(t testing.TB) {
	t.Helper()
	a.wantRefusal(t, http.StatusServiceUnavailable)
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 60 {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
	if c := a.header.Values("WWW-Authenticate"); len(c) > 0 {
		t.Errorf("an outage is answered with the challenge %q", c)
	}
}

// wantResult wants a whole JSON-RPC result.
func (a answer) wantResult(t testing.TB) {
	t.Helper()
	if !a.isResult() {
		t.Fatalf("got %d %.300q (%v), want a whole result", a.status, a.body, a.cut)
	}
}

func (a answer) isResult() bool {
	var m struct {
		Result json.RawMessage `json:"result"`
	}
	body := a.body
	if strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream") {
		data := append([]string{""}, events(body)...)
		body = []byte(data[len(data)-1])
	}
	return a.status == http.StatusOK && a.cut == nil && json.Unmarshal(body, &m) == nil && len(m.Result) > 0
}

// counted is an upstream that answers every call with the same result.
type counted struct{ calls atomic.Int64 }

const resultText = `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"three notes"}]}}`

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	c.calls.Add(1)
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, resultText)
}

// events are the data of the events of a stream.
func events(body []byte) []string {
	var data []string
	for line := range bytes.Lines(body) {
		if value, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte("data: ")); ok {
			data = append(data, string(value))
		}
	}
	return data
}
