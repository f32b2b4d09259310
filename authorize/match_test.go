package authorize_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/authorize"
)

func TestGlobs(t *testing.T) {
	for _, tc := range []struct{ pattern, yes, no string }{
		{"*", "a ab *", ""},
		{"get_*", "get_ get_x get_get_", "get Get_x xget_y"},
		{"*_read", "_read a_read a_read_read", "_reads read"},
		{"a*b*c", "abc axbxc abbcc", "acb ab"},
		{"**a**", "a xay", "b"},
		{"?", "a é", "ab"},
		{"a?c", "abc a?c", "ac abbc"},
		{"[a-c]x", "ax bx cx", "dx x Ax"},
		{"[!a-c]x", "dx !x", "ax bx x"},
		{"[a\\]]", "a ]", "b \\"},
		{"[\\!a]", "! a", "b"},
		{"[-a]", "- a", "b"},
		{"[a-]", "a -", "b"},
		{"a\\*b", "a*b", "axb a\\*b"},
		{"a\\?*", "a? a?x", "ab abx"},
		{"plain", "plain", "plain1 Plain xplain"},
		{"[é-ü]*", "ö öx", "a"},
	} {
		p := mustPolicy(t, authorize.Config{Rules: []authorize.Rule{{Tools: authorize.Strings{tc.pattern}, Scopes: authorize.Strings{"a"}}}})
		for want, names := range map[authorize.Outcome]string{authorize.Allow: tc.yes, authorize.Deny: tc.no} {
			for _, name := range strings.Fields(names) {
				if d := p.Decide(holder("a"), tool(name, "")); d.Outcome != want {
					t.Errorf("%q and %q: %s", tc.pattern, name, outcomes[d.Outcome])
				}
			}
		}
	}
}

func TestURIPatterns(t *testing.T) {
	for _, tc := range []struct{ pattern, yes, no string }{
		{"note://a", "note://a", "note://b note://a/ note://a?x note://a#x NOTE://a"},
		{"note://*", "note://a note://a/b?c#d note://", "notes://a"},
		{"*://x/*.md", "a://x/b.md a://x/c/d.md", "a://y/b.md a://x/b.mdx"},
		{"a:*b*c", "a:bc a:xbyc a:bbc", "a:cb a:b"},
		{"note://{id}", "note://a note://A note://a.b~c-d_e note://%C3%A9", "note:// note://a/b note://a?b note://é note://%zz note://a:b"},
		{"note://{id}.json", "note://a.json note://a.json.json", "note://.json note://a.jsonx note://a.json/"},
		{"note://{a}/{b}", "note://1/2", "note://1 note://1/2/3 note:///2 note://1/"},
		{"note://{a}.x/y{b}", "note://1.x/y2 note://1.x.x/y2", "note://1/y2 note://.x/y2"},
		{"note://x/{a}?q={b}", "note://x/1?q=2", "note://x/1 note://x/1?q="},
		{"HTTP://Example.COM/x", "http://example.com/x HTTP://EXAMPLE.com/x", "http://example.com/X"},
		{"http://e/%7Ex/%2f", "http://e/~x/%2F", "http://e/x"},
	} {
		// The variables stay unused: here only matching counts.
		p := mustPolicy(t, authorize.Config{Rules: []authorize.Rule{{Resources: authorize.Strings{tc.pattern}, Scopes: authorize.Strings{"a"}}}})
		for want, uris := range map[authorize.Outcome]string{authorize.Allow: tc.yes, authorize.Deny: tc.no} {
			for _, uri := range strings.Fields(uris) {
				d := p.Decide(holder("a"), read(uri))
				if raw := strings.HasPrefix(uri, "HTTP"); raw {
					continue // judged in both forms, see TestBothFormsOfAURIMustBeAllowed
				}
				if d.Outcome != want {
					t.Errorf("%q and %q: %s", tc.pattern, uri, outcomes[d.Outcome])
				}
			}
		}
	}
}

func TestBothFormsOfAURIMustBeAllowed(t *testing.T) {
	p := parsePolicy(t, `
rules:
  - resources: ["http://e/open/*"]
    scopes: a
  - resources: ["http://e/secret/*"]
    scopes: s
  - resources: ["HTTP://e/Raw"]
    scopes: r
  - resources: ["note://{id}"]
    scopes: "item:{id}"
`)
	for _, tc := range []struct{ held, uri, outcome, missing string }{
		{"a", "http://e/open/x", "allow", ""},
		{"a", "http://e/open/../secret/x", "challenge", "s"},
		{"a s", "http://e/open/../secret/x", "allow", ""},
		{"s", "http://e/open/../secret/x", "challenge", "a"},
		{"a", "http://e/open/../other", "deny", ""},
		{"a", "http://E/open/x", "deny", ""}, // as it was sent no rule matches
		{"a", "http://e/open/%78", "allow", ""},
		{"r", "HTTP://e/Raw", "allow", ""},
		{"r", "http://e/Raw", "allow", ""},
		{"item:a", "note://A", "challenge", "item:A"},
		{"item:a item:A", "note://A", "allow", ""},
		{"item:a", "note://%61", "allow", ""},
	} {
		d := p.Decide(holder(tc.held), read(tc.uri))
		if outcomes[d.Outcome] != tc.outcome || d.Missing.String() != tc.missing {
			t.Errorf("{%s} %s: %s, missing %q, want %s, %q", tc.held, tc.uri, outcomes[d.Outcome], d.Missing, tc.outcome, tc.missing)
		}
	}
}

func TestURIsThatHideDotSegments(t *testing.T) {
	p := parsePolicy(t, `rules: [{resources: "*", scopes: a}]`)
	for _, tc := range []struct {
		uri  string
		deny bool
	}{
		{"file:///a/b", false},
		{"file:///a/../b", false},
		{"file:///a/./b/..", false},
		{"file:///a..b/...", false},
		{"file:///a/.hidden", false},
		{"file:///a%2Fb", false},
		{"file:///a/b?x=../y", false},
		{"file:///a//b", false},
		{"file:///a/%2e%2e/b", false}, // RFC 3986 decodes it
		{"file:///a/..%2Fb", true},
		{"file:///a/%2e%2e%5cb", true},
		{"file:///a/..\\b", true},
		{"file:///a/%252e%252e/b", true},
		{"file:///a/%25252525252e/b", true},
		{"file:///a//../b", true},
		{"file:///a/b%2Fc/../d", true},
		{"note://..", true},
		{"note://../x", true},
		{"note://%2e%2e/x", true},
		{"urn:a/../b", false},
	} {
		d := p.Decide(holder("a"), read(tc.uri))
		if (d.Outcome == authorize.Deny) != tc.deny {
			t.Errorf("%s: %s %s", tc.uri, outcomes[d.Outcome], d.Reason)
		}
	}
}

func TestArgumentsInConditions(t *testing.T) {
	for _, tc := range []struct{ when, args, outcome string }{
		{"args.n == 5", `{"n":5}`, "allow"},
		{"args.n == 5", `{"n":5.0}`, "allow"},
		{"args.n == 5", `{"n":50e-1}`, "allow"},
		{"args.n < 5.5", `{"n":5}`, "allow"},
		{"args.n == 5", `{}`, "deny"},
		{"args.n == null", `{}`, "allow"},
		{"has(args.n)", `{}`, "deny"},
		{"has(args.n)", `{"n":null}`, "allow"},
		{"'n' in args", `{"n":1}`, "allow"},
		{"'n' in args", `{}`, "deny"},
		{"args['n'] == 1", `{"n":1}`, "allow"},
		{"args.size() == 1", `{"n":1}`, "allow"},
		{"args.exists(k, k.startsWith('x'))", `{"xy":1}`, "allow"},
		{"args == {'n': 1}", `{"n":1}`, "allow"},
		{"args.n == 9007199254740991", `{"n":9007199254740991}`, "allow"},
		{"args.n == 9007199254740992", `{"n":9007199254740993}`, "fail"}, // JavaScript reads ...992
		{"args.n == 9007199254740992", `{"n":9007199254740992}`, "fail"},
		{"args.n == -9007199254740992", `{"n":-9007199254740993}`, "fail"},
		{"args.n == 9007199254740992", `{"n":9007199254740992.0}`, "fail"},
		{"args.n > 0", `{"n":9223372036854775808}`, "fail"},
		{"args.n > 0", `{"n":1e300}`, "fail"},
		{"args.n > 0", `{"n":1e999}`, "fail"},
		{"args.m == 1", `{"m":1,"n":1e300}`, "allow"}, // what is not read does not matter
		{"args.n > 0", `{"n":"5"}`, "fail"},
		{"args.n > 0", `{}`, "fail"},
		{"args.o.p == 1", `{"o":{"p":1}}`, "allow"},
		{"args.o.p == 1", `{"o":{}}`, "fail"},
		{"args.o.p == 1", `{}`, "fail"},
		{"has(args.o) && args.o.p == 1", `{}`, "deny"},
		{"args.o.p == 1", `{"o":{"p":1,"P":2}}`, "fail"},
		{"args.n == 1", `{"n":1,"__proto__":{"x":1}}`, "fail"}, // JavaScript may take x for an argument
		{"args.n == null", `{"\u005f_proto__":{"n":1}}`, "fail"},
		{"args.o.p == 1", `{"o":{"p":1,"__proto__":{}}}`, "fail"},
		{"args.o.p == 1", `{"o":{"p":1},"P":2}`, "allow"},
		{"args.o.p == 1", `{"o":{"p":1},"O":{}}`, "fail"},
		{"args.l[0].k == 1", `{"l":[{"k":1},{"K":1}]}`, "fail"},
		{"args.l.exists(i, i.k == 1)", `{"l":[{"k":1}]}`, "allow"},
		{"args.l.exists(i, i.k == 1)", `{"l":[{"K":1}]}`, "fail"},
		{"args.is_k == true", `{"i\u017f_\u212a":true}`, "fail"},
		{"args.id == 1", `{"\u0130D":1}`, "fail"},
		{"args.x == 1 || true == args.y", `{"y":true}`, "allow"},
		{"args.x", `{"x":true}`, "allow"},
		{"args.x", `{"x":"true"}`, "fail"},
		{"args.x", `{}`, "fail"},
		{"args.x == 1", `[1]`, "fail"},
		{"args.x == 1", `{"x":1`, "fail"},
		{"token.sub == 'ann' && 'a' in token.scopes && token.iss == 'https://idp.example' && token.client_id == 'app'", `{}`, "allow"},
		{"token.groups.exists(g, g == 'x')", `{}`, "fail"},
		{"args.l.all(i, args.l.all(j, args.l.all(k, args.l.all(m, i+j+k+m >= 0))))", `{"l":[` + strings.Repeat("1,", 99) + `1]}`, "fail"}, // too dear
	} {
		p := mustPolicy(t, authorize.Config{Rules: []authorize.Rule{
			{Tools: authorize.Strings{"t"}, When: tc.when, Scopes: authorize.Strings{"a"}}}})
		if d := p.Decide(holder("a"), tool("t", tc.args)); outcomes[d.Outcome] != tc.outcome {
			t.Errorf("%s with %.60s: %s, want %s (%v)", tc.when, tc.args, outcomes[d.Outcome], tc.outcome, d.Err)
		}
	}
}

func TestClaimsInConditions(t *testing.T) {
	p := parsePolicy(t, `rules: [{tools: t, when: "token.department == 'it' && token.level > 3", scopes: a}]`)
	for claims, want := range map[string]string{
		`{"department":"it","level":4}`:   "allow",
		`{"department":"it","level":3}`:   "deny",
		`{"department":"law"}`:            "deny",
		`{"department":"it","level":"4"}`: "fail",
		`{"level":4}`:                     "fail",
		``:                                "fail",
		`[1]`:                             "fail",
	} {
		ann := holder("a")
		if claims != "" {
			ann.Claims = []byte(claims)
		}
		if d := p.Decide(ann, tool("t", "")); outcomes[d.Outcome] != want {
			t.Errorf("%s: %s, want %s (%v)", claims, outcomes[d.Outcome], want, d.Err)
		}
	}
	// A claim cannot take the place of what the verifier found.
	p = parsePolicy(t, `rules: [{tools: t, when: "token.sub == 'root'", scopes: a}]`)
	ann := holder("a")
	ann.Claims = []byte(`{"sub":"root"}`)
	if d := p.Decide(ann, tool("t", "")); d.Outcome != authorize.Deny {
		t.Errorf("a claim replaced the subject: %s", outcomes[d.Outcome])
	}
}

func TestAnnotationsInConditions(t *testing.T) {
	known := map[string]map[string]any{
		"silent": {}, "reader": {"readOnlyHint": true}, "gentle": {"destructiveHint": false}, "titled": {"title": "T"},
	}
	for _, tc := range []struct{ when, tool, outcome string }{
		{"tool.readOnlyHint", "reader", "allow"},
		{"tool.readOnlyHint", "silent", "deny"},
		{"tool.destructiveHint", "silent", "allow"},
		{"tool.destructiveHint", "reader", "deny"},
		{"tool.destructiveHint", "gentle", "deny"},
		{"tool.openWorldHint && !tool.idempotentHint", "silent", "allow"},
		{"has(tool.readOnlyHint)", "silent", "deny"},
		{"tool.title == 'T'", "titled", "allow"},
		{"tool.title == 'T'", "silent", "fail"},
		{"tool.readOnlyHint", "unknown", "fail"},
	} {
		p := mustPolicy(t, authorize.Config{
			Tools: func(name string) (map[string]any, bool) { a, ok := known[name]; return a, ok },
			Rules: []authorize.Rule{{Tools: authorize.Strings{"*"}, When: tc.when, Scopes: authorize.Strings{"a"}}}})
		if d := p.Decide(holder("a"), tool(tc.tool, "")); outcomes[d.Outcome] != tc.outcome {
			t.Errorf("%s of %s: %s, want %s (%v)", tc.when, tc.tool, outcomes[d.Outcome], tc.outcome, d.Err)
		}
	}
}

func TestMethodRulesAddToTargets(t *testing.T) {
	p := parsePolicy(t, `
baseline: base
rules:
  - methods: [tools/*, resources/read]
    scopes: extra
  - tools: [t]
    scopes: a
  - tools: [both]
    methods: [tools/call]
    scopes: b
  - resources: ["x:y"]
    scopes: r
  - methods: [prompts/list]
    deny: no prompts here
`)
	for _, tc := range []struct {
		held, what, want string
	}{
		{"base a b", "t", "challenge extra"},
		{"base a b extra", "t", "allow "},
		{"base extra b", "unknown", "deny "}, // a rule for methods alone allows no tool
		{"base extra", "both", "challenge b"},
		{"base", "tools/list", "challenge extra"},
		{"base", "prompts/list", "deny "},
		{"base", "resources/list", "allow "},
		{"base r", "x:y", "challenge extra"},
		{"base r", "subscribe x:y", "challenge extra"},
	} {
		call := tool(tc.what, "")
		switch {
		case strings.Contains(tc.what, "/"):
			call = request(tc.what)
		case strings.HasPrefix(tc.what, "subscribe "):
			call = read("x:y")
			call.Method = "resources/subscribe"
		case tc.what == "x:y":
			call = read(tc.what)
		}
		d := p.Decide(holder(tc.held), call)
		if got := outcomes[d.Outcome] + " " + d.Missing.String(); got != tc.want {
			t.Errorf("{%s} %s: %s, want %s", tc.held, tc.what, got, tc.want)
		}
	}
}

// bigPolicy has n rules for one exact name each, and some globs.
func bigPolicy(t testing.TB, n int) *authorize.Policy {
	t.Helper()
	c := authorize.Config{Baseline: "base", Implies: map[string]authorize.Strings{"admin": {"base", "use"}}}
	for i := range n {
		id := strconv.Itoa(i)
		c.Rules = append(c.Rules, authorize.Rule{Tools: authorize.Strings{"tool_" + id}, Resources: authorize.Strings{"note://x/" + id},
			Prompts: authorize.Strings{"prompt_" + id}, Scopes: authorize.Strings{"use s:" + id, "admin"}})
	}
	c.Rules = append(c.Rules,
		authorize.Rule{Tools: authorize.Strings{"tool_*", "*_admin"}, Scopes: authorize.Strings{"use"}},
		authorize.Rule{Prompts: authorize.Strings{"p*"}, Resources: authorize.Strings{"note://x/*", "note://x/{id}"}, Scopes: authorize.Strings{"use"}},
		authorize.Rule{Methods: authorize.Strings{"tools/call", "prompts/*"}, Scopes: authorize.Strings{"base", "admin"}})
	return mustPolicy(t, c)
}

func TestAllowedExactNamesAllocateNothing(t *testing.T) {
	p := bigPolicy(t, 10)
	ann := holder("x y admin z")
	for _, call := range []*struct {
		name string
		run  func() authorize.Decision
	}{
		{"tool", func() func() authorize.Decision {
			c := tool("tool_7", `{"a":1}`)
			return func() authorize.Decision { return p.Decide(ann, c) }
		}()},
		{"prompt", func() func() authorize.Decision {
			c := prompt("prompt_7", "")
			return func() authorize.Decision { return p.Decide(ann, c) }
		}()},
		{"resource", func() func() authorize.Decision {
			c := read("note://x/7")
			return func() authorize.Decision { return p.Decide(ann, c) }
		}()},
		{"connection", func() func() authorize.Decision {
			c := request("ping")
			return func() authorize.Decision { return p.Decide(ann, c) }
		}()},
	} {
		if d := call.run(); d.Outcome != authorize.Allow || len(d.Required) == 0 || len(d.Rules) == 0 {
			t.Errorf("%s: %+v", call.name, d)
		}
		if n := testing.AllocsPerRun(100, func() { call.run() }); n != 0 {
			t.Errorf("%s: %v allocations", call.name, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	ann := holder("x y admin z")
	for _, n := range []int{10, 100_000} {
		p := bigPolicy(b, n)
		for name, call := range map[string]string{"exact": "tool_7", "glob": "tool_new", "unknown": "other"} {
			c := tool(call, "")
			b.Run(name+"/rules="+strconv.Itoa(n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					p.Decide(ann, c)
				}
			})
		}
	}
}
