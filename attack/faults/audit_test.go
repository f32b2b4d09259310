//go:build linux

package faults_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stile-mcp/stile"
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

// fillingDisk takes some bytes and then has no room until it is emptied, as a
// disk does: the line that meets its end is written in part.
type fillingDisk struct {
	lockedBuffer
	room atomic.Int64
}

func (d *fillingDisk) Write(p []byte) (int, error) {
	n := int(min(d.room.Load(), int64(len(p))))
	d.room.Add(int64(-n))
	_, _ = d.lockedBuffer.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// TestAuditDiskFillsAndIsEmptied: the line that broke off belongs to a call that
// was refused, and every later line can be read.
func TestAuditDiskFillsAndIsEmptied(t *testing.T) {
	nothingLeft(t)
	disk, upstream := &fillingDisk{}, &counted{}
	g := newGateway(t, setup{upstream: upstream, change: func(c *stile.Config) { c.Audit = disk }})
	call := func() answer { return g.call(t, g.issuer.token(stiletest.Claims{})) }
	disk.room.Store(1 << 20)
	call().wantResult(t)
	disk.room.Store(100)
	for range 3 {
		call().wantRefusal(t, http.StatusInternalServerError)
	}
	disk.room.Store(1 << 20)
	call().wantResult(t)
	whole, broken := 0, 0
	for line := range strings.Lines(disk.String()) {
		if json.Valid([]byte(line)) {
			whole++
		} else {
			broken++
		}
	}
	if calls := int(upstream.calls.Load()); whole != 2 || broken != 1 || calls != 2 {
		t.Errorf("%d whole lines and %d broken ones for %d calls, want 2, 1 and 2:\n%s", whole, broken, calls, disk.String())
	}
}
