package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func TestReadHeaders(t *testing.T) {
	around := surroundings{lookup: func(name string) (string, bool) {
		return map[string]string{"KEY": "s3cret", "LINES": "a\nb"}[name], name != "NONE"
	}}
	for _, tc := range []struct{ text, want string }{
		{"X-Api-Key=${KEY}", "X-Api-Key: s3cret"},
		{"x-api-key: a ${KEY}=", "X-Api-Key: a s3cret="},
		{"Authorization=Bearer ${KEY}", "Authorization: Bearer s3cret"},
		{"X=$$5", "X: $5"},
		{"X=", "X: "},
		{"=x", ""},
		{"X Y=x", ""},
		{"X", ""},
		{"X=${LINES}", ""},
		{"X=${NONE}", ""},
		{"Host=evil", ""},
		{"mcp-protocol-version=1", ""},
		{"Mcp-Param-Id=1", ""},
		{"DPoP=x", ""},
	} {
		h, err := readHeaders([]string{tc.text}, around)
		got := ""
		for name, values := range h {
			got = name + ": " + values[0]
		}
		if got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("%s: %q, %v; want %q", tc.text, got, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "a\nb") {
			t.Errorf("%s: the error tells the value: %v", tc.text, err)
		}
	}
}

func pemOf(t *testing.T, kind string, der []byte, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestReadSigner(t *testing.T) {
	small, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	odd, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	old, _ := rsa.GenerateKey(rand.Reader, 2048)
	pkcs8 := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return pemOf(t, "PRIVATE KEY", der, err)
	}
	sec1, err := x509.MarshalECPrivateKey(small)
	web, _ := json.Marshal(jose.JSONWebKey{Key: old, KeyID: "k1", Algorithm: "PS256"})
	public, _ := json.Marshal(jose.JSONWebKey{Key: old.Public(), KeyID: "k1"})
	bare, _ := json.Marshal(jose.JSONWebKey{Key: small})
	for name, tc := range map[string]struct{ text, algorithm, id string }{
		"PKCS #8 P-256":   {pkcs8(small), "ES256", ""},
		"PKCS #8 P-384":   {pkcs8(large), "ES384", ""},
		"PKCS #8 Ed25519": {pkcs8(edwards), "EdDSA", ""},
		"PKCS #8 RSA":     {pkcs8(old), "RS256", ""},
		"SEC 1":           {pemOf(t, "EC PRIVATE KEY", sec1, err), "ES256", ""},
		"PKCS #1":         {pemOf(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(old), nil), "RS256", ""},
		"JWK":             {string(web), "PS256", "k1"},
		"JWK without alg": {string(bare), "ES256", ""},
		"a public JWK":    {string(public), "", ""},
		"P-224":           {pkcs8(odd), "", ""},
		"a certificate":   {pemOf(t, "CERTIFICATE", []byte{1, 2}, nil), "", ""},
		"text":            {"hello", "", ""},
		"nothing":         {"", "", ""},
	} {
		g, err := readSigner([]byte(tc.text))
		if err != nil {
			if tc.algorithm != "" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if g.Algorithm != tc.algorithm || g.KeyID != tc.id {
			t.Errorf("%s: %s %s, want %s %s", name, g.Algorithm, g.KeyID, tc.algorithm, tc.id)
		}
	}
}

// idp is an MCP server with an issuer of its own on the same origin, which gives
// every client a token and remembers what it was asked.
type idp struct {
	mu    sync.Mutex
	forms []url.Values
	basic []string
	keys  []string // X-Api-Key of requests to the MCP server
}

func (s *idp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	origin := scheme + r.Host
	answer := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.URL.Path {
	case "/.well-known/oauth-protected-resource/mcp":
		answer(200, map[string]any{"resource": origin + "/mcp", "authorization_servers": []string{origin}, "scopes_supported": []string{"notes:read"}})
	case "/.well-known/oauth-authorization-server":
		answer(200, map[string]any{"issuer": origin, "authorization_endpoint": origin + "/authorize", "token_endpoint": origin + "/token",
			"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "private_key_jwt", "none"}, "code_challenge_methods_supported": []string{"S256"}})
	case "/token":
		_ = r.ParseForm()
		s.forms = append(s.forms, r.PostForm)
		id, secret, _ := r.BasicAuth()
		s.basic = append(s.basic, id+":"+secret)
		if strings.HasSuffix(r.PostFormValue("grant_type"), "token-exchange") {
			answer(200, map[string]any{"access_token": "id-jag", "token_type": "N_A", "issued_token_type": "urn:ietf:params:oauth:token-type:id-jag"})
			return
		}
		answer(200, map[string]any{"access_token": "t0ken", "token_type": "Bearer", "scope": "notes:read", "expires_in": 600})
	case "/mcp":
		s.keys = append(s.keys, r.Header.Get("X-Api-Key"))
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			w.Header().Set("WWW-Authenticate", `Bearer scope="notes:read"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, _ := io.ReadAll(r.Body)
		var m struct {
			ID     any
			Method string
		}
		_ = json.Unmarshal(body, &m)
		if m.Method != "initialize" {
			answer(400, map[string]any{"jsonrpc": "2.0", "id": m.ID, "error": map[string]any{"code": -32601, "message": "no such method"}})
			return
		}
		answer(200, map[string]any{"jsonrpc": "2.0", "id": m.ID, "result": map[string]any{"protocolVersion": "2025-11-25",
			"capabilities": map[string]any{}, "serverInfo": map[string]any{"name": "t", "version": "1"}}})
	default:
		http.NotFound(w, r)
	}
}

// connectOnce runs stile connect --login, which has to end well.
func connectOnce(t *testing.T, args ...string) string {
	t.Helper()
	t.Setenv("STILE_HOME", filepath.Join(t.TempDir(), "home"))
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), append([]string{"connect", "--login", "--storage", "file"}, args...), strings.NewReader(""), &stdout, &stderr); code != exitOK {
		t.Fatalf("stile connect %q: %d\n%s%s", args, code, &stdout, &stderr)
	}
	if strings.Contains(stdout.String()+stderr.String(), "t0ken") {
		t.Errorf("the token is shown:\n%s%s", &stdout, &stderr)
	}
	return stdout.String()
}

func fileWith(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Each way to log in without a person, from the command line to the token endpoint.
func TestConnectWithoutAPerson(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	keyFile, secret, jwt := fileWith(t, pemOf(t, "PRIVATE KEY", der, err)), fileWith(t, "s3cret\n"), fileWith(t, "e30.e30.x\n")
	t.Setenv("STILE_CLIENT_SECRET", "from the environment")
	t.Setenv("NOTES_KEY", "k3y")
	for name, tc := range map[string]struct {
		args  string
		basic string
		forms []string // what each token request has
	}{
		"a secret in a file": {"--grant client_credentials --client-id bot --client-secret-file " + secret, "bot:s3cret",
			[]string{"grant_type=client_credentials&resource=RESOURCE&scope=notes:read"}},
		"a secret of the environment": {"--grant client_credentials --client-id bot --scope tags:read", "bot:from+the+environment",
			[]string{"grant_type=client_credentials&scope=notes:read tags:read"}},
		"a key": {"--grant client_credentials --client-id bot --key-id k1 --key " + keyFile, ":",
			[]string{"grant_type=client_credentials&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}},
		"a workload": {"--issuer ORIGIN --assertion-file " + jwt, ":", []string{"grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=e30.e30.x"}},
		"a company": {"--idp ORIGIN --id-token-file " + jwt + " --idp-client-id desk --idp-client-secret-file " + secret + " --client-id bot --client-secret-file " + secret, "bot:s3cret",
			[]string{"subject_token=e30.e30.x&client_id=desk&client_secret=s3cret&audience=ORIGIN", "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=id-jag"}},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := &idp{}
			server := httptest.NewServer(issuer)
			defer server.Close()
			fill := strings.NewReplacer("ORIGIN", server.URL, "RESOURCE", server.URL+"/mcp").Replace
			said := connectOnce(t, append(strings.Fields(fill(tc.args)), "--header", "X-Api-Key=${NOTES_KEY}", server.URL+"/mcp")...)
			if !strings.Contains(said, "logged in to "+server.URL+"/mcp") || !strings.Contains(said, "scopes   notes:read") {
				t.Errorf("said %s", said)
			}
			if len(issuer.forms) != len(tc.forms) || issuer.basic[len(issuer.basic)-1] != tc.basic {
				t.Fatalf("token requests %v by %q", issuer.forms, issuer.basic)
			}
			for i, want := range tc.forms {
				for pair := range strings.SplitSeq(fill(want), "&") {
					name, value, _ := strings.Cut(pair, "=")
					if got := issuer.forms[i].Get(name); got != value {
						t.Errorf("token request %d has %s %q, want %q", i, name, got, value)
					}
				}
			}
			if assertion := issuer.forms[0].Get("client_assertion"); strings.Contains(name, "key") && !strings.Contains(decoded(assertion), `"kid":"k1"`) {
				t.Errorf("assertion %q", decoded(assertion))
			}
			for _, k := range issuer.keys {
				if k != "k3y" {
					t.Errorf("a request without its header: %q", k)
				}
			}
		})
	}
}

// A server that names another issuer than the command line does gets nothing of it.
func TestConnectToOneIssuer(t *testing.T) {
	issuer := &idp{}
	server := httptest.NewServer(issuer)
	defer server.Close()
	secret := fileWith(t, "s3cret\n")
	for _, args := range []string{"--grant client_credentials --client-id bot --client-secret-file " + secret, "--assertion-file " + secret, "--no-browser"} {
		t.Setenv("STILE_HOME", filepath.Join(t.TempDir(), "home"))
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append(strings.Fields("connect --login --storage file --issuer https://idp.example.com "+args), server.URL+"/mcp"),
			strings.NewReader(""), &stdout, &stderr)
		if code != exitFailed || !strings.Contains(stderr.String(), "is registered with https://idp.example.com, but "+server.URL+" issues the tokens") {
			t.Errorf("%s: %d %s%s", args, code, &stdout, &stderr)
		}
	}
	if len(issuer.forms) != 0 {
		t.Errorf("token requests %v", issuer.forms)
	}
}

// decoded is the first part of a JWT.
func decoded(jwt string) string {
	head, _, _ := strings.Cut(jwt, ".")
	text, _ := base64.RawURLEncoding.DecodeString(head)
	return string(text)
}

// Through a proxy goes all of it: the server, the metadata, the tokens. The proxy is
// on a private address, and whom it reaches it alone knows.
func TestConnectThroughAProxy(t *testing.T) {
	issuer := &idp{}
	server := httptest.NewTLSServer(issuer)
	defer server.Close()
	var asked sync.Map
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Method+" "+r.Host, true)
		far, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		near, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
		_, _ = io.Copy(near, far)
		_ = near.Close()
	}))
	defer proxy.Close()
	ca := fileWith(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	// The certificate of httptest is for example.com.
	said := connectOnce(t, "--proxy", proxy.URL, "--ca", ca, "--grant", "client_credentials", "--client-id", "bot", "--client-secret-file", fileWith(t, "s"), "https://example.com/mcp")
	if !strings.Contains(said, "logged in to https://example.com/mcp") || len(issuer.forms) != 1 {
		t.Errorf("said %s after %v", said, issuer.forms)
	}
	if _, ok := asked.Load("CONNECT example.com:443"); !ok {
		t.Error("nothing went through the proxy")
	}
}

// What goes wrong ends with 1 and is told in words, without control characters.
func TestConnectFails(t *testing.T) {
	t.Setenv("STILE_HOME", t.TempDir())
	hostile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/mcp" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"resource":"https://other.example/\u001b[31m","authorization_servers":["file:///etc/passwd"]}`)
	}))
	defer hostile.Close()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"connect", "--login", "--storage", "file", "--no-browser", hostile.URL + "/mcp"}, strings.NewReader(""), &stdout, &stderr)
	if code != exitFailed || !strings.Contains(stderr.String(), "stile: ") || !strings.Contains(stderr.String(), "other.example") || strings.Contains(stderr.String(), "\x1b") {
		t.Errorf("%d %s%s", code, &stdout, &stderr)
	}
}

// Nobody has to scroll sideways for the help.
func TestHelpIsNarrow(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	for _, args := range []string{"--help", "connect --help", "serve --help", "doctor --help"} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), strings.NewReader(""), &stdout, &stderr); code != exitOK {
			t.Errorf("%s: %d", args, code)
		}
		for line := range strings.Lines(stdout.String()) {
			if len(strings.TrimRight(line, "\n")) > 80 {
				t.Errorf("%s: %s", args, line)
			}
		}
	}
}
