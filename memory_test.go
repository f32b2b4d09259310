package stile_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile"
)

// remembers plays calls of delete_note at their seconds and tells what came of
// each: 403, 200 for the call itself, or "told" for the explanation (DES-28).
func remembers(t *testing.T, calls string, change ...func(*stile.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		g := clock(t, answerTool, change...)
		for call := range strings.SplitSeq(calls, ";") {
			var second int
			var token, args, want string
			if _, err := fmt.Sscan(call, &second, &token, &args, &want); err != nil {
				t.Fatalf("%q: %v", call, err)
			}
			time.Sleep(time.Until(begin.Add(time.Duration(second) * time.Second)))
			args = map[string]string{"-": `{}`, "permanent": `{"permanent":true}`}[args]
			w := do(t, g, tool(era2026, token, "delete_note", args))
			got := fmt.Sprint(w.Code)
			if w.Code == http.StatusOK && strings.Contains(w.Body.String(), "which was asked for but not granted") {
				got = "told"
			}
			if got != want {
				t.Errorf("at %s: got %s: %s", strings.TrimSpace(call), got, w.Body)
			}
		}
	})
}

func TestRefusalsAreRemembered(t *testing.T) {
	long := func(c *stile.Config) { c.RefusalWindow = time.Hour }
	never := func(c *stile.Config) { c.RefusalWindow = -1 }
	for _, tc := range []struct {
		name   string
		calls  string // second, token, arguments, what comes of it
		change []func(*stile.Config)
	}{
		{"same token", "0 r.0.0 - 403; 1 r.0.0 - 403; 100 r.0.0 - 403", nil},
		{"newer token", "0 r.0.0 - 403; 5 r.0.5 - told; 6 r.0.5 - told", nil},
		{"window ends a minute after the first was told", "0 r.0.0 - 403; 30 r.0.30 - told; 89 r.0.30 - told; 90 r.0.30 - 403", nil},
		{"and begins anew", "0 r.0.0 - 403; 30 r.0.30 - told; 90 r.0.30 - 403; 95 r.0.30 - 403; 100 r.0.100 - told; 159 r.0.120 - told; 160 r.0.120 - 403", nil},
		{"an hour by choice", "0 r.0.0 - 403; 5 r.0.5 - told; 3604 r.0.9 - told; 3605 r.0.9 - 403", []func(*stile.Config){long}},
		{"forgotten after a quarter of an hour", "0 r.0.0 - 403; 899 r.0.899 - told", nil},
		{"and then anew", "0 r.0.0 - 403; 900 r.0.900 - 403; 910 r.0.910 - told", nil},
		{"never by choice", "0 r.0.0 - 403; 5 r.0.5 - 403; 6 r.0.6 - 403", []func(*stile.Config){never}},
		{"token of the same second", "0 r.0.0 - 403; 1 r.0.0.x - 403", nil},
		{"no iat", "0 r.0.n - 403; 5 r.1000.n - 403; 6 r.2000.n - 403", nil},
		{"newer without iat", "0 r.0.0 - 403; 5 r.0.n - 403", nil},
		{"second device", "10 r.0.9 - 403; 11 r.0.1 - 403; 12 r.0.1 - 403", nil},
		{"second device during the window", "10 r.0.9 - 403; 12 r.0.12 - told; 13 r.0.1 - 403; 14 r.0.12 - told", nil},
		{"another client", "0 r.0.0 - 403; 5 r.0.5.x - 403; 6 r.0.6 - told; 7 r.0.7.x - told", nil},
		{"more is missing", "0 r.0.0 - 403; 5 r.0.5 permanent 403; 6 r.0.6 permanent told", nil},
		{"less is missing", "0 r.0.0 permanent 403; 5 rw.0.5 permanent 403; 6 rw.0.6 permanent told", nil},
		{"granted", "0 r.0.0 - 403; 5 rw.0.5 - 200; 6 r.0.6 - 403", nil},
		{"allowed with other arguments is no end", "0 rw.0.0 permanent 403; 1 rw.0.0 - 200; 5 rw.0.5 - 200; 6 rw.0.5 permanent told", nil},
	} {
		t.Run(tc.name, func(t *testing.T) { remembers(t, tc.calls, tc.change...) })
	}
}

// A refusal of another operation, subject or endpoint is another one.
func TestRefusalsAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := clock(t, answerTool, func(c *stile.Config) {
			other := c.Servers[0]
			other.Name, other.Path = "other", "/other"
			c.Servers = append(c.Servers, other)
		})
		first := func(a ask) {
			t.Helper()
			a.token = "r.0.0"
			if w := do(t, g, a); w.Code != http.StatusForbidden {
				t.Errorf("%s: %d %s", a.body, w.Code, w.Body)
			}
			time.Sleep(time.Second)
		}
		elsewhere := tool(era2026, "", "delete_note", `{}`)
		elsewhere.path = "/other"
		all := []ask{
			tool(era2026, "", "delete_note", `{}`), tool(era2026, "", "create_note", `{}`), elsewhere,
			rpc(era2026, "", "prompts/get", `"name":"summarise"`).named(era2026, "summarise"),
			rpc(era2026, "", "resources/read", `"uri":"note://1"`).named(era2026, "note://1"),
			rpc(era2026, "", "resources/read", `"uri":"note://2"`).named(era2026, "note://2"),
		}
		for _, a := range all {
			first(a)
		}
		for _, a := range all {
			a.token = "r.0.50"
			w := do(t, g, a)
			if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "asked for but not granted") {
				t.Errorf("%s: %d %s", a.body, w.Code, w.Body)
			}
		}
	})
}

// The memory is bounded: whoever makes up operations without end drives out what
// is old and grows nothing.
func TestRefusalMemoryForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := clock(t, answerTool, func(c *stile.Config) { c.RefusalWindow = time.Hour })
		refuse := func(uri string, token string) int {
			return do(t, g, rpc(era2025, token, "resources/read", `"uri":"`+uri+`"`)).Code
		}
		refuse("note://first", "r.0.0")
		for n := range 20_001 {
			refuse(fmt.Sprintf("note://%d", n), "r.0.0")
		}
		time.Sleep(5 * time.Second)
		if got := refuse("note://first", "r.0.5"); got != http.StatusForbidden {
			t.Errorf("the oldest refusal is remembered: %d", got)
		}
		if got := refuse("note://20000", "r.0.5"); got != http.StatusOK {
			t.Errorf("the newest refusal is forgotten: %d", got)
		}
	})
}

// Many callers at once, under the race detector.
func TestRefusalMemoryIsSafe(t *testing.T) {
	g := clock(t, answerTool)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 50 {
				scopes := "r"
				if i%5 == 4 {
					scopes = "rw"
				}
				do(t, g, tool(era2025, fmt.Sprintf("%s.0.%d.%d", scopes, i, n%2), "delete_note", `{}`))
			}
		})
	}
	wg.Wait()
}

// A step-up is one line in the audit: what was held before stands in the record of
// the call that is allowed at last (DES-46), and of that one only.
func TestElevationIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var audit bytes.Buffer
		g := clock(t, answerTool, func(c *stile.Config) { c.Audit = &audit })
		for _, call := range []struct{ token, args string }{
			{"rw.0.0", `{"permanent":true}`}, // refused
			{"rw.0.0", `{}`},                 // other arguments, same token
			{"rw.0.1", `{}`},                 // a newer token that has no more
			{"rwa.0.2", `{"permanent":true}`},
			{"rwa.0.2", `{"permanent":true}`},
		} {
			do(t, g, tool(era2025, call.token, "delete_note", call.args))
			time.Sleep(time.Second)
		}
		var got []string
		for _, r := range parseRecords(t, audit.Bytes()) {
			got = append(got, fmt.Sprint(r["outcome"], " ", r["elevated_from"]))
		}
		want := "challenge <nil>, allow <nil>, allow <nil>, allow notes:read notes:write, allow <nil>"
		if strings.Join(got, ", ") != want {
			t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
		}
	})
}
