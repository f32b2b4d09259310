package authorize_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/message"
)

// FuzzParsePolicy reads policy files of strangers: each is refused, or has
// problems, or is a policy that decides without error for calls that depend on
// nothing, and that denies what no rule names.
func FuzzParsePolicy(f *testing.F) {
	for _, seed := range []string{contract, listPolicy, "", "baseline: a\nrules: []", "default: [a, b c]",
		`rules: [{tools: ["[!a-z]*", "\\*"], scopes: "x:{id}"}]`,
		`rules: [{resources: ["a://{b}/{c}", "*:%7e/../*"], when: "uri.startsWith('a')", scopes: a}]`,
		"implies:\n  '*': a\n  a: b", "carry_scopes: openid\nlist: granted\nchallenge: extended"} {
		f.Add([]byte(seed), "some_tool", "a://b/../c")
	}
	f.Fuzz(func(t *testing.T, text []byte, name, uri string) {
		c, err := decode(string(text))
		if err != nil {
			return
		}
		p, err := authorize.New(c)
		if err != nil {
			var list problem.List
			if !errors.As(err, &list) || len(list) == 0 || p != nil {
				t.Fatalf("New returned %v, %v", p, err)
			}
			return
		}
		for _, held := range []string{"-", "", p.Catalogue().String()} {
			id := holder(held)
			for _, call := range []*message.Call{tool(name, `{"id":1}`), prompt(name, ""), read(uri), complete("ref/resource", uri), request("acme/none")} {
				d := p.Decide(id, call)
				if d.Outcome == authorize.Allow && id != nil && len(p.Baseline().Without(d.Required)) > 0 {
					t.Fatalf("%s is allowed without the baseline", call.Method)
				}
				if len(c.Rules) == 0 && (len(c.Default) == 0 || c.Default[0] == "deny") && d.Outcome == authorize.Allow && !isPage(uri, call) {
					t.Fatalf("%s is allowed by no rule", call.Method)
				}
				p.Advertise(id, d)
			}
		}
	})
}

// isPage reports whether the call is of a ui:// page, which needs no rule.
func isPage(uri string, call *message.Call) bool {
	return (call.URI != "" || call.RefType == "ref/resource") && strings.HasPrefix(strings.ToLower(uri), "ui://")
}

// FuzzRewriteList sends answers of strangers through policies: what comes out is
// strict JSON with the kept entries byte for byte and in order, and no hidden one.
func FuzzRewriteList(f *testing.F) {
	f.Add([]byte(listOf("tools", "name", "read", "gone", "free", "item")))
	for _, seed := range []string{
		`{"id":1,"result":{"tools":[ {"name":"gone"}, {"name" : "read","_meta":{"a":1}} ] , "cacheScope":"public"}}`,
		`{"id":1,"result":{"tools":[{"n\u0061me":"g\u006fne"},{"name":"free","securitySchemes":[]}]}}`,
		`{"id":1,"result":{"tools":null}}`, `{"id":1,"error":{"code":1}}`, `{"result":{"tools":[[],{}]}}`,
		`{"result":{"Tools":[]}}`, `{"result":{"tools":[]},"x":{"a":1,"a":2}}`, ` {"result" : { } } `, `[`,
	} {
		f.Add([]byte(seed))
	}
	plain := parsePolicy(f, listPolicy)
	annotated := mustDecode(f, listPolicy)
	annotated.SecuritySchemes = nil
	with := mustPolicy(f, annotated)
	hidden := map[string]bool{"gone": true, "unknown": true, "": true}
	f.Fuzz(func(t *testing.T, response []byte) {
		call := request("tools/list")
		call.Era = message.Era2026
		before := bytes.Clone(response)
		out, err := plain.RewriteList(holder("base"), call, response)
		if !bytes.Equal(before, response) {
			t.Fatal("the response was changed in place")
		}
		if err != nil {
			return
		}
		if !jsontext.Value(out).IsValid() {
			t.Fatalf("what came out is no JSON: %s", out)
		}
		checkKept(t, response, out, hidden)
		schemed, err := with.RewriteList(holder("base"), call, response)
		if err != nil {
			return
		}
		if got, want := namesOf(t, schemed), namesOf(t, out); len(got) != len(want) {
			t.Fatalf("with schemes %q stay, without %q", got, want)
		}
		if again, err := with.RewriteList(holder("base"), call, schemed); err != nil || !bytes.Equal(again, schemed) {
			t.Fatalf("a second time changes\n%s to\n%s (%v)", schemed, again, err)
		}
	})
}

func toolsOf(response []byte) []json.RawMessage {
	var answer struct {
		Result json.RawMessage `json:"result"`
	}
	var result map[string]json.RawMessage
	var entries []json.RawMessage
	if json.Unmarshal(response, &answer) != nil || json.Unmarshal(answer.Result, &result) != nil ||
		json.Unmarshal(result["tools"], &entries) != nil {
		return nil
	}
	return entries
}

func namesOf(t *testing.T, response []byte) []string {
	var names []string
	for _, raw := range toolsOf(response) {
		var entry map[string]any
		if err := json.Unmarshal(raw, &entry); err != nil {
			t.Fatalf("%v in %s", err, raw)
		}
		name, _ := entry["name"].(string)
		names = append(names, name)
	}
	return names
}

// checkKept holds the entries of an answer against those it was made from.
func checkKept(t *testing.T, in, out []byte, hidden map[string]bool) {
	entries, at := toolsOf(in), 0
	for _, kept := range toolsOf(out) {
		for at < len(entries) && !bytes.Equal(entries[at], kept) {
			at++
		}
		if at == len(entries) {
			t.Fatalf("%s is not there in this order before", kept)
		}
		at++
	}
	for _, name := range namesOf(t, out) {
		if hidden[name] {
			t.Fatalf("%q is hidden but stands in %s", name, out)
		}
	}
}
