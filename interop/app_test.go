package interop_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stile-mcp/stile/challenge"
)

// app is a program that wants to reach an endpoint for somebody: a public client
// that registers itself and is called back on loopback, as native programs are
// (RFC 8252). It knows the endpoint's address and nothing else.
type app struct {
	t        *testing.T
	endpoint string
	metadata struct {
		Issuer        string   `json:"issuer"`
		Authorization string   `json:"authorization_endpoint"`
		Token         string   `json:"token_endpoint"`
		Registration  string   `json:"registration_endpoint"`
		Methods       []string `json:"code_challenge_methods_supported"`
	}
	callback *httptest.Server
	answers  chan url.Values
	id       string
	state    string
	verifier string
}

// newApp finds the authorization server of an endpoint and registers there.
func newApp(t *testing.T, endpoint, name string) *app {
	t.Helper()
	a := &app{t: t, endpoint: endpoint, answers: make(chan url.Values, 8)}
	a.callback = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback" {
			a.answers <- r.URL.Query()
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!doctype html><title>back</title><h1>Back in "+name+"</h1>")
	}))
	t.Cleanup(a.callback.Close)
	at, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var resource struct {
		Servers []string `json:"authorization_servers"`
	}
	getJSON(t, at.Scheme+"://"+at.Host+"/.well-known/oauth-protected-resource"+at.Path, &resource)
	if len(resource.Servers) != 1 {
		t.Fatalf("authorization servers %v", resource.Servers)
	}
	getJSON(t, resource.Servers[0]+"/.well-known/oauth-authorization-server", &a.metadata)
	if a.metadata.Issuer != resource.Servers[0] || strings.Join(a.metadata.Methods, " ") != "S256" {
		t.Fatalf("metadata %+v", a.metadata)
	}
	var registered struct {
		ID string `json:"client_id"`
	}
	body := fmt.Sprintf(`{"client_name":%q,"redirect_uris":[%q],"token_endpoint_auth_method":"none","application_type":"native",`+
		`"grant_types":["authorization_code","refresh_token"],"response_types":["code"]}`, name, a.redirect())
	a.send(a.metadata.Registration, "application/json", body, &registered)
	a.id = registered.ID
	return a
}

func (a *app) redirect() string { return a.callback.URL + "/callback" }

// authorize returns the address that the program opens a browser at.
func (a *app) authorize(scope string) string {
	a.verifier, a.state = rand.Text()+rand.Text(), rand.Text()
	sum := sha256.Sum256([]byte(a.verifier))
	return a.metadata.Authorization + "?" + url.Values{
		"response_type": {"code"}, "client_id": {a.id}, "redirect_uri": {a.redirect()}, "scope": {scope}, "resource": {a.endpoint},
		"state": {a.state}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode()
}

// answer waits for what the browser brings back, which has to be the answer to the
// last request and from the right issuer (RFC 9207).
func (a *app) answer() url.Values {
	a.t.Helper()
	select {
	case v := <-a.answers:
		if v.Get("state") != a.state || v.Get("iss") != a.metadata.Issuer {
			a.t.Fatalf("the answer is %v", v)
		}
		return v
	case <-time.After(runLimit):
		a.t.Fatal("the browser did not come back")
		return nil
	}
}

// granted is what the token endpoint says.
type granted struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Scope   string `json:"scope"`
}

// redeem exchanges the code of the last answer.
func (a *app) redeem(answer url.Values) granted {
	a.t.Helper()
	if answer.Get("code") == "" {
		a.t.Fatalf("no code came back: %v", answer)
	}
	var g granted
	a.send(a.metadata.Token, "application/x-www-form-urlencoded", url.Values{
		"grant_type": {"authorization_code"}, "code": {answer.Get("code")}, "client_id": {a.id}, "redirect_uri": {a.redirect()},
		"code_verifier": {a.verifier}, "resource": {a.endpoint}}.Encode(), &g)
	return g
}

func (a *app) send(address, mediaType, body string, into any) {
	a.t.Helper()
	response, err := http.Post(address, mediaType, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		a.t.Fatalf("POST %s: %s: %s", address, response.Status, answer)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		a.t.Fatalf("POST %s: %v: %s", address, err, answer)
	}
}

// call calls a tool and returns the status and the scopes of the challenge.
func (a *app) call(token, tool, arguments string) (status int, scope string) {
	a.t.Helper()
	response := post(a.t, a.endpoint, token, policyBody(era2026, "tools/call", fmt.Sprintf(`"name":%q,"arguments":%s`, tool, arguments)))
	challenges, err := challenge.Parse(response.Header.Values("WWW-Authenticate"))
	if err != nil {
		a.t.Fatal(err)
	}
	for _, c := range challenges {
		scope, _ = c.Get("scope")
	}
	return response.StatusCode, scope
}

// stream opens the stream of a session of 2025-11-25 on which a server says what is
// new, and returns what is closed when it ends.
func (a *app) stream(token string) (ended <-chan struct{}) {
	a.t.Helper()
	opened := post(a.t, a.endpoint, token, policyBody(era2025, "initialize",
		`"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"interop","version":"1"}`))
	r, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, a.endpoint, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	for name, value := range map[string]string{"Accept": "text/event-stream", "Authorization": "Bearer " + token,
		"MCP-Protocol-Version": era2025, "Mcp-Session-Id": opened.Header.Get("Mcp-Session-Id")} {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		a.t.Fatalf("the stream of session %q: %s", r.Header.Get("Mcp-Session-Id"), response.Status)
	}
	end := make(chan struct{})
	go func() {
		defer close(end)
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body) // however it ends
	}()
	return end
}
