package interop_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/stiletest"
)

// samePolicy is server-ts/policy.mjs as a stile.yaml.
const samePolicy = `
challenge: minimal
baseline: notes:read
implies:
  notes:admin: [notes:write]
  notes:write: [notes:read]
rules:
  - tools: [list_notes]
    scopes: notes:read
  - tools: [create_note, delete_note]
    scopes: notes:write
  - tools: [delete_note]
    when: args.permanent == true
    scopes: notes:admin
  - tools: [export_notes]
    scopes: ["tags:read", "notes:admin", "tags:write"]
  - tools: [share_note]
    scopes: "notes:share:{to}"
  - tools: [tag_note]
    scopes: tags:write
  - resources: ["note://index"]
    scopes: notes:index
  - resources: ["note://{id}"]
    when: uri != "note://index"
    scopes: "notes:item:{id}"
  - prompts: [summarise]
    scopes: notes:prompts
  - prompts: [translate]
    scopes: ["notes:prompts", "notes:admin"]
`

// policyCalls are the calls of the table; params as JSON members.
var policyCalls = []struct{ name, method, params string }{
	{"list_notes", "tools/call", `"name":"list_notes","arguments":{}`},
	{"list_notes without arguments", "tools/call", `"name":"list_notes"`},
	{"create_note", "tools/call", `"name":"create_note","arguments":{"title":"x"}`},
	{"delete_note", "tools/call", `"name":"delete_note","arguments":{"id":"1"}`},
	{"delete_note, not permanent", "tools/call", `"name":"delete_note","arguments":{"id":"1","permanent":false}`},
	{"delete_note, permanent null", "tools/call", `"name":"delete_note","arguments":{"permanent":null}`},
	{"delete_note, permanent", "tools/call", `"name":"delete_note","arguments":{"permanent":true,"id":"1"}`},
	{"export_notes", "tools/call", `"name":"export_notes","arguments":{"permanent":true}`},
	{"share_note with bob", "tools/call", `"name":"share_note","arguments":{"to":"bob"}`},
	{"share_note with 7", "tools/call", `"name":"share_note","arguments":{"to":7}`},
	{"tag_note", "tools/call", `"name":"tag_note","arguments":{}`},
	{"index", "resources/read", `"uri":"note://index"`},
	{"note 1", "resources/read", `"uri":"note://1"`},
	{"note 2", "resources/read", `"uri":"note://2"`},
	{"summarise", "prompts/get", `"name":"summarise"`},
	{"translate", "prompts/get", `"name":"translate"`},
	// Where the two are built to differ.
	{"tools/list", "tools/list", ``},
	{"no such tool", "tools/call", `"name":"no_such_tool","arguments":{}`},
	{"share_note with nobody", "tools/call", `"name":"share_note","arguments":{}`},
	{"delete_note, permanent as text", "tools/call", `"name":"delete_note","arguments":{"permanent":"true"}`},
	{"delete_note, Permanent", "tools/call", `"name":"delete_note","arguments":{"Permanent":true}`},
}

// heldScopes are the tokens of the table; "-" is none.
var heldScopes = []string{
	"-", "", "other", "notes:read", "notes:write", "notes:admin", "notes:read notes:write",
	"notes:read tags:read", "notes:read tags:write", "notes:write tags:write", "tags:read", "tags:read tags:write", "notes:admin tags:read tags:write",
	"notes:read notes:index", "notes:index", "notes:read notes:item:1", "notes:write notes:item:2", "notes:item:1",
	"notes:read notes:share:bob", "notes:share:7 notes:admin",
	"notes:read notes:prompts", "notes:prompts", "notes:write notes:prompts notes:index",
}

// verdict of one server about one call.
type policyVerdict struct {
	status int
	scopes string // of the challenge, sorted
}

func (v policyVerdict) String() string {
	if v.scopes == "" {
		return fmt.Sprint(v.status)
	}
	return fmt.Sprintf("%d %q", v.status, v.scopes)
}

// difference is one that is meant.
type difference struct {
	why  string
	when func(call, held string, stile, ts policyVerdict) bool
}

// byDesign are the differences that are meant, and why. Each must occur.
var byDesign = []difference{
	{"without a token the TypeScript gate names no scope; Stile's 401 names the baseline, so that the first login asks for it (REQ-06, DES-08)",
		func(_, held string, stile, ts policyVerdict) bool {
			return held == "-" && stile == policyVerdict{401, "notes:read"} && ts == policyVerdict{401, ""}
		}},
	{"requireScopes compares names; Stile lets a scope count for those it implies (REQ-11, DES-06)",
		func(call, held string, stile, ts policyVerdict) bool {
			return call == "tag_note" && ts == policyVerdict{403, "notes:read tags:write"} && stile.status == 200 && !strings.Contains(held, "notes:read") && strings.Contains(held, "tags:write")
		}},
	{"scopeChallenge covers only what is registered; Stile asks the baseline of every request (DES-04, DES-22)",
		func(call, _ string, stile, ts policyVerdict) bool {
			return (call == "tools/list" || call == "no such tool") && stile == policyVerdict{403, "notes:read"} && ts.scopes == ""
		}},
	{"a scope made of an argument that is not there: a template literal asks for notes:share:undefined, Stile fails closed",
		func(call, _ string, stile, ts policyVerdict) bool {
			return call == "share_note with nobody" && stile.scopes == "" && ts == policyVerdict{403, "notes:read notes:share:undefined"}
		}},
	{"an argument of another type, or of a name that only differs in case: === passes it by, Stile fails closed because the tool may take it for true",
		func(call, _ string, stile, ts policyVerdict) bool {
			return (call == "delete_note, permanent as text" || call == "delete_note, Permanent") && stile == policyVerdict{500, ""} &&
				(ts.status == 200 || ts == policyVerdict{403, "notes:read notes:write"})
		}},
}

// TestPolicyAgreesWithScopeChallenge sends every call with every token, in both
// eras, to a TypeScript server with scopeChallenge handlers and to Stile with the
// same policy, and wants the same status and the same scopes asked for.
func TestPolicyAgreesWithScopeChallenge(t *testing.T) {
	ts := startTypescript(t)
	issuer := stiletest.NewIssuerServer(t, stiletest.IssuerOptions{})
	g := startStile(t, stileConfig{upstream: ts.url + "/mcp", issuer: issuer.URL(), policy: samePolicy})
	occurred := make([]int, len(byDesign))
	calls, same := 0, map[int]int{} // those decided alike, by status
	for i, held := range heldScopes {
		token := ""
		if held != "-" {
			// A subject each: what one was refused is not held against another.
			token = issuer.Token(stiletest.Claims{Scope: held, Subject: fmt.Sprint("user", i), Audience: []string{g.endpoint}})
		}
		for _, call := range policyCalls {
			for _, era := range []string{era2025, era2026} {
				calls++
				body := policyBody(era, call.method, call.params)
				stile, theirs := ask(t, g.endpoint, token, body), ask(t, ts.url+"/challenging", token, body)
				if stile == theirs {
					same[stile.status]++
					continue
				}
				reason := slices.IndexFunc(byDesign, func(d difference) bool { return d.when(call.name, held, stile, theirs) })
				if reason < 0 {
					t.Errorf("%s with %q in %s: Stile %v, TypeScript %v", call.name, held, era, stile, theirs)
					continue
				}
				occurred[reason]++
			}
		}
	}
	t.Logf("%d calls; decided alike, by status: %v", calls, same)
	for i, d := range byDesign {
		t.Logf("%d calls differ by design: %s", occurred[i], d.why)
		if occurred[i] == 0 {
			t.Errorf("this difference does not occur any more: %s", d.why)
		}
	}
	if same[http.StatusOK] < 100 || same[http.StatusForbidden] < 200 {
		t.Errorf("decided alike, by status: %v: the table says little", same)
	}
}

// policyBody is a request of an era.
func policyBody(era, method, params string) []byte {
	if era == era2026 {
		if params != "" {
			params += ","
		}
		params += `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},` +
			`"io.modelcontextprotocol/clientInfo":{"name":"interop","version":"1"}}`
	}
	return []byte(`{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{` + params + `}}`)
}

// ask posts a message with the headers it wants and answers the verdict.
func ask(t *testing.T, endpoint, token string, body []byte) policyVerdict {
	t.Helper()
	response := post(t, endpoint, token, body)
	v := policyVerdict{status: response.StatusCode}
	challenges, err := challenge.Parse(response.Header.Values("WWW-Authenticate"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range challenges {
		scopes, _ := c.Get("scope")
		v.scopes = sorted(scopes)
	}
	return v
}

// post posts a message, and has read the answer to its end.
func post(t *testing.T, endpoint, token string, body []byte) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("MCP-Protocol-Version", era2025)
	if c, err := message.Read(body); err == nil {
		message.SetHeaders(r.Header, c)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return response
}
