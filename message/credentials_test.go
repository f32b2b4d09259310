package message_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/stile-mcp/stile/message"
)

func TestStripCredentials(t *testing.T) {
	gone := []string{
		"Authorization", "authorization", "AUTHORIZATION", "Proxy-Authorization", "Proxy-Authenticate", "Cookie", "DPoP",
		"X-API-Key", "X-Api-Key", "x_api_key", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups",
		"X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token", "X-Forwarded-For", "X-Forwarded-Host", "x_forwarded_user",
		"Forwarded", "X-Real-IP", "X-Auth-Request-User", "X-Auth-Request-Access-Token", "X-Auth-Token", "Remote-User", "Remote_User",
		"REMOTE-GROUPS", "X-Remote-User", "X-Remote-Extra-Scopes", "X-User", "X-User-Id", "X-Email", "X-Groups",
		"X-WebAuth-User", "X-Goog-IAP-JWT-Assertion", "X-Goog-Authenticated-User-Email", "X-Amzn-Oidc-Data",
		"X-MS-Client-Principal", "X-MS-Client-Principal-Name", "Cf-Access-Jwt-Assertion", "Impersonate-User", "Client-Cert",
		"X-SSL-Client-DN", "Tailscale-User-Login", "X-Authenticated-UserId", "X-Consumer-Username",
	}
	stay := []string{
		"Content-Type", "Accept", "Mcp-Method", "Mcp-Name", "Mcp-Protocol-Version", "Mcp-Session-Id", "Mcp-Param-X-User",
		"Last-Event-Id", "User-Agent", "X-User-Agent", "X-Request-Id", "Traceparent", "Forwarded-For-You", "X-Forwarded",
		"Authorization-Hint", "Cookies", "Proxy", "X-Authority",
	}
	h := http.Header{}
	for _, name := range slices.Concat(gone, stay) {
		h[name] = []string{"secret", "again"}
	}
	message.StripCredentials(h)
	for _, name := range gone {
		if _, ok := h[name]; ok {
			t.Errorf("%s was left", name)
		}
	}
	for _, name := range stay {
		if len(h[name]) != 2 {
			t.Errorf("%s was taken", name)
		}
	}
	message.StripCredentials(nil)
}

// TestCredentialHeaders checks that the list is what is stripped, and nobody
// else's to change.
func TestCredentialHeaders(t *testing.T) {
	list := message.CredentialHeaders()
	if !slices.Contains(list, "Authorization") || !slices.Contains(list, "X-Forwarded-") {
		t.Fatalf("got %v", list)
	}
	for _, name := range list {
		if name[len(name)-1] == '-' {
			name += "Anything"
		}
		h := http.Header{}
		h.Set(name, "x")
		message.StripCredentials(h)
		if len(h) != 0 {
			t.Errorf("%s is listed but was left", name)
		}
	}
	clear(list)
	h := headers("Authorization", "Bearer x")
	message.StripCredentials(h)
	if len(h) != 0 {
		t.Error("the caller's copy of the list is the list itself")
	}
}
