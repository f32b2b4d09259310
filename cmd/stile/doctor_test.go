package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/doctor/provider"
	"github.com/stile-mcp/stile/stiletest"
)

// The exit code of doctor says how bad it is, whatever form the report has.
func TestDoctorExitCodes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(w http.ResponseWriter, r *http.Request) bool
		args  []string
		want  int
		says  string
	}{
		{"well", nil, nil, exitOK, "0 errors, 0 warnings, 2 notes."},
		{"no GET", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet || r.URL.Path != "/mcp" {
				return false
			}
			http.Error(w, "no", http.StatusMethodNotAllowed)
			return true
		}, []string{"--json"}, exitWarnings, `"id": "probe-GET"`},
		{"open", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
			return true
		}, []string{"--md"}, exitErrors, "| error | answers without a token (`open`)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			url := doctored(t, tc.spoil)
			var out, errs bytes.Buffer
			code := run(t.Context(), append([]string{"doctor", url}, tc.args...), strings.NewReader(""), &out, &errs)
			if code != tc.want || !strings.Contains(out.String(), tc.says) {
				t.Errorf("ends with %d, want %d and %q\n%s%s", code, tc.want, tc.says, &out, &errs)
			}
			if slices.Contains(tc.args, "--json") && !json.Valid(out.Bytes()) {
				t.Error("no JSON")
			}
		})
	}
}

// doctored is a gateway that may be spoiled.
func doctored(t *testing.T, spoil func(http.ResponseWriter, *http.Request) bool) string {
	t.Helper()
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{})
	notes := stiletest.NewNotes(stiletest.NotesOptions{})
	t.Cleanup(func() { _ = notes.Close() })
	var gateway http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if spoil == nil || !spoil(w, r) {
			gateway.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	policy, err := authorize.New(authorize.Config{Baseline: "notes:read"})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: issuer.URL(), Audiences: []string{server.URL + "/mcp"}})
	if err != nil {
		t.Fatal(err)
	}
	gateway, err = stile.New(stile.Config{PublicURL: server.URL, AllowedOrigins: []string{"https://inspector.example.com"}, Audit: io.Discard,
		Servers: []stile.Server{{Name: "notes", Path: "/mcp", Upstream: notes, Policy: policy,
			Verifiers: []authenticate.Verifier{tokens}, Issuers: []*authenticate.Profile{tokens.Profile()}}}})
	if err != nil {
		t.Fatal(err)
	}
	return server.URL + "/mcp"
}

// What --login cannot be with is told before anybody is asked to log in.
func TestDoctorLoginUsage(t *testing.T) {
	for args, want := range map[string]string{
		"--login --client-id a --client-metadata-url https://x.example/c": "a client of its own",
		"--scope x":                               "expected with --login",
		"--login --client-secret-file x":          "expected with --client-id",
		"--login --callback-port 99999":           "1 to 65535",
		"--login --timeout 0s":                    "above zero",
		"--login --client-id a --call x --args 1": "a JSON object",
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"doctor", "https://mcp.example.com/mcp"}, strings.Fields(args)...), strings.NewReader(""), &out, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: %s", args, fmt.Sprint(code, errs.String()))
		}
	}
}

// Each provider's lines make a configuration that loads, once the words in capitals
// are replaced.
func TestProviderLinesLoad(t *testing.T) {
	t.Setenv("LOGIN_SECRET", "secret-of-the-login")
	t.Setenv("INTROSPECTION_SECRET", "secret-of-the-introspection")
	for _, p := range provider.All() {
		for name, lines := range map[string]string{"config": p.Config("https://idp.example.com/acme"), "direct": p.Direct("https://idp.example.com/acme")} {
			if lines == "" {
				continue
			}
			t.Run(p.Name+"/"+name, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "stile.yaml")
				text := "public_url: https://mcp.example.com\n" + lines + `servers:
  notes:
    path: /mcp
    url: http://127.0.0.1:9000/mcp
    policy:
      baseline: notes:read
      rules:
        - tools: ["*"]
          scopes: notes:read
`
				for _, word := range []string{"CLIENT-ID", "GROUP-ID", "GROUP", "APPLICATION-ID", "AUDIENCE", "SERVER", "PROJECT-ID"} {
					text = strings.ReplaceAll(text, word, strings.ToLower(word))
				}
				text = strings.NewReplacer("DOMAIN", "example.com", "ADMIN-HOST", "hydra.example.com").Replace(text)
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				var out, errs bytes.Buffer
				if code := run(t.Context(), []string{"check", "-c", file}, nil, &out, &errs); code != exitOK {
					t.Errorf("stile check ends with %d\n%s%s\n%s", code, &out, &errs, text)
				}
			})
		}
	}
}
