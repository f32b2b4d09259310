package stepup_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/stepup"
)

// Documents of no kind, in every place that one is read: the login fails in words, or
// does without.
func TestDocumentsOfNoKind(t *testing.T) {
	for _, path := range []string{"/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server", "/register", "/token"} {
		for _, body := range []string{"null", "[]", `"x"`, "1e999", "", "{}", "{", strings.Repeat("[", 20_000), strings.Repeat(`{"a":`, 20_000),
			`{"issuer":null,"authorization_servers":null,"client_id":null,"access_token":null}`,
			`{"issuer":[],"authorization_servers":[null,{}],"client_id":{},"access_token":[],"scopes_supported":[1]}`,
			`{"resource":null,"scopes_supported":[null],"jwks":null,"expires_in":null,"scope":null,"token_type":null}`} {
			t.Run(fmt.Sprintf("%s %.20s", path, body), func(t *testing.T) {
				g := newRogue(t)
				g.parts[path] = func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					_, _ = w.Write([]byte(body))
				}
				if resp, err := g.call(g.transport(stepup.Config{}), "one"); err == nil && resp.StatusCode != 200 && stepup.Explanation(resp) == nil {
					t.Errorf("%v and nothing else", resp.Status)
				}
			})
		}
	}
}
