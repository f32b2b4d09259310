package stile_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/stiletest"
)

// A record says who, what, by which rules, what was needed and what was held. The
// request id is that of the answer, and neither token nor arguments are in it.
func TestAuditRecords(t *testing.T) {
	f := newFixture(t, anonymousPolicy, stiletest.AnswerJSON(http.StatusOK, `{"jsonrpc":"2.0","id":7,"result":{}}`))
	who := map[string]any{"issuer": f.issuer.URL(), "subject": "alice", "client_id": "stiletest"}
	what := func(era, method string) map[string]any { return map[string]any{"era": era, "method": method} }
	token := f.token("notes:read")
	for _, tc := range []struct {
		name string
		ask  ask
		want []map[string]any // merged over the fixed ones
	}{
		{"allowed", tool(era2026, token, "list_notes", `{"secret":"hush"}`), []map[string]any{what("2026", "tools/call"), who,
			{"outcome": "allow", "status": 200., "name": "list_notes", "needed": []any{"notes:read"}, "held": []any{"notes:read"}, "rules": []any{"rules[0]"}}}},
		{"challenged", tool(era2025, token, "delete_note", `{"permanent":true,"secret":"hush"}`), []map[string]any{what("2025", "tools/call"), who,
			{"outcome": "challenge", "status": 403., "name": "delete_note", "needed": []any{"notes:read", "notes:write", "notes:admin"},
				"held": []any{"notes:read"}, "missing": []any{"notes:write", "notes:admin"}, "rules": []any{"rules[1]", "rules[2]"}}}},
		{"denied", tool(era2025, token, "drop_everything", `{"secret":"hush"}`), []map[string]any{what("2025", "tools/call"), who,
			{"outcome": "deny", "status": 200., "name": "drop_everything", "held": []any{"notes:read"}, "rules": []any{"rules[7]"},
				"reason": "not offered through this gateway"}}},
		{"denied by default", rpc(era2025, token, "acme/other", ""), []map[string]any{what("2025", "acme/other"), who,
			{"outcome": "deny", "status": 200., "held": []any{"notes:read"}, "rules": []any{"default"}, "reason": cmpAny}}},
		{"a resource", rpc(era2025, token, "resources/read", `"uri":"note://5"`), []map[string]any{what("2025", "resources/read"), who,
			{"outcome": "challenge", "status": 403., "uri": "note://5", "needed": []any{"notes:read", "notes:item:5"}, "held": []any{"notes:read"},
				"missing": []any{"notes:item:5"}, "rules": []any{"rules[5]"}}}},
		{"no token", tool(era2025, "", "list_notes", `{"secret":"hush"}`), []map[string]any{what("2025", "tools/call"),
			{"outcome": "unauthenticated", "status": 401., "name": "list_notes", "needed": []any{"notes:read"}, "rules": cmpAny, "error": cmpAny}}},
		{"bad token", tool(era2025, f.mint(stiletest.Claims{Scope: "notes:read", Expiry: time.Now().Add(-time.Hour)}), "list_notes", `{}`),
			[]map[string]any{{"outcome": "unauthenticated", "status": 401., "http_method": "POST", "error": cmpAny}}},
		{"anonymous", tool(era2025, "", "ping", `{}`), []map[string]any{what("2025", "tools/call"),
			{"outcome": "allow", "status": 200., "name": "ping", "rules": []any{"rules[8]"}}}},
		{"stream", stream(token), []map[string]any{who, {"outcome": "allow", "status": 200., "era": "2025", "http_method": "GET",
			"needed": []any{"notes:read"}, "held": []any{"notes:read"}, "rules": []any{"baseline"}}}},
		{"foreign session", tool(era2025, token, "list_notes", `{}`).inSession("made up"), []map[string]any{what("2025", "tools/call"), who,
			{"outcome": "no_session", "status": 404., "name": "list_notes", "held": []any{"notes:read"}, "error": "no such session"}}},
		{"not JSON", ask{token: token, body: "hush"}, []map[string]any{who,
			{"outcome": "malformed", "status": 400., "http_method": "POST", "held": []any{"notes:read"}, "error": cmpAny}}},
		{"foreign origin", stream(token).with("Origin", "https://evil.example"), []map[string]any{
			{"outcome": "malformed", "status": 403., "http_method": "GET", "error": cmpAny}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f.audit.Reset()
			w := do(t, f.gateway, tc.ask)
			records := f.records(t)
			if len(records) != 1 {
				t.Fatalf("%d records: %s", len(records), f.audit)
			}
			checkRecord(t, records[0], w, append(tc.want, map[string]any{"server": "notes"}))
			for _, secret := range []string{"hush", "eyJ", tc.ask.token} {
				if secret != "" && strings.Contains(f.audit.String(), secret) {
					t.Errorf("the record repeats %q: %s", secret, f.audit)
				}
			}
		})
	}
}

// cmpAny is a value that only has to be there.
const cmpAny = "*"

// checkRecord holds one record against what is merged.
func checkRecord(t *testing.T, got map[string]any, w interface{ Header() http.Header }, parts []map[string]any) {
	t.Helper()
	want := map[string]any{"request_id": w.Header().Get("X-Request-Id")}
	for _, part := range parts {
		maps.Copy(want, part)
	}
	at, _ := got["time"].(string)
	if when, err := time.Parse(time.RFC3339Nano, at); err != nil || time.Since(when) > time.Hour {
		t.Errorf("time %q", at)
	}
	delete(got, "time")
	if token, ok := got["token"].(string); ok != (got["subject"] != nil) || ok && len(token) != 16 {
		t.Errorf("token %q", token)
	}
	delete(got, "token")
	for name, value := range want {
		if _, there := got[name]; value == cmpAny && there {
			want[name] = got[name]
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The record of a call stands there before the upstream hears of it, and that of a
// refusal before the client does.
func TestAuditComesFirst(t *testing.T) {
	var audit lockedBuffer
	seen := -1
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = strings.Count(audit.String(), `"outcome":"allow"`)
		answerTool(w, r)
	})
	f := newFixture(t, notesPolicy, answerTool, direct(upstream), func(c *stile.Config) { c.Audit = &audit })
	for n := 1; n <= 3; n++ {
		do(t, f.gateway, tool(era2025, f.token("notes:read"), "list_notes", `{}`))
		if seen != n {
			t.Fatalf("%d records when call %d reached the upstream", seen, n)
		}
	}
	w := &watchingWriter{header: http.Header{}, onHeader: func() { seen = strings.Count(audit.String(), `"outcome":"challenge"`) }}
	f.gateway.ServeHTTP(w, tool(era2025, f.token("notes:read"), "delete_note", `{}`).request(t, publicURL))
	if w.status != http.StatusForbidden || seen != 1 {
		t.Errorf("status %d, %d records of the refusal before it was sent", w.status, seen)
	}
}

// watchingWriter calls onHeader when the answer begins.
type watchingWriter struct {
	header   http.Header
	status   int
	onHeader func()
}

func (w *watchingWriter) Header() http.Header         { return w.header }
func (w *watchingWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *watchingWriter) WriteHeader(status int) {
	w.status = status
	w.onHeader()
}

// failingWriter fails after some writes.
type failingWriter struct{ good int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.good--; w.good < 0 {
		return 0, errors.New("disk full at /secret/path")
	}
	return len(p), nil
}

// No record, no call, and no other answer either: what cannot be recorded is an
// internal error that tells nothing.
func TestAuditThatFails(t *testing.T) {
	f := newFixture(t, anonymousPolicy, answerTool, func(c *stile.Config) { c.Audit = &failingWriter{} })
	token := f.token("notes:read")
	for name, a := range map[string]ask{
		"allowed":     tool(era2025, token, "list_notes", `{}`),
		"anonymous":   tool(era2026, "", "ping", `{}`),
		"challenged":  tool(era2025, token, "delete_note", `{}`),
		"denied":      tool(era2026, token, "drop_everything", `{}`),
		"no token":    tool(era2025, "", "list_notes", `{}`),
		"bad token":   tool(era2025, "rubbish", "list_notes", `{}`),
		"no session":  tool(era2025, token, "list_notes", `{}`).inSession("made up"),
		"malformed":   {token: token, body: "{"},
		"stream":      stream(token),
		"bad origin":  stream(token).with("Origin", "https://evil.example"),
		"bad method":  {method: http.MethodPut, token: token},
		"listen 2026": rpc(era2026, token, "subscriptions/listen", `"notifications":{}`),
	} {
		w := do(t, f.gateway, a)
		want := "null"
		if a.body != "" && name != "malformed" && name != "bad token" {
			want = "7"
		}
		t.Run(name, func(t *testing.T) {
			checkRefusal(t, w.Code, w.Header(), w.Body.Bytes(), http.StatusInternalServerError, want)
			if w.Header().Get("WWW-Authenticate") != "" || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("tells more than that something went wrong: %v %s", w.Header(), w.Body)
			}
			if id := w.Header().Get("X-Request-Id"); !strings.Contains(f.log.String(), "request_id="+id) {
				t.Errorf("the log does not know %s", id)
			}
		})
	}
	if n := f.reached(); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
}

// An upstream's refusal is one more record, behind that of the call.
func TestAuditOfUpstreamRefusals(t *testing.T) {
	refuse := `{"jsonrpc":"2.0","id":7,"error":{"code":-32001,"message":"no","data":{"error":"insufficient_scope","required_scopes":["notes:write"]}}}`
	for name, tc := range map[string]struct {
		upstream http.HandlerFunc
		want     []string
	}{
		"challenge":           {stiletest.AnswerJSON(http.StatusOK, refuse), []string{"allow 200", "challenge 403"}},
		"challenge in stream": {stiletest.AnswerSSE("data: "+progress+"\n\n", "data: "+refuse+"\n\n"), []string{"allow 200", "challenge_in_stream 403"}},
		"not accepted":        {stiletest.AnswerChallenge(http.StatusUnauthorized, ""), []string{"allow 200", "upstream_error 502"}},
		"fine":                {answerTool, []string{"allow 200"}},
	} {
		f := newFixture(t, notesPolicy, tc.upstream)
		do(t, f.gateway, tool(era2025, f.token("notes:read"), "list_notes", `{}`))
		var got []string
		for _, r := range f.records(t) {
			got = append(got, fmt.Sprint(r["outcome"], " ", r["status"]))
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// Every record is one line, whatever stands in the names: nobody can write a
// record by calling a tool that is named like one.
func TestAuditCannotBeForged(t *testing.T) {
	f := newFixture(t, notesPolicy, answerTool)
	for _, name := range []string{`x\"}` + `\u2028`, `a\u0085b`, `\ud83d\ude00`, `</script>`, strings.Repeat("n", 3000)} {
		f.audit.Reset()
		do(t, f.gateway, rpc(era2025, f.token("notes:read"), "tools/call", `"name":"`+name+`"`))
		if n := bytes.Count(f.audit.Bytes(), []byte("\n")); n != 1 || len(f.records(t)) != 1 {
			t.Errorf("name %s: %d lines: %s", name, n, f.audit)
		}
	}
}
