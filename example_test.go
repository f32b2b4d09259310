package stile_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/stiletest"
)

// The example stands in README.md too; TestREADMEExample compares the two.
func Example() {
	issuer := stiletest.NewIssuer(stiletest.IssuerOptions{URL: "https://idp.example.com"})
	notes := stiletest.NewNotes(stiletest.NotesOptions{})
	defer notes.Close()

	policy, err := authorize.New(authorize.Config{
		Baseline: "notes:read",
		Rules: []authorize.Rule{
			{Tools: []string{"list_notes"}, Scopes: []string{"notes:read"}},
			{Tools: []string{"delete_note"}, Scopes: []string{"notes:write"}},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := authenticate.NewJWT(authenticate.JWTConfig{
		Issuer:    issuer.URL(),
		Audiences: []string{"https://mcp.example.com/mcp"},
		Transport: issuer.Client().Transport, // yours: leave it out
	})
	if err != nil {
		log.Fatal(err)
	}
	gateway, err := stile.New(stile.Config{
		PublicURL: "https://mcp.example.com",
		Servers: []stile.Server{{
			Name: "notes", Path: "/mcp", Upstream: notes, Policy: policy,
			Verifiers: []authenticate.Verifier{tokens},
			Issuers:   []*authenticate.Profile{tokens.Profile()},
		}},
		Audit: os.Stderr,
	})
	if err != nil {
		log.Fatal(err)
	}

	call := httptest.NewRequest("POST", "https://mcp.example.com/mcp", strings.NewReader(
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_note","arguments":{"id":"1"}}}`))
	call.Header.Set("Content-Type", "application/json")
	call.Header.Set("Authorization", "Bearer "+issuer.Token(stiletest.Claims{
		Scope: "notes:read", Audience: []string{"https://mcp.example.com/mcp"}}))
	answer := httptest.NewRecorder()
	gateway.ServeHTTP(answer, call)

	fmt.Println(answer.Code, http.StatusText(answer.Code))
	for field := range strings.SplitSeq(answer.Header().Get("WWW-Authenticate"), ", ") {
		fmt.Println(field)
	}
	// Output:
	// 403 Forbidden
	// Bearer error="insufficient_scope"
	// scope="notes:read notes:write"
	// resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
	// error_description="delete_note needs notes:write. Sign in again and grant it."
}
