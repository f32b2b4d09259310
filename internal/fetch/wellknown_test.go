package fetch_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/internal/fetch"
)

func TestPlacesOfMetadata(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://idp.example.com": "https://idp.example.com/.well-known/oauth-authorization-server https://idp.example.com/.well-known/openid-configuration",
		"https://idp.example.com/a%2Fb/": "https://idp.example.com/.well-known/oauth-authorization-server/a%2Fb https://idp.example.com/.well-known/openid-configuration/a%2Fb " +
			"https://idp.example.com/a%2Fb/.well-known/openid-configuration https://idp.example.com/a%2Fb/.well-known/oauth-authorization-server",
		"https://idp.example.com/%zz": "",
	} {
		if got := fetch.IssuerMetadata(issuer); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %q", issuer, got)
		}
	}
	for endpoint, want := range map[string]string{
		"https://mcp.example.com":         "",
		"https://mcp.example.com/":        "",
		"https://mcp.example.com/a%20b":   "/a%20b",
		"https://mcp.example.com/mcp?x=1": "/mcp",
	} {
		u, err := url.Parse(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		const base = "https://mcp.example.com/.well-known/oauth-protected-resource"
		if inserted, root := fetch.ResourceMetadata(u); inserted != base+want || root != base {
			t.Errorf("%s: %s %s", endpoint, inserted, root)
		}
	}
}

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{"localhost": true, "LOCALHOST": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true,
		"localhost.example.com": false, "127.0.0.1.example.com": false, "10.0.0.1": false, "::": false, "": false, "::ffff:10.0.0.1": false} {
		if got := fetch.IsLoopback(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}
