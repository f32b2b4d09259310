package stepup_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stile-mcp/stile/stepup"
)

// A server that names another issuer than before does not get there what a person or a
// platform has given for the first: a secret that was registered with it, or an
// assertion that it would take (REQ-58).
func TestCredentialsStayWithTheirIssuer(t *testing.T) {
	grant := &stepup.JWTBearer{Assertion: func(context.Context) (string, error) { return "secret-assertion", nil }}
	for name, config := range map[string]stepup.Config{
		"a client with a secret":       {Client: stepup.Client{ID: "mine", Secret: "secret-client"}},
		"a program with a secret":      {Grant: &stepup.ClientCredentials{}, Client: stepup.Client{ID: "mine", Secret: "secret-client"}},
		"an assertion":                 {Grant: grant},
		"an assertion with a client":   {Grant: grant, Client: stepup.Client{ID: "mine"}},
		"an assertion for this issuer": {Grant: grant, Client: stepup.Client{Issuer: "the first"}},
	} {
		t.Run(name, func(t *testing.T) {
			g, other := newRogue(t), newRogue(t)
			if config.Client.Issuer != "" {
				config.Client.Issuer = g.URL
			}
			config.Store = stepup.NewMemory()
			if resp, err := g.call(g.transport(config), "one"); err != nil || resp.StatusCode != 200 {
				t.Fatal(resp, err)
			}
			g.parts["/mcp"] = func(w http.ResponseWriter, _ *http.Request) { g.challenge(w, 401, "Bearer "+g.told()) }
			g.resource["authorization_servers"] = []string{other.URL}
			_, err := g.call(g.transport(config), "one")
			wantError(t, err, other.URL+" issues the tokens")
			want(t, "tokens that the other one was asked for", other.count("/token"), 0)
			want(t, "windows at the other one", other.count("/authorize"), 0)
			if config.Client.Issuer != "" {
				return
			}
			// Who logs out says that it is to be another one.
			if err := stepup.Logout(t.Context(), config.Store, g.URL+"/mcp"); err != nil {
				t.Fatal(err)
			}
			_, _ = g.call(g.transport(config), "one")
			want(t, "tokens after the logout", other.count("/token") > 0, true)
		})
	}
}

// Why an issuer registers nobody is told as it says it.
func TestRegistrationThatIsRefused(t *testing.T) {
	g := newRogue(t)
	g.parts["/register"] = func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, 400, map[string]any{"error": "invalid_redirect_uri", "error_description": "no \u009bloopback here"})
	}
	_, err := g.call(g.transport(stepup.Config{}), "one")
	wantError(t, err, "status 400 invalid_redirect_uri no loopback here")
	for _, body := range []string{"null", "[]", `"x"`, "{}", `{"client_id":null}`, `{"client_id":1}`, `{"client_id":"a","client_secret_expires_at":1e400}`, ""} {
		g.parts["/register"] = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(201)
			_, _ = w.Write([]byte(body))
		}
		_, err := g.call(g.transport(stepup.Config{}), "one")
		wantError(t, err, "registration at "+g.URL)
	}
}
