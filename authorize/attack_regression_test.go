package authorize_test

import (
	"strings"
	"testing"

	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/message"
)

// The tests in this file are attacks that once got through.

// TestArgumentsOfAnotherType sends values that CEL finds different from what a
// condition compares them with, and that lenient servers convert to it.
func TestArgumentsOfAnotherType(t *testing.T) {
	for _, c := range []struct{ when, args, want string }{
		{"args.permanent == true", `{"permanent":true}`, "challenge"},
		{"args.permanent == true", `{"permanent":false}`, "allow"},
		{"args.permanent == true", `{"permanent":null}`, "allow"},
		{"args.permanent == true", `{}`, "allow"},
		{"args.permanent == true", `{"permanent":"true"}`, "fail"},
		{"args.permanent == true", `{"permanent":1}`, "fail"},
		{"args.permanent == true", `{"permanent":[true]}`, "fail"},
		{"true == args.permanent", `{"permanent":"yes"}`, "fail"},
		{"args['permanent'] == true", `{"permanent":"yes"}`, "fail"},
		{"args.permanent != true", `{"permanent":"true"}`, "fail"},
		{"args.count == 3", `{"count":"3"}`, "fail"},
		{"args.count == 3", `{"count":3.0}`, "challenge"},
		{"args.count == 3.5", `{"count":4}`, "allow"},
		{"args.mode in ['all', 'some']", `{"mode":["all"]}`, "fail"},
		{"args.mode in ['all', 'some']", `{"mode":"all"}`, "challenge"},
		{"args.mode in ['all', 1]", `{"mode":1}`, "challenge"},
		{"args.mode in ['all', 1]", `{"mode":true}`, "fail"},
		{"args.force == true || args.force == 'true'", `{"force":"true"}`, "challenge"},
		{"args.force == true || args.force == 'true'", `{"force":1}`, "fail"},
		{"args.o.deep == true", `{"o":{"deep":"true"}}`, "fail"},
		{"has(args.o.deep) && args.o.deep == true", `{"o":"{\"deep\":true}"}`, "fail"},
		{"has(args.o.deep) && args.o.deep == true", `{"o":{"deep":true}}`, "challenge"},
		{"has(args.o.deep) && args.o.deep == true", `{"o":{}}`, "allow"},
		{"has(args.o) && args.o == null", `{"o":"x"}`, "allow"},
		{"args.tags == ['a']", `{"tags":"[\"a\"]"}`, "fail"},
		{"args.tags == ['a']", `{"tags":["a"]}`, "challenge"},
		{"string(args.permanent) == 'true'", `{"permanent":"true"}`, "challenge"},
		{"args.a == args.b", `{"a":"x","b":1}`, "allow"},
	} {
		p := parsePolicy(t, "baseline: r\nrules:\n  - tools: [d]\n    scopes: r\n  - tools: [d]\n    scopes: admin\n    when: "+
			`"`+c.when+`"`+"\n")
		if d := p.Decide(holder("r"), tool("d", c.args)); outcomes[d.Outcome] != c.want {
			t.Errorf("%s with %s: %s (%v), want %s", c.when, c.args, outcomes[d.Outcome], d.Err, c.want)
		}
	}
}

// TestAnonymousInOneFormOnly reads, without a token, resources of which only one
// form is anonymous, and calls what only a rule for the method lets in.
func TestAnonymousInOneFormOnly(t *testing.T) {
	p := parsePolicy(t, `
rules:
  - resources: ["file:///pub/*", "ui://app/pub/*"]
    anonymous: true
  - methods: [tools/call, prompts/get]
    anonymous: true
`)
	for _, c := range []struct {
		call *message.Call
		want string
	}{
		{read("file:///pub/a"), "allow"},
		{read("FILE:///pub/a"), "authenticate"},
		{read("file:///pub/../secret"), "authenticate"},
		{read("file:///secret/../pub/a"), "authenticate"},
		{read("file:///pub/%2e%2e/secret"), "authenticate"},
		{read("ui://app/pub/a"), "allow"},
		{read("ui://app/pub/../secret"), "authenticate"},
		{tool("drop_everything", ""), "authenticate"},
		{prompt("any", ""), "authenticate"},
	} {
		if d := p.Decide(nil, c.call); outcomes[d.Outcome] != c.want {
			t.Errorf("%s %s%s: %s, want %s", c.call.Method, c.call.Name, c.call.URI, outcomes[d.Outcome], c.want)
		}
	}
}

// TestURIsThatServersReadAlike reads what a rule denies by URIs that only a broad
// rule names, in spellings that many servers take for the same resource.
func TestURIsThatServersReadAlike(t *testing.T) {
	p := parsePolicy(t, `
baseline: r
rules:
  - resources: ["file:///*", "note://*"]
    scopes: r
  - resources: ["file:///secret/*", "note://secret", "note://box/key", "note://caf\u00e9", "note://b%C3%A9"]
    scopes: admin
`)
	for _, c := range []struct{ uri, want string }{
		{"file:///secret/key", "challenge"},
		{"file:////secret/key", "challenge"},
		{"file:///secret%2Fkey", "challenge"},
		{"file:///secret%2fkey", "challenge"},
		{"file:///%2Fsecret/key", "challenge"},
		{`file:///secret\key`, "challenge"},
		{"file:///secret%5Ckey", "challenge"},
		{"file://localhost/secret/key", "deny"}, // no rule names it
		{"note://secret", "challenge"},
		{"note://secret#", "challenge"},
		{"note://secret#part", "challenge"},
		{"note://secret?", "challenge"},
		{"note://secret:", "challenge"},
		{"note://secret/", "challenge"},
		{"note://me@secret", "challenge"},
		{"note://box//key", "challenge"},
		{"note://box/key/", "challenge"},
		{"note://box%2Fkey", "challenge"},
		{"note://caf\u00e9", "challenge"},
		{"note://cafe\u0301", "challenge"},
		{"note://caf%C3%A9", "challenge"},
		{"note://cafe%cc%81", "challenge"},
		{"note://b\u00e9", "challenge"},
		{"note://be\u0301", "challenge"},
		{"note://be%CC%81", "challenge"},
		{"note://ne%CC%81e", "allow"},
		{"note://%FF", "allow"},
		{"note://other", "allow"},
		{"note://box/other#secret", "allow"},
		{"file:///public/a%20b//c", "allow"},
	} {
		if d := p.Decide(holder("r"), read(c.uri)); outcomes[d.Outcome] != c.want {
			t.Errorf("%s: %s (%v), want %s", c.uri, outcomes[d.Outcome], d.Rules, c.want)
		}
	}
}

// TestEncodedSlashInAVariable keeps a slash inside the value of a variable, which
// is how RFC 6570 writes it, readable with the scope for that value.
func TestEncodedSlashInAVariable(t *testing.T) {
	p := parsePolicy(t, "rules:\n  - resources: ['note://{id}']\n    scopes: 'item:{id}'\n")
	if d := p.Decide(holder("item:a/b"), read("note://a%2Fb")); outcomes[d.Outcome] != "allow" {
		t.Errorf("%s (%s), want allow", outcomes[d.Outcome], d.Reason)
	}
}

// TestScopesThatNoChallengeCanName reads resources whose scopes would be left out
// of the challenge: a login for the rest of it would change nothing (DES-21).
func TestScopesThatNoChallengeCanName(t *testing.T) {
	p := parsePolicy(t, "baseline: r\nrules:\n  - resources: ['note://{id}']\n    scopes: 'item:{id}'\n  - tools: [x]\n    scopes: '{id}'\n")
	for id, want := range map[string]string{
		"a%3D": "challenge", "a%2Cb": "challenge",
		"scope%3Dadmin": "deny", "a,Resource_Metadata%3Dhttps:": "deny", "error%3D": "deny", strings.Repeat("a", 508): "deny",
	} {
		d := p.Decide(holder("r"), read("note://"+id))
		if outcomes[d.Outcome] != want {
			t.Errorf("%.40s: %s, want %s", id, outcomes[d.Outcome], want)
		}
		for _, token := range d.Required {
			if err := challenge.CheckScope(token); err != nil {
				t.Errorf("%.40s is asked for: %v", token, err)
			}
		}
	}
	if d := p.Decide(holder("r"), tool("x", `{"id":"=a"}`)); d.Outcome != authorize.Deny {
		t.Errorf("=a: %s, want deny", outcomes[d.Outcome])
	}
}

// TestNamesThatLookAlike calls what a pattern lets through by names that a lenient
// server could take for the one that another rule is strict about.
func TestNamesThatLookAlike(t *testing.T) {
	p := parsePolicy(t, `
default: r
rules:
  - tools: ["*"]
    prompts: ["*"]
    scopes: r
  - tools: [delete_note]
    prompts: [delete_note]
    scopes: admin
  - tools: [Both, both]
    scopes: r
  - tools: [löschen, "straße_*", "e\u0301xact"]
    prompts: [löschen, "straße_*", "e\u0301xact"]
    scopes: admin
`)
	for name, want := range map[string]string{
		"delete_note": "challenge", "Delete_Note": "deny", " delete_note": "deny", "delete_note ": "deny",
		"delete\u200b_note": "deny", "\ufeffdelete_note": "deny", "delete_notes": "allow", "both": "allow", "Both": "allow",
		// The same letters composed in another way, or wide ones.
		"löschen": "challenge", "lo\u0308schen": "deny", "ｄelete_note": "deny", "LO\u0308SCHEN": "deny",
		"stra\u00dfe_a": "challenge", "straße_a\u0308": "deny", "re\u0301sume": "deny", "r\u00e9sume": "allow",
		"e\u0301xact": "challenge", "\u00e9xact": "deny",
	} {
		for _, call := range []*message.Call{tool(name, ""), prompt(name, "")} {
			if d := p.Decide(holder("r"), call); outcomes[d.Outcome] != want {
				t.Errorf("%s %q: %s, want %s", call.Method, name, outcomes[d.Outcome], want)
			}
		}
	}
}
