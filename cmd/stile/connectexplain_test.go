package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A refusal that no login helps against reaches the client with what can be done.
func TestConnectExplainsRefusals(t *testing.T) {
	var origin string
	logins := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := func(v map[string]any) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v)
		}
		switch r.URL.Path {
		case "/.well-known/oauth-protected-resource/mcp":
			answer(map[string]any{"resource": origin + "/mcp", "authorization_servers": []string{origin}})
		case "/.well-known/oauth-authorization-server":
			answer(map[string]any{"issuer": origin, "token_endpoint": origin + "/token"})
		case "/token":
			logins++
			answer(map[string]any{"access_token": "t", "token_type": "Bearer", "scope": "a"})
		default:
			if r.Header.Get("Authorization") == "" {
				w.Header().Set("WWW-Authenticate", `Bearer scope="a"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="b", error_description="ask the captain"`)
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer server.Close()
	origin = server.URL
	t.Setenv("STILE_HOME", t.TempDir())
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"connect", "--storage", "file", "--grant", "client_credentials", "--client-id", "ci", origin + "/mcp?key=s3cret"},
		strings.NewReader(hello), &stdout, &stderr)
	for _, part := range []string{"asked for b and was not given it", "ask the captain", "granted at " + origin, `"id":1`} {
		if !strings.Contains(stdout.String(), part) {
			t.Errorf("the client is not told %q:\n%s", part, &stdout)
		}
	}
	// The client hands it to a model, and its log has it too.
	if said := stdout.String() + stderr.String(); strings.Contains(said, "s3cret") || !strings.Contains(said, "--login "+origin+"/mcp") {
		t.Errorf("the query of the URL is shown, or no URL:\n%s", said)
	}
	if code != exitOK || logins != 2 {
		t.Errorf("%d after %d logins\n%s", code, logins, &stderr)
	}
}
