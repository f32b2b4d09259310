package authorize_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/internal/problem"
)

func problems(t testing.TB, err error) problem.List {
	t.Helper()
	var list problem.List
	if err != nil && !errors.As(err, &list) {
		t.Fatalf("the error is no problem.List: %v", err)
	}
	return list
}

// TestNewRefuses has one mistake a case: the policy, where it stands and what
// the problem says.
func TestNewRefuses(t *testing.T) {
	for _, tc := range []struct{ policy, path, says string }{
		{`baseline: "a\"b"`, "baseline", "is not a scope"},
		{`baseline: a offline_access`, "baseline", "offline_access is never asked for"},
		{`challenge: all`, "challenge", "expected union, minimal or extended"},
		{`list: hide`, "list", "expected show or granted"},
		{`default: [deny, a]`, "default", "expected deny alone"},
		{`default: ["a", ""]`, "default[1]", "at least one scope"},
		{`default: "item:{id}"`, "default", "without variables"},
		{`carry_scopes: [openid, openid]`, "carry_scopes[1]", "stands there twice"},
		{`carry_scopes: offline_access`, "carry_scopes", "never asked for"},
		{`carry_scopes: []`, "carry_scopes", "at least one scope"},
		{"companions:\n  a: b", "companions", "challenge: extended"},
		{"challenge: extended\ncompanions:\n  a: ['b c']", "companions.a", "expected one scope"},
		{"challenge: extended\ncompanions:\n  'a b': c", "companions.a b", "expected one scope"},
		{"implies:\n  a: b\n  b: a", "implies", "a implies b implies a"},
		{"implies:\n  notes:admin: [a, 'b c']", "implies.notes:admin[1]", "expected one scope"},
		{"implies:\n  notes:admin: 'notes:*'", "implies.notes:admin", "left side only"},
		{"implies:\n  'a*b': c", "implies.a*b", `"*" only at its end`},
		{"implies:\n  a: []", "implies.a", "at least one scope"},
		{`rules: [{scopes: a}]`, "rules[0]", "it names nothing"},
		{`rules: [{tools: t}]`, "rules[0]", "it asks for nothing"},
		{`rules: [{tools: t, scopes: []}]`, "rules[0].scopes", "at least one scope"},
		{`rules: [{tools: t, scopes: ""}]`, "rules[0].scopes", "at least one scope"},
		{`rules: [{tools: t, scopes: [a, " "]}]`, "rules[0].scopes[1]", "at least one scope"},
		{`rules: [{tools: t, scopes: offline_access}]`, "rules[0].scopes", "never asked for"},
		{`rules: [{tools: t, scopes: 'a\b'}]`, "rules[0].scopes", "is not a scope"},
		{`rules: [{tools: t, scopes: a, deny: x}]`, "rules[0].deny", "deny or scopes"},
		{`rules: [{tools: t, anonymous: true, deny: x}]`, "rules[0].deny", "deny or anonymous"},
		{`rules: [{tools: t, scopes: a, anonymous: true}]`, "rules[0].anonymous", "anonymous or scopes"},
		{`rules: [{tools: t, deny: "  "}]`, "rules[0].deny", "a reason"},
		{`rules: [{tools: [t, ""], scopes: a}]`, "rules[0].tools[1]", "it is empty"},
		{`rules: [{tools: [t, u, t], scopes: a}]`, "rules[0].tools[2]", "stands there twice"},
		{`rules: [{tools: "a[b", scopes: a}]`, "rules[0].tools", "not closed"},
		{`rules: [{prompts: "a[]", scopes: a}]`, "rules[0].prompts", "empty set"},
		{`rules: [{methods: "a[z-a]", scopes: a}]`, "rules[0].methods", "from high to low"},
		{`rules: [{tools: 'a\', scopes: a}]`, "rules[0].tools", `ends in "\"`},
		{`rules: [{resources: "note://{+id}", scopes: a}]`, "rules[0].resources", "level 1"},
		{`rules: [{resources: "note://{a,b}", scopes: a}]`, "rules[0].resources", "level 1"},
		{`rules: [{resources: "note://{id", scopes: a}]`, "rules[0].resources", "level 1"},
		{`rules: [{resources: "note://id}", scopes: a}]`, "rules[0].resources", "level 1"},
		{`rules: [{resources: "note://{id}*", scopes: a}]`, "rules[0].resources", "one of the two"},
		{`rules: [{resources: "note://{a}{b}", scopes: a}]`, "rules[0].resources", "nothing between"},
		{`rules: [{resources: "note://{a}-{b}", scopes: a}]`, "rules[0].resources", "nothing between"},
		{`rules: [{resources: "note://{a}/{a}", scopes: a}]`, "rules[0].resources", "stands there twice"},
		{`rules: [{resources: "note://x/{a}/../b", scopes: a}]`, "rules[0].resources", "dot segments"},
		{`rules: [{resources: "ui://x", scopes: a}]`, "rules[0].resources", "baseline only"},
		{`rules: [{resources: ["note://{id}", "note://all"], scopes: "a:{id}"}]`, "rules[0].scopes", "a variable of the template note://all"},
		{`rules: [{resources: "note://{id}", scopes: "a:{key}"}]`, "rules[0].scopes", "a variable of the template"},
		{`rules: [{methods: x, scopes: "a:{key}"}]`, "rules[0].scopes", "a rule for methods has no variables"},
		{`rules: [{tools: x, scopes: "a:{"}]`, "rules[0].scopes", "variables such as {id}"},
		{`rules: [{tools: x, scopes: "a:{b:c}"}]`, "rules[0].scopes", "variables such as {id}"},
		{`rules: [{tools: x, scopes: [a, "a:{}"]}]`, "rules[0].scopes[1]", "variables such as {id}"},
		{`rules: [{tools: t, scopes: a, when: "args.x =="}]`, "rules[0].when", "CEL, column 10: Syntax error"},
		{`rules: [{tools: t, scopes: a, when: "size(args.x)"}]`, "rules[0].when", "of type int"},
		{`rules: [{tools: t, scopes: a, when: "arg.x"}]`, "rules[0].when", "undeclared reference to 'arg'"},
		{`rules: [{tools: t, scopes: a, when: "true"}]`, "rules[0].when", "it reads nothing"},
		{`rules: [{resources: "a:b", scopes: a, when: "args.x"}]`, "rules[0].when", "which resources do not have"},
		{`rules: [{tools: t, scopes: a, when: "uri == 'x'"}]`, "rules[0].when", "which only resources have"},
		{`rules: [{prompts: t, scopes: a, when: "tool.x"}]`, "rules[0].when", "only rules for tools"},
	} {
		c, err := decode(tc.policy)
		if err != nil {
			t.Errorf("%s: %v", tc.policy, err)
			continue
		}
		_, err = authorize.New(c)
		list := problems(t, err)
		if len(list) != 1 || list[0].Path != tc.path || !strings.Contains(list[0].Want+list[0].Value, tc.says) {
			t.Errorf("%s\n got %v\nwant %s: …%s…", tc.policy, err, tc.path, tc.says)
		}
	}
}

func TestNewTellsEveryMistakeAtOnce(t *testing.T) {
	_, err := authorize.New(mustDecode(t, `
baseline: "a offline_access"
challenge: most
implies:
  x: [y]
  y: [x]
rules:
  - tools: ["[", ok]
    scopes: ["a", ""]
  - scopes: a
  - tools: t
    when: "1 +"
    deny: no
    anonymous: true
`))
	var paths []string
	for _, p := range problems(t, err) {
		paths = append(paths, p.Path)
	}
	want := []string{"baseline", "implies", "challenge", "rules[0].tools[0]", "rules[0].scopes[1]", "rules[1]", "rules[2].deny", "rules[2].when"}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestYAMLForms(t *testing.T) {
	c := mustDecode(t, `
default: deny
security_schemes: false
carry_scopes: openid
implies:
  "notes:*": base
  a: [b, c]
rules:
  - tools: one
    scopes: a b
  - tools: [two, 3, true]
    scopes:
      - a b
      - c
    when: >-
      args.x == 1
      && args.y
  - methods: ["acme/*"]
    anonymous: true
`)
	off := false
	want := authorize.Config{
		Default: authorize.Strings{"deny"}, SecuritySchemes: &off, CarryScopes: authorize.Strings{"openid"},
		Implies: map[string]authorize.Strings{"notes:*": {"base"}, "a": {"b", "c"}},
		Rules: []authorize.Rule{
			{Tools: authorize.Strings{"one"}, Scopes: authorize.Strings{"a b"}},
			{Tools: authorize.Strings{"two", "3", "true"}, Scopes: authorize.Strings{"a b", "c"}, When: "args.x == 1 && args.y"},
			{Methods: authorize.Strings{"acme/*"}, Anonymous: true},
		},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestYAMLRefuses(t *testing.T) {
	for _, text := range []string{
		"basline: a",
		"rules: [{tool: x}]",
		"rules: [{tools: {a: b}}]",
		"rules: [{tools: [[a]]}]",
		"rules: [{tools: [{a: b}]}]",
		"rules: [{tools: [~]}]",
		"implies: {a: {b: c}}",
		"security_schemes: maybe",
		"rules: [{tools: a, tools: b}]",
		"x: &a [t]\nrules: [{tools: *a}]",
	} {
		if c, err := decode(text); err == nil {
			t.Errorf("%q was read as %+v", text, c)
		}
	}
}

func TestNeeds(t *testing.T) {
	for text, want := range map[string]string{
		`rules: [{tools: t, scopes: a}]`:                                     "false false false",
		`rules: [{tools: t, scopes: a, when: "token.x == 1"}]`:               "true false false",
		`rules: [{tools: t, scopes: a, when: "!tool.readOnlyHint"}]`:         "false true false",
		`rules: [{tools: t, scopes: a, when: "args.x"}]`:                     "false false false",
		`rules: [{tools: t, anonymous: true, when: "has(args.x)"}]`:          "false false true",
		`rules: [{tools: t, deny: x, when: "token.a == tool.title"}]`:        "true true false",
		`rules: [{tools: t, deny: x, when: "args.token == args[\"tool\"]"}]`: "false false false",
	} {
		p := parsePolicy(t, text)
		if got := fmt.Sprint(p.NeedsClaims(), " ", p.NeedsTools(), " ", p.Anonymous()); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestCatalogue(t *testing.T) {
	p := parsePolicy(t, `
baseline: base
challenge: extended
default: fall
companions:
  w: c
implies:
  top: [w, base]
  "x:*": base
rules:
  - tools: t
    scopes: ["w v", "item:{id}"]
`)
	if got, want := p.Catalogue().String(), "base w v fall c top"; got != want {
		t.Errorf("Catalogue = %q, want %q", got, want)
	}
	if got := p.Baseline().String(); got != "base" {
		t.Errorf("Baseline = %q", got)
	}
	for token, want := range map[string]bool{"base": true, "c": true, "item:{id}": true, "item:7": true, "x:y": true,
		"item:": false, "item": false, "bas": false, "": false} {
		if got := p.Knows(token); got != want {
			t.Errorf("Knows(%q) = %v", token, got)
		}
	}
}
