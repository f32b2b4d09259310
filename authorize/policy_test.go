package authorize_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
)

// contract is the policy of contract.md.
const contract = `
baseline: notes:read
implies:
  notes:admin: [notes:write]
  notes:write: notes:read
challenge: union
default: deny
list: show
rules:
  - tools: [list_notes, "get_*"]
    scopes: notes:read
  - tools: [export_notes]
    scopes: ["notes:read tags:read", "notes:admin"]
  - tools: [delete_note]
    scopes: notes:write
  - tools: [delete_note]
    when: args.permanent == true
    scopes: notes:admin
  - resources: ["note://{id}"]
    scopes: "notes:read notes:item:{id}"
  - resources: ["file:///public/*", "file:///readme"]
    scopes: files:read
  - prompts: [summarise]
    scopes: notes:read
  - tools: [ping]
    anonymous: true
  - tools: [drop_everything]
    deny: "not offered through this gateway"
  - tools: [item_of]
    scopes: "item:{id}"
  - tools: [admin_*]
    when: token.department == "it"
    scopes: notes:admin
  - tools: [annotated]
    when: tool.destructiveHint == true
    scopes: notes:write
  - tools: [annotated]
    scopes: notes:read
  - tools: [unheard]
    when: tool.readOnlyHint == true
    scopes: notes:read
  - methods: ["acme/*"]
    scopes: acme
  - methods: [logging/setLevel]
    scopes: ops
  - methods: [acme/strict]
    when: args.level > 3
    scopes: acme:high
  - prompts: [tuned]
    when: args.tone == "dark"
    scopes: tones
  - prompts: [open]
    anonymous: true
  - tools: [twice]
    scopes: [a, b c]
  - tools: [twice]
    scopes: [c, d]
`

func annotations(name string) (map[string]any, bool) {
	switch name {
	case "annotated":
		return map[string]any{}, true
	case "gentle":
		return map[string]any{"readOnlyHint": true}, true
	}
	return nil, false
}

func contractPolicy(t testing.TB) *authorize.Policy {
	t.Helper()
	c := mustDecode(t, contract)
	c.Tools = annotations
	return mustPolicy(t, c)
}

// TestDecide reads as the policy: who holds what, what they try, and what comes
// of it.
func TestDecide(t *testing.T) {
	p := contractPolicy(t)
	stream, end, answer := &message.Call{Kind: message.Stream}, &message.Call{Kind: message.Close}, &message.Call{Kind: message.Response}
	notification := &message.Call{Kind: message.Notification, Method: "notifications/initialized"}
	for _, tc := range []struct {
		held     string // "-": no token
		call     *message.Call
		outcome  string
		required string
		missing  string
		rules    string
	}{
		// The baseline counts for every operation.
		{"notes:read", request("initialize"), "allow", "notes:read", "", "baseline"},
		{"tags:read", request("initialize"), "challenge", "notes:read", "notes:read", "baseline"},
		{"notes:admin", request("initialize"), "allow", "notes:read", "", "baseline"},
		{"tags:read", request("server/discover"), "challenge", "notes:read", "notes:read", "baseline"},
		{"tags:read", request("ping"), "challenge", "notes:read", "notes:read", "baseline"},
		{"tags:read", stream, "challenge", "notes:read", "notes:read", "baseline"},
		{"notes:read", stream, "allow", "notes:read", "", "baseline"},
		{"tags:read", end, "challenge", "notes:read", "notes:read", "baseline"},
		{"tags:read", answer, "challenge", "notes:read", "notes:read", "baseline"},
		{"tags:read", notification, "challenge", "notes:read", "notes:read", "baseline"},
		{"notes:read", notification, "allow", "notes:read", "", "baseline"},
		{"notes:read", request("tools/list"), "allow", "notes:read", "", "baseline"},
		{"notes:read", request("subscriptions/listen"), "allow", "notes:read", "", "baseline"},

		// Exact names and globs.
		{"notes:read", tool("list_notes", ""), "allow", "notes:read", "", "rules[0]"},
		{"notes:write", tool("get_note", ""), "allow", "notes:read", "", "rules[0]"},
		{"notes:read", tool("Get_note", ""), "deny", "", "", "default"},
		{"notes:read", tool("LIST_NOTES", ""), "deny", "", "", "default"},
		{"notes:read", tool("unknown", ""), "deny", "", "", "default"},
		{"notes:read", tool("delete_note", ""), "challenge", "notes:read notes:write", "notes:write", "rules[2]"},

		// Any-of: the alternative that lacks fewest, the first of equals.
		{"notes:read", tool("export_notes", ""), "challenge", "notes:read tags:read", "tags:read", "rules[1]"},
		{"", tool("export_notes", ""), "challenge", "notes:read tags:read", "notes:read tags:read", "rules[1]"},
		{"notes:admin", tool("export_notes", ""), "allow", "notes:read notes:admin", "", "rules[1]"},
		{"notes:read tags:read", tool("export_notes", ""), "allow", "notes:read tags:read", "", "rules[1]"},
		{"notes:read", tool("twice", ""), "challenge", "notes:read a c", "a c", "rules[19] rules[20]"},
		{"notes:read c", tool("twice", ""), "challenge", "notes:read a c", "a", "rules[19] rules[20]"},
		{"notes:read b", tool("twice", ""), "challenge", "notes:read b c", "c", "rules[19] rules[20]"},
		{"notes:read a d", tool("twice", ""), "allow", "notes:read a d", "", "rules[19] rules[20]"},

		// Conditions over arguments; what was not sent is null.
		{"notes:write", tool("delete_note", `{"permanent":true}`), "challenge", "notes:read notes:write notes:admin", "notes:admin", "rules[2] rules[3]"},
		{"notes:write", tool("delete_note", `{"permanent":false}`), "allow", "notes:read notes:write", "", "rules[2]"},
		{"notes:write", tool("delete_note", `{"permanent":null}`), "allow", "notes:read notes:write", "", "rules[2]"},
		{"notes:write", tool("delete_note", `{"permanent":"true"}`), "fail", "", "", "rules[2]"},
		{"notes:write", tool("delete_note", `{}`), "allow", "notes:read notes:write", "", "rules[2]"},
		{"notes:admin", tool("delete_note", `{"permanent":true}`), "allow", "notes:read notes:write notes:admin", "", "rules[2] rules[3]"},
		{"notes:admin", tool("delete_note", `{"Permanent":true}`), "fail", "", "", "rules[2]"},
		{"notes:admin", tool("delete_note", `{"permanent":false,"PERMANENT":true}`), "fail", "", "", "rules[2]"},
		{"notes:admin", tool("delete_note", `{"permanent\u0000x":true}`), "fail", "", "", "rules[2]"},
		{"notes:admin", tool("delete_note", `{"permanent":1,"permanent":2}`), "fail", "", "", "rules[2]"},

		// Conditions over the token and the annotations of the tool.
		{"notes:read", tool("admin_x", ""), "fail", "", "", "baseline"},
		{"notes:read", tool("annotated", ""), "challenge", "notes:read notes:write", "notes:write", "rules[11] rules[12]"},
		{"notes:read", tool("unheard", ""), "fail", "", "", "baseline"},

		// Resources: templates, wildcards, normal form.
		{"notes:read notes:item:7", read("note://7"), "allow", "notes:read notes:item:7", "", "rules[4]"},
		{"notes:read", read("note://7"), "challenge", "notes:read notes:item:7", "notes:item:7", "rules[4]"},
		{"notes:read notes:item:7", read("note://%37"), "allow", "notes:read notes:item:7", "", "rules[4]"},
		{"notes:read notes:item:7", read("NOTE://7"), "deny", "", "", "default"},
		{"notes:read", read("note://a%2Ab"), "deny", "", "", "rules[4]"},
		{"notes:read", read("note://a%20b"), "deny", "", "", "rules[4]"},
		{"notes:read", read("note://a/b"), "deny", "", "", "default"},
		{"notes:read", read("note://"), "deny", "", "", "default"},
		{"notes:read files:read", read("file:///public/a/b.txt"), "allow", "notes:read files:read", "", "rules[5]"},
		{"notes:read files:read", read("file:///public/a/../b.txt"), "allow", "notes:read files:read", "", "rules[5]"},
		{"notes:read files:read", read("file:///public/../secret"), "deny", "", "", "default"},
		{"notes:read files:read", read("file:///public/%2e%2e/secret"), "deny", "", "", "default"},
		{"notes:read files:read", read("file:///public/..%2fsecret"), "deny", "", "", "default"},
		{"notes:read files:read", read("file:///public/%252e%252e%252fsecret"), "deny", "", "", "default"},
		{"notes:read files:read", read(`file:///public/..\secret`), "deny", "", "", "default"},
		{"notes:read files:read", read("file:///public//../secret"), "deny", "", "", "default"},
		{"notes:read files:read", read("file:///readme"), "allow", "notes:read files:read", "", "rules[5]"},
		{"notes:read", read("file:///private"), "deny", "", "", "default"},
		{"notes:read", read("ui://widget/page.html"), "allow", "notes:read", "", "baseline"},
		{"", read("ui://widget/page.html"), "challenge", "notes:read", "notes:read", "baseline"},

		// Scopes made of arguments.
		{"notes:read item:9", tool("item_of", `{"id":9}`), "allow", "notes:read item:9", "", "rules[9]"},
		{"notes:read item:x-y", tool("item_of", `{"id":"x-y"}`), "allow", "notes:read item:x-y", "", "rules[9]"},
		{"notes:read", tool("item_of", `{"id":true}`), "challenge", "notes:read item:true", "item:true", "rules[9]"},
		{"notes:read", tool("item_of", `{"id":"*"}`), "deny", "", "", "rules[9]"},
		{"notes:read", tool("item_of", `{"id":"a b"}`), "deny", "", "", "rules[9]"},
		{"notes:read", tool("item_of", `{"id":""}`), "deny", "", "", "rules[9]"},
		{"notes:read", tool("item_of", `{"id":[1]}`), "deny", "", "", "rules[9]"},
		{"notes:read", tool("item_of", `{"id":1.5}`), "deny", "", "", "rules[9]"},
		{"notes:read", tool("item_of", ``), "deny", "", "", "rules[9]"},
		{"notes:read item:9", tool("item_of", `{"id":9,"ID":8}`), "fail", "", "", "baseline"},

		// Subscribing and completion need what their target needs.
		{"notes:read", &message.Call{Kind: message.Request, Method: "resources/subscribe", URI: "file:///readme"}, "challenge", "notes:read files:read", "files:read", "rules[5]"},
		{"notes:read", &message.Call{Kind: message.Request, Method: "resources/unsubscribe", URI: "file:///x"}, "deny", "", "", "default"},
		{"notes:read", &message.Call{Kind: message.Request, Era: message.Era2026, Method: "resources/subscribe"}, "deny", "", "", "default"},
		{"notes:read", &message.Call{Kind: message.Request, Era: message.Era2025, Method: "resources/subscribe"}, "fail", "", "", ""},
		{"notes:read", complete("ref/prompt", "summarise"), "allow", "notes:read", "", "rules[6]"},
		{"notes:read", complete("ref/prompt", "tuned"), "challenge", "notes:read tones", "tones", "rules[17]"},
		{"notes:read", complete("ref/prompt", "other"), "deny", "", "", "default"},
		{"notes:read", complete("ref/resource", "note://{id}"), "deny", "", "", "rules[4]"},
		{"notes:read", complete("ref/resource", "file:///readme"), "challenge", "notes:read files:read", "files:read", "rules[5]"},
		{"notes:read", complete("ref/tool", "ping"), "fail", "", "", ""},

		// Methods: more for known ones, the only way for unknown ones.
		{"notes:read", request("logging/setLevel"), "challenge", "notes:read ops", "ops", "rules[15]"},
		{"notes:read acme", request("acme/do"), "allow", "notes:read acme", "", "rules[14]"},
		{"notes:read", request("tasks/get"), "deny", "", "", "default"},
		{"notes:read acme", &message.Call{Kind: message.Request, Method: "acme/strict", Params: []byte(`{"level":4}`)}, "challenge", "notes:read acme acme:high", "acme:high", "rules[14] rules[16]"},
		{"notes:read acme", &message.Call{Kind: message.Request, Method: "acme/strict", Params: []byte(`{"level":3}`)}, "allow", "notes:read acme", "", "rules[14]"},
		{"notes:read", &message.Call{Kind: message.Notification, Method: "foo"}, "deny", "", "", "default"},

		// Without a token.
		{"-", request("initialize"), "allow", "", "", "baseline"},
		{"-", request("tools/list"), "allow", "", "", "baseline"},
		{"-", notification, "allow", "", "", "baseline"},
		{"-", request("ping"), "authenticate", "notes:read", "", "baseline"},
		{"-", stream, "authenticate", "notes:read", "", "baseline"},
		{"-", answer, "authenticate", "notes:read", "", "baseline"},
		{"-", tool("ping", ""), "allow", "", "", "rules[7]"},
		{"-", tool("list_notes", ""), "authenticate", "notes:read", "", "baseline"},
		{"-", tool("unknown", ""), "authenticate", "notes:read", "", "baseline"},
		{"-", tool("admin_x", ""), "authenticate", "notes:read", "", "baseline"},
		{"-", tool("drop_everything", ""), "deny", "", "", "rules[8]"},
		{"-", prompt("open", ""), "allow", "", "", "rules[18]"},
		{"-", complete("ref/prompt", "open"), "allow", "", "", "rules[18]"},
		{"-", request("subscriptions/listen"), "authenticate", "notes:read", "", "baseline"},

		// A denial is final, whatever is held.
		{"notes:admin", tool("drop_everything", ""), "deny", "", "", "rules[8]"},
		{"", tool("drop_everything", ""), "deny", "", "", "rules[8]"},
		{"tags:read", tool("ping", ""), "challenge", "notes:read", "notes:read", "rules[7]"},
	} {
		name := tc.held + " " + tc.call.Method + " " + tc.call.Name + tc.call.URI + string(tc.call.Args)
		d := p.Decide(holder(tc.held), tc.call)
		got := []string{outcomes[d.Outcome], d.Required.String(), d.Missing.String(), strings.Join(d.Rules, " ")}
		want := []string{tc.outcome, tc.required, tc.missing, tc.rules}
		if d.Outcome == authorize.Fail {
			got, want = got[:1], want[:1]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s%v", name, diff, d.Err)
		}
		if (d.Err != nil) != (d.Outcome == authorize.Fail) || (d.Reason != "") != (d.Outcome == authorize.Deny) {
			t.Errorf("%s: %v with error %v and reason %q", name, outcomes[d.Outcome], d.Err, d.Reason)
		}
	}
}

func TestDecideSaysWhy(t *testing.T) {
	p := contractPolicy(t)
	for _, tc := range []struct {
		held string
		call *message.Call
		says string
	}{
		{"notes:read", tool("drop_everything", ""), "not offered through this gateway"},
		{"notes:read", tool("nothing_such", ""), "no rule of this gateway allows nothing_such. Ask whoever runs it."},
		{"notes:read", tool("b\"ad\r\n", ""), "no rule of this gateway allows this. Ask whoever runs it."},
		{"notes:read", tool("item_of", `{}`), "the value of id is missing"},
		{"notes:read", complete("ref/resource", "note://{id}"), "still being written"},
		{"notes:read", read("file:///public/..%2fx"), "hides dot segments"},
		{"notes:read", tool("admin_x", ""), "rules[10]: no such key: department"},
		{"notes:read", tool("unheard", ""), "rules[13]: the annotations of the tool are not known"},
		{"notes:admin", tool("delete_note", `{"PERMANENT":true}`), `rules[3]: the arguments have a member that some servers would take for "permanent"`},
	} {
		d := p.Decide(holder(tc.held), tc.call)
		text := d.Reason
		if d.Err != nil {
			text = d.Err.Error()
		}
		if !strings.Contains(text, tc.says) {
			t.Errorf("%s%s: %q does not say %q", tc.call.Name, tc.call.URI, text, tc.says)
		}
	}
}

func TestAlternativesAreToldInFileOrder(t *testing.T) {
	p := contractPolicy(t)
	d := p.Decide(holder("notes:read"), tool("twice", ""))
	want := []scope.Set{{"notes:read", "a", "d"}, {"notes:read", "b", "c"}, {"notes:read", "b", "c", "d"}}
	if diff := cmp.Diff(want, d.Alternatives); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if d := p.Decide(holder("notes:admin"), tool("twice", "")); len(d.Alternatives) != 3 {
		t.Errorf("%d alternatives, want 3", len(d.Alternatives))
	}
}

func TestZeroInputsFail(t *testing.T) {
	p := contractPolicy(t)
	nobody := holder("notes:read")
	nobody.Profile = nil
	for name, d := range map[string]authorize.Decision{
		"no call":      p.Decide(holder("notes:read"), nil),
		"zero call":    p.Decide(holder("notes:read"), &message.Call{}),
		"no method":    p.Decide(holder("notes:read"), &message.Call{Kind: message.Request}),
		"unknown kind": p.Decide(holder("notes:read"), &message.Call{Kind: 99, Method: "ping"}),
		"no profile":   p.Decide(nobody, request("ping")),
		"no tool":      p.Decide(holder("notes:read"), tool("", "")),
		"no uri":       p.Decide(holder("notes:read"), read("")),
	} {
		if d.Outcome != authorize.Fail || d.Err == nil {
			t.Errorf("%s: %s, %v", name, outcomes[d.Outcome], d.Err)
		}
	}
}

func TestWithoutAnonymousRulesEveryoneSignsIn(t *testing.T) {
	p := parsePolicy(t, "baseline: a\nrules: [{tools: [x], scopes: b}, {tools: [y], deny: never}]")
	for _, call := range []*message.Call{request("initialize"), request("tools/list"), tool("x", ""), tool("y", ""), tool("z", "")} {
		if d := p.Decide(nil, call); d.Outcome != authorize.Authenticate {
			t.Errorf("%s %s: %s", call.Method, call.Name, outcomes[d.Outcome])
		}
	}
	if p.Anonymous() {
		t.Error("Anonymous")
	}
}

func TestWhatCannotBeGrantedIsNotAskedFor(t *testing.T) {
	p := contractPolicy(t)
	ann := holder("notes:read")
	ann.Profile.Grantable = []string{"notes:*", "a", "d"}
	ann.Profile.ScopePrefix = "api/"
	for _, tc := range []struct {
		call    *message.Call
		outcome string
		missing string
	}{
		{tool("export_notes", ""), "challenge", "notes:admin"}, // tags:read cannot be had
		{tool("twice", ""), "challenge", "a d"},
		{read("file:///readme"), "deny", "files:read"},
		{read("note://7"), "challenge", "notes:item:7"},
	} {
		d := p.Decide(ann, tc.call)
		if outcomes[d.Outcome] != tc.outcome || d.Missing.String() != tc.missing {
			t.Errorf("%s%s: %s, missing %q", tc.call.Name, tc.call.URI, outcomes[d.Outcome], d.Missing)
		}
	}
	if d := p.Decide(ann, read("file:///readme")); !strings.Contains(d.Reason, "files:read, which https://idp.example does not grant") {
		t.Errorf("reason %q", d.Reason)
	}
	ann.Profile.Grantable = []string{"api/files:read"}
	if d := p.Decide(ann, read("file:///readme")); d.Outcome != authorize.Challenge {
		t.Errorf("a scope in the issuer's own words: %s", outcomes[d.Outcome])
	}
	key := holder("notes:read")
	key.Final = true
	if d := p.Decide(key, tool("delete_note", "")); d.Outcome != authorize.Deny || !strings.Contains(d.Reason, "lacks the scopes notes:write") {
		t.Errorf("a final credential: %s, %q", outcomes[d.Outcome], d.Reason)
	}
}

func TestTooManyWaysToMeetTheRulesFail(t *testing.T) {
	c := authorize.Config{}
	for range 5 {
		c.Rules = append(c.Rules, authorize.Rule{Tools: authorize.Strings{"x"},
			Scopes: authorize.Strings{"a b", "c d", "e f", "g h", "i j", "k l"}})
	}
	p := mustPolicy(t, c)
	d := p.Decide(holder("z"), tool("x", ""))
	if d.Outcome != authorize.Fail || !strings.Contains(d.Err.Error(), "rules[0], rules[1]") {
		t.Errorf("%s, %v", outcomes[d.Outcome], d.Err)
	}
	if d := p.Decide(holder("k l"), tool("x", "")); d.Outcome != authorize.Allow || d.Required.String() != "k l" {
		t.Errorf("what is met needs no comparing: %s, %q", outcomes[d.Outcome], d.Required)
	}
}

func TestDefaultRequirement(t *testing.T) {
	p := parsePolicy(t, "baseline: a\ndefault: [x, y]\nrules: [{tools: [t], when: args.n == 1, scopes: b}]")
	for _, tc := range []struct {
		held string
		call *message.Call
		want string
	}{
		{"a x", tool("other", ""), "allow default"},
		{"a y", request("acme/do"), "allow default"},
		{"a", tool("other", ""), "challenge default"},
		{"a b", tool("t", `{"n":1}`), "allow rules[0]"},
		{"a b", tool("t", `{"n":2}`), "challenge default"},
		{"a", request("ping"), "allow baseline"},
		{"a y", read("any:thing"), "allow default"},
	} {
		d := p.Decide(holder(tc.held), tc.call)
		if got := outcomes[d.Outcome] + " " + strings.Join(d.Rules, " "); got != tc.want {
			t.Errorf("%s %s: %s, want %s", tc.held, tc.call.Name, got, tc.want)
		}
	}
}

func TestExtend(t *testing.T) {
	p := contractPolicy(t)
	ann := holder("notes:read")
	allowed := p.Decide(ann, tool("list_notes", ""))
	d := p.Extend(ann, allowed, scope.Set{"tags:read", "notes:read", "offline_access", `b"`})
	if d.Outcome != authorize.Challenge || d.Required.String() != "notes:read tags:read" || d.Missing.String() != "tags:read" {
		t.Errorf("%s, required %q, missing %q", outcomes[d.Outcome], d.Required, d.Missing)
	}
	if diff := cmp.Diff([]string{"rules[0]", "upstream"}, d.Rules); diff != "" {
		t.Error(diff)
	}
	for name, scopes := range map[string]scope.Set{"held already": {"notes:read"}, "none named": nil, "none usable": {"a b"}} {
		if d := p.Extend(ann, allowed, scopes); d.Outcome != authorize.Deny || d.Reason == "" {
			t.Errorf("%s: %s", name, outcomes[d.Outcome])
		}
	}
	if d := p.Extend(nil, allowed, scope.Set{"x"}); d.Outcome != authorize.Authenticate {
		t.Errorf("without a token: %s", outcomes[d.Outcome])
	}
	// An upstream cannot make people grant what has nothing to do with it.
	for _, scopes := range []scope.Set{{"mail:send"}, {"tags:read", "mail:send"}} {
		if d := p.Extend(ann, allowed, scopes); d.Outcome != authorize.Deny || !strings.Contains(d.Reason, "does not know") {
			t.Errorf("%s: %s, %s", scopes, outcomes[d.Outcome], d.Reason)
		}
	}
	// What the rule's variables, or the list of the issuer, stand for is known.
	if d := p.Extend(ann, allowed, scope.Set{"notes:item:7"}); d.Outcome != authorize.Challenge {
		t.Errorf("with a variable: %s", outcomes[d.Outcome])
	}
	ann.Profile.Grantable = []string{"mail:*"}
	if d := p.Extend(ann, allowed, scope.Set{"mail:send"}); d.Outcome != authorize.Challenge {
		t.Errorf("what the issuer grants: %s", outcomes[d.Outcome])
	}
	ann.Profile.Grantable = []string{"notes:*"}
	if d := p.Extend(ann, allowed, scope.Set{"x"}); d.Outcome != authorize.Deny {
		t.Errorf("what cannot be granted: %s", outcomes[d.Outcome])
	}
}

func TestRuleDescribesItself(t *testing.T) {
	p := contractPolicy(t)
	for name, want := range map[string]string{
		"rules[3]": "rules[3]: tools delete_note; when args.permanent == true; scopes notes:admin",
		"rules[1]": "rules[1]: tools export_notes; scopes notes:read tags:read or notes:admin",
		"rules[7]": "rules[7]: tools ping; anonymous",
		"rules[8]": "rules[8]: tools drop_everything; deny not offered through this gateway",
		"default":  "default: deny",
		"baseline": "baseline: notes:read",
		"nonsense": "",
	} {
		if got := p.Rule(name); got != want {
			t.Errorf("Rule(%q) = %q, want %q", name, got, want)
		}
	}
}
