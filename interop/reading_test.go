package interop_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/stiletest"
)

// readingPolicy lets everything through for one scope, and for delete_note with
// permanent: true asks for one that the token lacks.
const readingPolicy = `
baseline: all
default: all
rules:
  - tools: [delete_note]
    when: args.permanent == true
    scopes: never
`

// TestTypescriptServersRunWhatWasJudged sends the messages of
// testdata/reading/messages.txt through Stile to both TypeScript servers: what
// ran is what the audit record says, where Stile refused nothing ran, and
// nothing that needs a further scope ran without it.
func TestTypescriptServersRunWhatWasJudged(t *testing.T) {
	ts := startTypescript(t)
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{})
	for _, path := range []string{"/mcp", "/v1"} {
		t.Run(path[1:], func(t *testing.T) {
			audit := filepath.Join(t.TempDir(), "audit")
			g := startStile(t, stileConfig{upstream: ts.url + path, issuer: issuer.URL(), policy: readingPolicy, options: "audit: " + audit})
			token := issuer.Token(stiletest.Claims{Scope: "all", Audience: []string{g.endpoint}})
			done := 0
			for _, m := range readingMessages(t) {
				status := post(t, g.endpoint, token, m.body).StatusCode
				did := ts.deeds(t)
				done += len(did)
				if m.refused && (status != 400 || len(did) > 0) {
					t.Errorf("%s: status %d, want 400, and the server did %v", m.name, status, did)
				}
				if len(did) > 1 {
					t.Errorf("%s: one message, and the server did %v", m.name, did)
				}
				for _, d := range did {
					checkDeed(t, m, d, lastRecord(t, audit))
				}
			}
			if done < 15 {
				t.Errorf("only %d messages made the server do something", done)
			}
		})
	}
}

// auditRecord is what Stile writes about a decision.
type auditRecord struct{ Outcome, Method, Name, URI string }

func lastRecord(t *testing.T, file string) auditRecord {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	var r auditRecord
	if err := json.Unmarshal(lines[len(lines)-1], &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// checkDeed compares what a server did with what Stile judged and recorded.
func checkDeed(t *testing.T, m readingMessage, d deed, r auditRecord) {
	t.Helper()
	c, refusal := message.Read(m.body)
	if refusal != nil {
		t.Fatalf("%s: done although Stile cannot read it: %s", m.name, refusal.Message)
	}
	target := r.Name
	if d.Method == "resources/read" {
		target = r.URI
		// The TypeScript servers give their handlers the URI as WHATWG URL
		// writes it; which one that is is a matter for authorize.
		d.Target, target = plainURI(d.Target), plainURI(target)
	}
	if r.Outcome != "allow" || d.Method != r.Method || d.Target != target {
		t.Errorf("%s: the server did %s %q, the audit record says %+v", m.name, d.Method, d.Target, r)
	}
	if d.Target == "delete_note" && string(d.Permanent) == "true" {
		t.Errorf("%s: the note was deleted for good", m.name)
	}
	if d.Method == "tools/call" && c.Args != nil && !sameArguments(t, d.Arguments, c.Args) {
		t.Errorf("%s: the tool got %s, Stile judged %s", m.name, d.Arguments, c.Args)
	}
}

// plainURI takes out what the two ways to write a URI may differ in.
func plainURI(uri string) string { return strings.TrimSuffix(uri, "/") }

// sameArguments compares values as JavaScript has them. What it cannot write
// down again, a number beyond every double, is null, and __proto__ was left out
// by the server.
func sameArguments(t *testing.T, got, judged []byte) bool {
	t.Helper()
	var a, b any
	if err := json.Unmarshal(got, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(bytes.ReplaceAll(judged, []byte("1e999"), []byte("null")), &b); err != nil {
		t.Fatal(err)
	}
	if object, ok := b.(map[string]any); ok {
		delete(object, "__proto__")
	}
	return cmp.Equal(a, b)
}

// readingMessage is a line of testdata/reading/messages.txt.
type readingMessage struct {
	name    string
	refused bool
	body    []byte
}

func readingMessages(t *testing.T) []readingMessage {
	t.Helper()
	text, err := os.ReadFile("../testdata/reading/messages.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []readingMessage
	for line := range strings.SplitSeq(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.SplitN(line, " ", 3)
		body, err := strconv.Unquote(fields[2])
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, readingMessage{fields[1], fields[0] == "refused", []byte(body)})
	}
	return all
}
