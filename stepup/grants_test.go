package stepup_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/stile-mcp/stile/stepup"
)

// counter is a protected server and its authorization server in one, for grants that
// stiletest's issuer does not have.
type counter struct {
	*httptest.Server
	t        *testing.T
	metadata map[string]any // what the authorization server says besides
	forms    []url.Values
	tokens   func(w http.ResponseWriter, r *http.Request)
	open     func(w http.ResponseWriter, r *http.Request) bool // of the resource
}

func newCounter(t *testing.T, metadata map[string]any) *counter {
	t.Helper()
	c := &counter{t: t, metadata: maps.Clone(metadata)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/oauth-protected-resource/mcp":
			answerJSON(w, 200, map[string]any{"resource": c.URL + "/mcp", "authorization_servers": []string{c.URL}, "scopes_supported": []string{"a"}})
		case "/.well-known/oauth-authorization-server":
			m := map[string]any{"issuer": c.URL, "token_endpoint": c.URL + "/token", "authorization_endpoint": c.URL + "/authorize",
				"code_challenge_methods_supported": []string{"S256"}}
			for name, value := range c.metadata {
				m[name] = value
			}
			answerJSON(w, 200, m)
		case "/register":
			answerJSON(w, 201, map[string]any{"client_id": "registered", "token_endpoint_auth_method": "none"})
		case "/token", "/exchange":
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			c.forms = append(c.forms, r.PostForm)
			c.tokens(w, r)
		case "/mcp":
			if r.URL.RawQuery != "" || r.Header.Get("Cookie") != "" {
				t.Errorf("more than the header: %s %s", r.URL, r.Header.Get("Cookie"))
			}
			if !c.open(w, r) {
				w.Header().Add("WWW-Authenticate", `Bearer resource_metadata="`+c.URL+`/.well-known/oauth-protected-resource/mcp"`)
				w.WriteHeader(http.StatusUnauthorized)
			}
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(c.Close)
	c.open = func(w http.ResponseWriter, r *http.Request) bool {
		ok := r.Header.Get("Authorization") == "Bearer good"
		if ok {
			_, _ = io.WriteString(w, "in")
		}
		return ok
	}
	c.tokens = func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, 200, map[string]any{"access_token": "good", "token_type": "Bearer"})
	}
	return c
}

func answerJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

// get sends one request with a configuration.
func (c *counter) get(config stepup.Config) (int, error) {
	c.t.Helper()
	config.Base = &http.Transport{DisableKeepAlives: true}
	tr, err := stepup.New(config)
	if err != nil {
		c.t.Fatal(err)
	}
	r, _ := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.URL+"/mcp", nil)
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

func TestSignedClientAssertion(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := newCounter(t, nil)
	status, err := c.get(stepup.Config{Client: stepup.Client{ID: "ci"}, Grant: &stepup.ClientCredentials{Key: key, Algorithm: "ES256", KeyID: "k1"}})
	if err != nil || status != 200 {
		t.Fatal(status, err)
	}
	form := c.forms[0]
	signed, err := jose.ParseSignedCompact(form.Get("client_assertion"), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	body, err := signed.Verify(&key.PublicKey)
	var claims map[string]any
	if err != nil || json.Unmarshal(body, &claims) != nil || claims["iss"] != "ci" || claims["sub"] != "ci" || claims["aud"] != c.URL || claims["jti"] == "" {
		t.Errorf("%s %v", body, err)
	}
	want(t, "kid", signed.Signatures[0].Header.KeyID, "k1")
	want(t, "form", []string{form.Get("grant_type"), form.Get("resource"), form.Get("scope")}, []string{"client_credentials", c.URL + "/mcp", "a"})
	if form.Has("client_secret") {
		t.Error("sends a secret besides")
	}
}

// A workload's assertion is sent once: what the issuer refuses it refuses again.
func TestAssertionOfAWorkload(t *testing.T) {
	c := newCounter(t, nil)
	grant := &stepup.JWTBearer{Assertion: func(context.Context) (string, error) { return "from-the-platform", nil }}
	if status, err := c.get(stepup.Config{Grant: grant}); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	want(t, "form", []string{c.forms[0].Get("grant_type"), c.forms[0].Get("assertion")}, []string{"urn:ietf:params:oauth:grant-type:jwt-bearer", "from-the-platform"})
	c.forms = nil
	c.tokens = func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, 400, map[string]any{"error": "invalid_grant"})
	}
	_, err := c.get(stepup.Config{Grant: grant})
	var refused *stepup.TokenError
	if !errors.As(err, &refused) || refused.Code != "invalid_grant" || len(c.forms) != 1 {
		t.Errorf("%v after %d requests", err, len(c.forms))
	}
	grant.Assertion = func(context.Context) (string, error) { return "", errors.New("no platform") }
	if _, err := c.get(stepup.Config{Grant: grant}); err == nil || !strings.Contains(err.Error(), "no platform") {
		t.Errorf("%v", err)
	}
}

func TestEnterpriseManagedAuthorization(t *testing.T) {
	c := newCounter(t, nil)
	c.tokens = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/exchange" {
			answerJSON(w, 200, map[string]any{"access_token": "id-jag", "token_type": "N_A", "issued_token_type": "urn:ietf:params:oauth:token-type:id-jag"})
			return
		}
		answerJSON(w, 200, map[string]any{"access_token": "good", "token_type": "Bearer"})
	}
	grant := &stepup.EnterpriseManaged{Provider: c.URL, TokenEndpoint: c.URL + "/exchange", Client: stepup.Client{ID: "at-idp"},
		IDToken: func(context.Context) (string, error) { return "alice", nil }}
	status, err := c.get(stepup.Config{Client: stepup.Client{ID: "at-as", Secret: "s"}, Grant: grant})
	if err != nil || status != 200 || len(c.forms) != 2 {
		t.Fatal(status, err, c.forms)
	}
	exchange, bearer := c.forms[0], c.forms[1]
	want(t, "exchange", []string{exchange.Get("subject_token"), exchange.Get("audience"), exchange.Get("resource"), exchange.Get("client_id")},
		[]string{"alice", c.URL, c.URL + "/mcp", "at-idp"})
	want(t, "assertion", bearer.Get("assertion"), "id-jag")
	c.tokens = func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, 200, map[string]any{"access_token": "an access token", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})
	}
	if _, err := c.get(stepup.Config{Client: stepup.Client{ID: "at-as"}, Grant: grant}); err == nil || !strings.Contains(err.Error(), "ID-JAG") {
		t.Errorf("took another kind of token: %v", err)
	}
}

// proof checks a DPoP proof and returns its claims (RFC 9449 §4.3).
func proof(t *testing.T, r *http.Request) map[string]any {
	t.Helper()
	signed, err := jose.ParseSignedCompact(r.Header.Get("DPoP"), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Errorf("%s: %v", r.URL.Path, err)
		return nil
	}
	key := signed.Signatures[0].Header.JSONWebKey
	body, err := signed.Verify(key)
	var claims map[string]any
	if err != nil || json.Unmarshal(body, &claims) != nil || !key.IsPublic() || signed.Signatures[0].Header.ExtraHeaders[jose.HeaderType] != "dpop+jwt" ||
		claims["htm"] != r.Method || claims["htu"] != "http://"+r.Host+r.URL.Path {
		t.Errorf("%s: %s %v", r.URL.Path, body, err)
	}
	return claims
}

// A token that is bound to a key is sent with a proof, and nonces are taken up at
// both servers (RFC 9449 §8, §9). The key outlives the process with the login.
func TestProofOfPossession(t *testing.T) {
	c := newCounter(t, map[string]any{"dpop_signing_alg_values_supported": []string{"ES256"}})
	seen := map[string]bool{}
	c.tokens = func(w http.ResponseWriter, r *http.Request) {
		if proof(t, r)["nonce"] != "as-1" {
			w.Header().Set("DPoP-Nonce", "as-1")
			answerJSON(w, 400, map[string]any{"error": "use_dpop_nonce"})
			return
		}
		w.Header().Set("DPoP-Nonce", "rs-0")
		answerJSON(w, 200, map[string]any{"access_token": "bound", "token_type": "DPoP"})
	}
	c.open = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "" {
			return false
		}
		p := proof(t, r)
		sum := sha256.Sum256([]byte("bound"))
		if jti := fmt.Sprint(p["jti"]); seen[jti] || r.Header.Get("Authorization") != "DPoP bound" || p["ath"] != base64.RawURLEncoding.EncodeToString(sum[:]) {
			t.Errorf("%s %v", r.Header.Get("Authorization"), p)
		} else {
			seen[jti] = true
		}
		if p["nonce"] != "rs-1" {
			w.Header().Set("DPoP-Nonce", "rs-1")
			w.Header().Set("WWW-Authenticate", `DPoP error="use_dpop_nonce"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		_, _ = io.WriteString(w, "in")
		return true
	}
	config := stepup.Config{Client: stepup.Client{ID: "ci", Secret: "s"}, Grant: &stepup.ClientCredentials{}, Store: stepup.NewMemory()}
	for range 2 {
		if status, err := c.get(config); err != nil || status != 200 {
			t.Fatal(status, err)
		}
	}
	want(t, "token requests", len(c.forms), 2) // the nonce's and the good one
}

// shown is a person who is shown the authorization request, and goes away.
type shown struct{ url *url.URL }

var errGone = errors.New("gone")

func (s *shown) Begin(context.Context, string) (stepup.Visit, error) { return s, nil }
func (s *shown) RedirectURI() string                                 { return "http://127.0.0.1:49152/callback" }
func (s *shown) Close() error                                        { return nil }

func (s *shown) Authorize(_ context.Context, r stepup.Request) (url.Values, error) {
	var err error
	s.url, err = url.Parse(r.URL)
	return nil, errors.Join(err, errGone)
}

// REQ-59: a registration made beforehand, then a metadata document where the issuer
// reads those, then dynamic registration.
func TestOrderOfRegistration(t *testing.T) {
	const document = "https://client.example.com/metadata.json"
	for name, c := range map[string]struct {
		config    stepup.Config
		documents bool
		want      string
	}{
		"all three":           {stepup.Config{Client: stepup.Client{ID: "mine"}, ClientMetadataURL: document}, true, "mine"},
		"a document":          {stepup.Config{ClientMetadataURL: document}, true, document},
		"a document not read": {stepup.Config{ClientMetadataURL: document}, false, "registered"},
		"neither":             {stepup.Config{}, true, "registered"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newCounter(t, map[string]any{"client_id_metadata_document_supported": c.documents})
			server.metadata["registration_endpoint"] = server.URL + "/register"
			somebody := &shown{}
			c.config.Person = somebody
			if _, err := server.get(c.config); !errors.Is(err, errGone) {
				t.Fatal(err)
			}
			want(t, "client", somebody.url.Query().Get("client_id"), c.want)
		})
	}
}

// Plain http carries no token, except within this machine.
func TestPlainHTTPGetsNoToken(t *testing.T) {
	var got http.Header
	tr, err := stepup.New(stepup.Config{Person: &person{}, Base: roundTripper(func(r *http.Request) (*http.Response, error) {
		got = r.Header
		return &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{}, Body: http.NoBody}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://mcp.example.com/mcp", nil)
	resp, err := tr.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || got.Get("Authorization") != "" {
		t.Errorf("%v %v %v", resp, err, got)
	}
	if why := stepup.Explanation(resp); why == nil || !strings.Contains(why.Error(), "use an https URL") {
		t.Errorf("the explanation is %v", why)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
