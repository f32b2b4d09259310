package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/propose"
	"github.com/stile-mcp/stile/stiletest"
)

// hinted is an MCP server whose tools say what they do, and one that does not.
func hinted() *mcp.Server {
	no := false
	server := mcp.NewServer(&mcp.Implementation{Name: "mcp-servers/Hinted", Version: "2\x1b[31m"}, nil)
	for name, hints := range map[string]*mcp.ToolAnnotations{
		"list": {ReadOnlyHint: true}, "add": {DestructiveHint: &no}, "wipe": {}, "get_all": nil,
	} {
		mcp.AddTool(server, &mcp.Tool{Name: name, Annotations: hints}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return nil, nil, nil
		})
	}
	server.AddResourceTemplate(&mcp.ResourceTemplate{Name: "t", URITemplate: "hint://{id}"}, nil)
	return server
}

// What init writes, check accepts and serve can use, for real servers of both eras
// over HTTP and for a command.
func TestInitAgainstRealServers(t *testing.T) {
	notes := stiletest.NewNotes(stiletest.NotesOptions{})
	stateless := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return hinted() }, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})
	for name, tc := range map[string]struct {
		handler http.Handler
		args    []string
		want    []string
	}{
		"notes":     {handler: notes, want: []string{"notes:read", "notes:write", "notes:admin", "note://{id}", "- delete_note"}},
		"stateless": {handler: stateless, want: []string{"hinted:admin", "- wipe\n", "hint://{id}"}},
		"new only":  {handler: newEraOnly(notes), want: []string{"notes:admin", "note://{id}"}},
		"command":   {args: []string{"--env", roleVar + "=hinted", "--", self(t)}, want: []string{"hinted:admin", "- get_all # gives no hint; by its name it may only read"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := tc.args
			if tc.handler != nil {
				server := httptest.NewServer(tc.handler)
				defer server.Close()
				args = []string{server.URL}
			}
			file := filepath.Join(t.TempDir(), "stile.yaml")
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), append([]string{"init", "-o", file}, args...), nil, &stdout, &stderr); code != exitOK {
				t.Fatalf("%d\n%s%s", code, &stdout, &stderr)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tc.want {
				if !bytes.Contains(text, []byte(want)) {
					t.Errorf("no %s in\n%s", want, text)
				}
			}
			if code := run(t.Context(), []string{"check", "-c", file}, nil, &stdout, &stderr); code != exitOK {
				t.Errorf("check: %d\n%s", code, &stderr)
			}
			checkTerminal(t, stdout.String())
		})
	}
}

// newEraOnly refuses what only the 2025 revisions have.
func newEraOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Protocol-Version") != "2026-07-28" {
			http.Error(w, "what is that", http.StatusBadRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// checkTerminal wants nothing that a terminal would act on, and 80 columns.
func checkTerminal(t *testing.T, text string) {
	t.Helper()
	for line := range strings.SplitSeq(text, "\n") {
		if printable(line) != line || len(line) > 80 && !strings.Contains(line, "/") {
			t.Errorf("%q", line)
		}
	}
}

func TestInitOverwritesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stile.yaml")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the server was asked") }))
	defer server.Close()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"init", "-o", file, server.URL}, nil, &stdout, &stderr)
	if text, _ := os.ReadFile(file); code != exitFailed || string(text) != "mine" || !strings.Contains(stderr.String(), "is there already") {
		t.Errorf("%d %q %s", code, text, &stderr)
	}
	// Nor one that appears while the server is asked.
	c := &initCommand{Output: file}
	if err := c.write([]byte("x"), nil); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Error(err)
	}
}

// A credential of the server is sent, and stands in the file by its name alone.
func TestInitSendsHeaders(t *testing.T) {
	t.Setenv("NOTES_KEY", "s3cret-value")
	notes := stiletest.NewNotes(stiletest.NotesOptions{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != "s3cret-value" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		notes.ServeHTTP(w, r)
	}))
	defer server.Close()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"init", "-o", "-", server.URL}, nil, &stdout, &stderr); code != exitFailed || !strings.Contains(stderr.String(), "--header") {
		t.Errorf("%d %s", code, &stderr)
	}
	stdout.Reset()
	stderr.Reset()
	code := run(t.Context(), []string{"init", "-o", "-", "--header", "X-Api-Key: ${NOTES_KEY}", server.URL}, nil, &stdout, &stderr)
	if all := stdout.String() + stderr.String(); code != exitOK || strings.Contains(all, "s3cret") || !strings.Contains(stdout.String(), `X-Api-Key: "${NOTES_KEY}"`) {
		t.Errorf("%d %s", code, all)
	}
}

// Whatever a server lists, the file is one that check accepts and that says what
// was proposed, name by name.
func FuzzInitFile(f *testing.F) {
	f.Add("notes", "1", "get*", "a\nb: c", "note://{id}", "file:/etc/passwd", 0)
	f.Add("\x1b[31m", "#", "${HOME}", "$$", "x://{+p}", "- x # y", 4)
	f.Add("null", "\u2028", "\ue000:", "'\"\\", "{?q}", "~", 8)
	f.Add("12", "", "0x1F", "1e3", "a:b", "? x", 2)
	f.Add("12", "", "\x10\x00\x00\x00", "1e3", "a:b", "? x", 2)
	around := fakeAround(nil, nil)
	f.Fuzz(func(t *testing.T, server, version, a, b, template, prompt string, hints int) {
		yes, no := true, false
		on := func(bit int) *bool { return []*bool{nil, &yes, &no}[max(hints, 0)/bit%3] }
		p := propose.Make(propose.Inventory{Server: server, Version: version, Templates: []string{template}, Resources: []string{a, prompt, template},
			Tools:   []propose.Tool{{Name: a, ReadOnly: on(1), Destructive: on(3), OpenWorld: on(9)}, {Name: b, ReadOnly: on(3)}, {Name: template}},
			Prompts: []string{prompt, b}}, "")
		text := p.YAML(propose.Setup{KeySHA256: strings.Repeat("0", 64), Command: []string{"x", "-" + strings.ReplaceAll(a, "\x00", "")}}) // no argument has NUL
		if err := tryProposal("stile.yaml", text, p, around); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		got, err := loadBytes("stile.yaml", text, around)
		if err != nil {
			t.Fatal(err)
		}
		want := p.Policy()
		if diff := cmp.Diff(want, *got.Servers[0].Value.Policy, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(authorize.Config{}, "Tools")); diff != "" {
			t.Errorf("(-proposed +read)\n%s\n%s", diff, text)
		}
		if diff := cmp.Diff(p.Descriptions(), got.Scopes.Descriptions); diff != "" {
			t.Error(diff)
		}
		if bytes.ContainsAny(text, "\x1b\r\x07\x00") {
			t.Errorf("%q", text)
		}
	})
}

// Every character that a name may have is read back from the file as it was.
func TestEveryCharacterIsReadBack(t *testing.T) {
	var in propose.Inventory
	name := []rune{'x'}
	for r := rune(' '); r <= 0x1FFFF; r++ {
		if 0xD800 <= r && r <= 0xDFFF || r == 0xFFFD || 0x3400 < r && r < 0xD700 || 0x7F <= r && r < 0xA0 {
			continue
		}
		if name = append(name, r); len(name) == 500 || r == 0x1FFFF {
			in.Tools = append(in.Tools, propose.Tool{Name: string(name)})
			name = []rune{'x'}
		}
	}
	p := propose.Make(in, "s")
	if len(p.LeftOut) > 0 {
		t.Errorf("left out: %v", p.LeftOut)
	}
	text := p.YAML(propose.Setup{KeySHA256: strings.Repeat("0", 64), URL: "http://127.0.0.1/"})
	if err := tryProposal("stile.yaml", text, p, fakeAround(nil, nil)); err != nil {
		t.Error(err)
	}
}
