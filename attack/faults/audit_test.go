//go:build linux

package faults_test

import (
	"net/http"
	"testing"

	"github.com/stile-mcp/stile/stiletest"
)

// TestAuditDiskFull: no record, no call. Nobody is let in, nobody is told
// anything but that it is our fault, and nothing reaches the upstream.
func TestAuditDiskFull(t *testing.T) {
	nothingLeft(t)
	upstream := &counted{}
	p := start(t, serving{upstream: upstream, audit: "/dev/full", policy: "rules:\n  - tools: [list_notes]\n    scopes: notes:read\n  - tools: [ping]\n    anonymous: true\n"})
	for name, token := range map[string]string{
		"good token": p.issuer.token(stiletest.Claims{}), "too few scopes": p.issuer.token(stiletest.Claims{Scope: "other"}), "bad token": "nonsense",
	} {
		for _, tool := range []string{"list_notes", "ping", "hidden"} {
			a, err := p.call(t, token, tool)
			if err != nil {
				t.Fatal(err)
			}
			a.wantRefusal(t, http.StatusInternalServerError)
			if c := a.header.Values("WWW-Authenticate"); len(c) > 0 {
				t.Errorf("%s, %s: the challenge %q", name, tool, c)
			}
		}
	}
	if n := upstream.calls.Load(); n != 0 {
		t.Errorf("%d calls without a record reached the upstream", n)
	}
	res, err := p.client.Get("http://" + p.address + "/healthz")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("healthz: %v %v", res, err)
	}
	_ = res.Body.Close()
}
