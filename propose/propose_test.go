package propose_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/propose"
	"github.com/stile-mcp/stile/scope"
	"github.com/stile-mcp/stile/stiletest"
)

func hint(on bool) *bool { return &on }

// notes is a server that says everything about itself, and something odd.
var notes = propose.Inventory{
	Server: "Notes", Version: "1.0.0",
	Tools: []propose.Tool{
		{Name: "list_notes", ReadOnly: hint(true), OpenWorld: hint(false)},
		{Name: "search_web", ReadOnly: hint(true), OpenWorld: hint(true)},
		{Name: "create_note", ReadOnly: hint(false), Destructive: hint(false)},
		{Name: "delete_note", ReadOnly: hint(false), Destructive: hint(true), Idempotent: hint(true)},
		{Name: "get_statistics"},
		{Name: "frobnicate"},
		{Name: "delete_all", ReadOnly: hint(true)},
		{Name: "remove_draft", Destructive: hint(false)},
		{Name: "odd", ReadOnly: hint(true), Destructive: hint(true)},
		{Name: "list_notes", ReadOnly: hint(true)},
		{Name: "a*[b]?\\c$d${HOME}", ReadOnly: hint(true)},
	},
	Resources: []string{"note://index", "ui://panel", "note://a$b", "note://{x}", "note://*"},
	Templates: []string{"note://{id}", "note://search{?q}", "files:///{+path}", "{anything}", "ui://{id}"},
	Prompts:   []string{"summarise", "summarise", "true", "- x: y # z"},
}

// What is written is looked at in these files.
func TestYAML(t *testing.T) {
	for name, tc := range map[string]struct {
		in    propose.Inventory
		name  string
		setup propose.Setup
	}{
		"notes": {in: notes, setup: propose.Setup{KeySHA256: strings.Repeat("0", 64), URL: "http://127.0.0.1:9000/mcp?a=$b",
			Headers: map[string]string{"X-Api-Key": "${NOTES_KEY}"}}},
		"empty": {setup: propose.Setup{PublicURL: "https://mcp.example.com", Issuer: "https://login.example.com",
			Command: []string{"npx", "-y", "a server", "--flag=$x"}, Env: map[string]string{"A": "${A}", "B": "x y"}}},
		"hostile": {name: "safe", setup: propose.Setup{URL: "https://mcp.example.com/mcp"}, in: propose.Inventory{
			Server: "x\n\x1b[31mservers: {}", Version: "1\n#",
			Tools: []propose.Tool{{Name: "a\nb"}, {Name: "\x1b[2J"}, {Name: "x: &y *z"}, {Name: strings.Repeat("long", 5000)}, {Name: ""},
				{Name: "\u202egnp.exe"}, {Name: "\ue000:"}, {Name: "null"}, {Name: "é😀\u2028"}},
			Templates: []string{"a://{", "}{", ""},
		}},
	} {
		got := string(propose.Make(tc.in, tc.name).YAML(tc.setup))
		golden := filepath.Join("testdata", name+".yaml")
		if stiletest.Update() {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

// A tool needs the highest right that its hints leave open, and its name changes
// nothing about that.
func TestRights(t *testing.T) {
	yes, no := hint(true), hint(false)
	for _, tc := range []struct {
		readOnly, destructive *bool
		want                  string
	}{
		{nil, nil, "s:admin"}, {nil, yes, "s:admin"}, {nil, no, "s:write"},
		{no, nil, "s:admin"}, {no, yes, "s:admin"}, {no, no, "s:write"},
		{yes, nil, "s:read"}, {yes, yes, "s:read"}, {yes, no, "s:read"},
	} {
		for _, name := range []string{"get_x", "delete_x", "x"} {
			tool := propose.Tool{Name: name, ReadOnly: tc.readOnly, Destructive: tc.destructive, OpenWorld: yes, Idempotent: yes}
			p := propose.Make(propose.Inventory{Tools: []propose.Tool{tool}}, "s")
			if got := p.Calls()[0].Scope; got != tc.want || p.Top() != tc.want {
				t.Errorf("%s: readOnly %v destructive %v: %s, top %s, want %s", name, tc.readOnly, tc.destructive, got, p.Top(), tc.want)
			}
		}
	}
}

// Of two tools with one name the stricter hints count, whichever comes first.
func TestToolTwice(t *testing.T) {
	tools := []propose.Tool{{Name: "x", ReadOnly: hint(true)}, {Name: "x"}}
	for range 2 {
		if got := propose.Make(propose.Inventory{Tools: tools}, "s").Calls(); len(got) != 1 || got[0].Scope != "s:admin" {
			t.Errorf("%+v", got)
		}
		slices.Reverse(tools)
	}
}

func TestManyResourcesBecomeOnePattern(t *testing.T) {
	var in propose.Inventory
	for i := range 30 {
		in.Resources = append(in.Resources, "demo://all/x/"+string(rune('a'+i%26))+strings.Repeat("z", i), "file:///"+strings.Repeat("q", i)+"a")
	}
	in.Resources = append(in.Resources, "note://1")
	var got []string
	for _, e := range propose.Make(in, "").Grants[0].Resources {
		got = append(got, e.Pattern)
	}
	if want := []string{"demo://all/x/*", "file:///*", "note://1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSafeName(t *testing.T) {
	for said, want := range map[string]string{
		"": "mcp", "Notes": "notes", "mcp-servers/everything": "everything", "secure-filesystem-server": "secure-filesystem-server",
		"@acme/GitHub MCP Server": "acme-github", "\x1b[31m": "31m", "файлы": "mcp", "file": "file-server", "File": "file-server",
		"a\nb: c": "a-b-c", "---": "mcp", "..": "mcp", "mcp": "mcp", "x_y.z": "x_y.z", strings.Repeat("a", 5000): strings.Repeat("a", 32),
		strings.Repeat("a", 31) + "-b": strings.Repeat("a", 31), "mcp-server-mcp": "mcp",
	} {
		got := propose.SafeName(said)
		if got != want {
			t.Errorf("SafeName(%q) = %q, want %q", said, got, want)
		}
		if again := propose.SafeName(got); again != got {
			t.Errorf("SafeName(%q) = %q", got, again)
		}
	}
}

var sentence = regexp.MustCompile(`^[A-Za-z0-9 ._:/-]+$`)

// The policy that is proposed decides as the proposal says, for whatever a server
// lists.
func FuzzPolicy(f *testing.F) {
	f.Add("notes", "get*", "a[", "note://{id}", "note://{+x}{", "p\\", 0)
	f.Add("\x00", "${X}", "\u2028", "ui://x", "a:*", "", 5)
	f.Add("true", "a\nb", "a\tb", "file:///%2e%2e/{a}", "{?a,b}", "\xff", 8)
	f.Fuzz(func(t *testing.T, server, a, b, uri, template, prompt string, hints int) {
		on := func(bit int) *bool { return []*bool{nil, hint(true), hint(false)}[max(hints, 0)/bit%3] }
		p := propose.Make(propose.Inventory{Server: server, Tools: []propose.Tool{{Name: a, ReadOnly: on(1), Destructive: on(3)}, {Name: b}},
			Resources: []string{uri, template}, Templates: []string{template, uri}, Prompts: []string{prompt, a}}, "")
		policy, err := authorize.New(p.Policy())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Calls() {
			call, wrong := message.Read(propose.Body(c))
			if wrong != nil {
				t.Fatal(wrong)
			}
			id := &authenticate.Identity{Profile: &authenticate.Profile{}, Scopes: scope.Of(c.Scope)}
			if d := policy.Decide(id, call); d.Outcome != authorize.Allow {
				t.Errorf("%+v: %+v", c, d)
			}
		}
		for token, text := range p.Descriptions() {
			if !policy.Knows(token) || !sentence.MatchString(text) {
				t.Errorf("%q: %q", token, text)
			}
		}
	})
}
