package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/doctor/provider"
)

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
