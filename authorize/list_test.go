package authorize_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/message"
)

const listPolicy = `
baseline: base
security_schemes: false
implies:
  admin: [write]
rules:
  - tools: [read]
    scopes: r
  - tools: [write, "write_*"]
    scopes: [write x, y]
  - tools: [gone]
    deny: never
  - tools: [sometimes]
    when: args.x == 1
    scopes: w
  - tools: [unless]
    when: args.x == 1
    deny: not that way
  - tools: [free]
    anonymous: true
  - tools: [item]
    scopes: "item:{id}"
  - resources: ["note://{id}", "file:///public/*"]
    scopes: res
  - resources: ["item://{id}"]
    scopes: "item:{id}"
  - prompts: ["*"]
    scopes: p
`

func rewrite(t *testing.T, p *authorize.Policy, id *authenticate.Identity, era message.Era, method, response string) string {
	t.Helper()
	call := request(method)
	call.Era = era
	in := []byte(response)
	out, err := p.RewriteList(id, call, in)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	if string(in) != response {
		t.Fatalf("%s: the response was changed in place", method)
	}
	if string(out) == response && len(out) > 0 && &out[0] != &in[0] {
		t.Errorf("%s: nothing changed, but the slice is another", method)
	}
	return string(out)
}

// listOf makes a tools/list answer, or one of another kind.
func listOf(member, key string, names ...string) string {
	entries := make([]string, len(names))
	for i, name := range names {
		entries[i] = `{ "` + key + `" : "` + name + `", "x": [1, 2] }`
	}
	return `{"jsonrpc":"2.0", "id":1, "result" : {"` + member + `": [` + strings.Join(entries, " , ") + `], "nextCursor":"c"}}`
}

// shown are the names that are left in an answer.
func shown(t testing.TB, response, member, key string) string {
	t.Helper()
	var answer struct{ Result map[string]json.RawMessage }
	var entries []map[string]any
	if err := json.Unmarshal([]byte(response), &answer); err != nil {
		t.Fatalf("%v in %s", err, response)
	}
	if err := json.Unmarshal(answer.Result[member], &entries); err != nil {
		t.Fatalf("%v in %s", err, response)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e[key].(string))
	}
	return strings.Join(names, " ")
}

func TestListsLeaveOut(t *testing.T) {
	tools := []string{"read", "write", "gone", "unknown", "sometimes", "unless", "free", "item", "write_x"}
	limited, key := holder("base r"), holder("base r")
	limited.Profile.Grantable = []string{"base", "r", "item:*"}
	key.Final = true
	for _, tc := range []struct {
		name, list  string
		id          *authenticate.Identity
		method      string
		member, key string
		names       []string
		want        string
	}{
		{"show", "show", holder("base"), "tools/list", "tools", "name", tools, "read write sometimes free item write_x"},
		{"show without a token", "show", nil, "tools/list", "tools", "name", tools, "read write sometimes free item write_x"},
		{"what the issuer cannot grant", "show", limited, "tools/list", "tools", "name", tools, "read sometimes free item"},
		{"a key cannot be given more", "show", key, "tools/list", "tools", "name", tools, "read sometimes free"},
		{"granted", "granted", holder("base r"), "tools/list", "tools", "name", tools, "read sometimes free"},
		{"granted by implication", "granted", holder("base admin x"), "tools/list", "tools", "name", tools, "write sometimes free write_x"},
		{"granted with an item", "granted", holder("base item:7"), "tools/list", "tools", "name", tools, "sometimes free item"},
		{"granted without the baseline", "granted", holder("r"), "tools/list", "tools", "name", tools, ""},
		{"granted without a token", "granted", nil, "tools/list", "tools", "name", tools, "free"},
		{"resources", "show", holder("base"), "resources/list", "resources", "uri",
			[]string{"note://1", "note://a/b", "file:///public/x", "file:///public/../x", "file:///x", "ui://page", "item://3"},
			"note://1 file:///public/x ui://page item://3"},
		{"granted resources", "granted", holder("base item:3"), "resources/list", "resources", "uri",
			[]string{"note://1", "ui://page", "item://3", "item://4"}, "ui://page item://3"},
		{"templates", "show", holder("base"), "resources/templates/list", "resourceTemplates", "uriTemplate",
			[]string{"note://{id}", "note://{other}", "note://{id}/x", "file:///public/{name}", "file:///{+path}", "http://{h}", "ui://{x}"},
			"note://{id} note://{other} note://{id}/x file:///public/{name} file:///{+path} ui://{x}"},
		{"granted templates", "granted", holder("base item:3"), "resources/templates/list", "resourceTemplates", "uriTemplate",
			[]string{"note://{id}", "item://{id}"}, "item://{id}"},
		{"prompts", "granted", holder("base p"), "prompts/list", "prompts", "name", []string{"a", "b"}, "a b"},
		{"no prompts", "granted", holder("base"), "prompts/list", "prompts", "name", []string{"a", "b"}, ""},
	} {
		c := mustDecode(t, listPolicy)
		c.List = tc.list
		p := mustPolicy(t, c)
		out := rewrite(t, p, tc.id, message.Era2025, tc.method, listOf(tc.member, tc.key, tc.names...))
		if got := shown(t, out, tc.member, tc.key); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		if strings.Contains(out, "cacheScope") {
			t.Errorf("%s: cacheScope on a 2025 revision", tc.name)
		}
	}
}

func TestListedIsWhatDecideAllows(t *testing.T) {
	// What `granted` shows of tools without conditions or variables is what can
	// be called, and nothing else.
	c := mustDecode(t, listPolicy)
	c.List = "granted"
	p := mustPolicy(t, c)
	names := []string{"read", "write", "gone", "unknown", "free", "write_x"}
	for _, held := range []string{"-", "", "base", "base r", "base y", "base admin x", "r y", "base r y x admin"} {
		out := rewrite(t, p, holder(held), message.Era2025, "tools/list", listOf("tools", "name", names...))
		visible := " " + shown(t, out, "tools", "name") + " "
		for _, name := range names {
			allowed := p.Decide(holder(held), tool(name, "")).Outcome == authorize.Allow
			if strings.Contains(visible, " "+name+" ") != allowed {
				t.Errorf("{%s} %s: allowed %v, shown %q", held, name, allowed, visible)
			}
		}
	}
}

func TestListBytes(t *testing.T) {
	schemes := mustDecode(t, listPolicy)
	schemes.SecuritySchemes = nil
	schemes.ScopePrefix = "api/"
	with, without := mustPolicy(t, schemes), parsePolicy(t, listPolicy)
	prefixed := holder("base")
	prefixed.Profile.ScopePrefix = "app/"
	for _, tc := range []struct {
		name string
		p    *authorize.Policy
		id   *authenticate.Identity
		era  message.Era
		in   string
		want string
	}{
		{"nothing changes", without, holder("base"), message.Era2026,
			`{"id":1,"result":{"tools":[ {"name":"read"} ],"cacheScope":"public"}}`,
			`{"id":1,"result":{"tools":[ {"name":"read"} ],"cacheScope":"public"}}`},
		{"an entry goes", without, holder("base"), message.Era2025,
			`{"id":1,"result":{"tools":[ {"name":"gone"}, {"name" : "read"} ] , "a":1}}`,
			`{"id":1,"result":{"tools":[{"name" : "read"}] , "a":1}}`},
		{"an escaped name goes", without, holder("base"), message.Era2025,
			`{"id":1,"result":{"tools":[{"n\u0061me":"g\u006fne"}]}}`,
			`{"id":1,"result":{"tools":[]}}`},
		{"entries without a name go", without, holder("base"), message.Era2025,
			`{"id":1,"result":{"tools":[{"title":"x"},{"name":7},"read",null,{"name":""},{"name":"read"}]}}`,
			`{"id":1,"result":{"tools":[{"name":"read"}]}}`},
		{"private is added", without, holder("base"), message.Era2026,
			`{"id":1,"result":{"tools":[{"name":"gone"}],"ttlMs":5}}`,
			`{"id":1,"result":{"tools":[],"ttlMs":5,"cacheScope":"private"}}`},
		{"private is set", without, holder("base"), message.Era2026,
			`{"id":1,"result":{"cacheScope" : "public","tools":[{"name":"gone"}]}}`,
			`{"id":1,"result":{"cacheScope" : "private","tools":[]}}`},
		{"schemes", with, holder("base"), message.Era2025,
			`{"id":1,"result":{"tools":[{"name":"write"}]}}`,
			`{"id":1,"result":{"tools":[{"name":"write","securitySchemes":[{"type":"oauth2","scopes":["base","write","x"]}],"_meta":{"securitySchemes":[{"type":"oauth2","scopes":["base","write","x"]}]}}]}}`},
		{"schemes for a caller without a token", with, nil, message.Era2025,
			`{"id":1,"result":{"tools":[{"name":"read","_meta":{}}]}}`,
			`{"id":1,"result":{"tools":[{"name":"read","_meta":{"securitySchemes":[{"type":"oauth2","scopes":["api/base","api/r"]}]},"securitySchemes":[{"type":"oauth2","scopes":["api/base","api/r"]}]}]}}`},
		{"schemes replace the upstream's own", with, prefixed, message.Era2025,
			`{"id":1,"result":{"tools":[{"securitySchemes":[],"name":"free","_meta":{"a":1,"securitySchemes":null}}]}}`,
			`{"id":1,"result":{"tools":[{"securitySchemes":[{"type":"noauth"}],"name":"free","_meta":{"a":1,"securitySchemes":[{"type":"noauth"}]}}]}}`},
		{"schemes in the issuer's words, without variables", with, prefixed, message.Era2025,
			`{"id":1,"result":{"tools":[{"name":"item","_meta":null}]}}`,
			`{"id":1,"result":{"tools":[{"name":"item","_meta":null,"securitySchemes":[{"type":"oauth2","scopes":["app/base"]}]}]}}`},
		{"schemes already there", with, holder("base"), message.Era2025,
			`{"id":1,"result":{"tools":[{"name":"free","securitySchemes":[{"type":"noauth"}],"_meta":{"securitySchemes":[{"type":"noauth"}]}}]}}`,
			`{"id":1,"result":{"tools":[{"name":"free","securitySchemes":[{"type":"noauth"}],"_meta":{"securitySchemes":[{"type":"noauth"}]}}]}}`},
		{"an error", without, holder("base"), message.Era2026,
			`{"id":1,"error":{"code":-32601,"message":"x"}}`, `{"id":1,"error":{"code":-32601,"message":"x"}}`},
		{"no list", without, holder("base"), message.Era2026, `{"id":1,"result":{}}`, `{"id":1,"result":{}}`},
		{"null list", without, holder("base"), message.Era2026, `{"id":1,"result":{"tools":null}}`, `{"id":1,"result":{"tools":null}}`},
	} {
		if diff := cmp.Diff(tc.want, rewrite(t, tc.p, tc.id, tc.era, "tools/list", tc.in)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tc.name, diff)
		}
	}
}

func TestGrantedListsArePrivateEvenWhenWhole(t *testing.T) {
	c := mustDecode(t, listPolicy)
	c.List = "granted"
	p := mustPolicy(t, c)
	out := rewrite(t, p, holder("base p"), message.Era2026, "prompts/list", `{"id":1,"result":{"prompts":[{"name":"a"}],"cacheScope":"public"}}`)
	if want := `{"id":1,"result":{"prompts":[{"name":"a"}],"cacheScope":"private"}}`; out != want {
		t.Errorf("got %s", out)
	}
}

func TestUnreadableListsAreErrors(t *testing.T) {
	p := parsePolicy(t, listPolicy)
	for _, in := range []string{
		``, `null`, `[]`, `{`, `{"id":1,"result":{"tools":[}}`,
		`{"id":1,"result":{"tools":[]},"result":{"tools":[{"name":"gone"}]}}`,
		`{"id":1,"result":{"tools":[],"tools":[{"name":"gone"}]}}`,
		`{"id":1,"result":{"tools":[{"name":"read","name":"gone"}]}}`,
		`{"id":1,"result":{"tools":[{"name":"read","x":{"a":1,"a":2}}]}}`,
		`{"id":1,"result":{"tools":[]}} {}`,
		`{"id":1,"result":{"tools":{"0":{"name":"gone"}}}}`,
		`{"id":1,"result":{"Tools":[{"name":"gone"}]}}`,
		`{"id":1,"Result":{"tools":[{"name":"gone"}]}}`,
		`{"id":1,"result":{"tools":[{"name":"read","NAME":"gone"}]}}`,
		"{\"id\":1,\"result\":{\"tools\":[{\"name\":\"\xff\"}]}}",
	} {
		if out, err := p.RewriteList(holder("base"), request("tools/list"), []byte(in)); err == nil {
			t.Errorf("%s became %s", in, out)
		}
	}
	if _, err := p.RewriteList(holder("base"), request("tools/call"), []byte(`{}`)); err == nil {
		t.Error("an answer to another method was rewritten")
	}
	if _, err := p.RewriteList(holder("base"), nil, []byte(`{}`)); err == nil {
		t.Error("an answer to nothing was rewritten")
	}
}

func TestListMethod(t *testing.T) {
	for in, want := range map[string]string{
		`{"id":1,"result":{"tools":[]}}`:             "tools/list",
		`{"id":1,"result":{"resources":[]}}`:         "resources/list",
		`{"id":1,"result":{"resourceTemplates":[]}}`: "resources/templates/list",
		`{"id":1,"result":{"prompts":[]}}`:           "prompts/list",
		`{"id":1,"result":{"tools":1}}`:              "",
		`{"id":1,"result":{"content":[]}}`:           "",
		`{"method":"x","params":{"tools":[]}}`:       "",
		`{"id":1,"error":{}}`:                        "",
		`[`:                                          "",
	} {
		if got := authorize.ListMethod([]byte(in)); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func TestNarrow(t *testing.T) {
	p := parsePolicy(t, listPolicy)
	for _, tc := range []struct{ name, held, in, want string }{
		{"all", "base res", `["note://1", "file:///public/x"]`, `["note://1", "file:///public/x"]`},
		{"some", "base res", `[ "note://1" , "other:x","note:\/\/2"]`, `["note://1","note:\/\/2"]`},
		{"none", "base", `["note://1"]`, `[]`},
		{"no scopes at all", "", `["note://1","ui://x"]`, `[]`},
		{"without a token", "-", `["note://1"]`, `[]`},
		{"hidden dots", "base res", `["file:///public/..%2fx"]`, `[]`},
		{"empty", "base", `[]`, `[]`},
		{"null", "base", `null`, `null`},
	} {
		body := `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true,"resourceSubscriptions": LIST },"_meta":{}}}`
		call := request("subscriptions/listen")
		call.Body = []byte(strings.Replace(body, "LIST", tc.in, 1))
		got, err := p.Narrow(holder(tc.held), call)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(strings.Replace(body, "LIST", tc.want, 1), string(got)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tc.name, diff)
		}
		if bytes.Equal(got, call.Body) && &got[0] != &call.Body[0] {
			t.Errorf("%s: nothing changed, but the slice is another", tc.name)
		}
	}
	call := request("subscriptions/listen")
	call.Body = []byte(`{"params":{"notifications":{}}}`)
	if got, err := p.Narrow(holder("base"), call); err != nil || string(got) != string(call.Body) {
		t.Errorf("no subscriptions: %s, %v", got, err)
	}
	for _, body := range []string{`{`, `{"params":{"notifications":{"resourceSubscriptions":{}}}}`,
		`{"params":{"notifications":{"resourceSubscriptions":[],"ResourceSubscriptions":["x"]}}}`} {
		call.Body = []byte(body)
		if got, err := p.Narrow(holder("base"), call); err == nil {
			t.Errorf("%s became %s", body, got)
		}
	}
	if _, err := p.Narrow(holder("base"), nil); err == nil {
		t.Error("nothing was narrowed")
	}
}

func TestAdvertise(t *testing.T) {
	const policy = `
baseline: base
challenge: MODE
carry_scopes: [openid, profile]
companions: COMPANIONS
implies:
  admin: [w]
  "team:*": base
rules:
  - tools: [w]
    scopes: w
  - tools: [item]
    scopes: "item:{id}"
  - tools: [r]
    scopes: [r, s]
`
	for _, tc := range []struct {
		mode, companions, held, want string
		optional                     int
	}{
		{"union", "{}", "", "base w", 0},
		{"union", "{}", "unknown offline_access openid s r", "base w r s openid", 3},
		{"union", "{}", "openid r s unknown", "base w r s openid", 3},
		{"union", "{}", "profile item:2 admin openid item:1 team:x", "base w item:1 item:2 admin team:x openid profile", 6},
		{"minimal", "{}", "r s openid", "base w", 0},
		{"extended", "{w: [x, r], r: z}", "", "base w x r", 2},
		{"extended", "{w: [x, r], base: y}", "s r", "base w r s y x", 4},
	} {
		text := strings.NewReplacer("MODE", tc.mode, "COMPANIONS", tc.companions).Replace(policy)
		p := parsePolicy(t, text)
		ann := holder(tc.held)
		d := p.Decide(ann, tool("w", ""))
		if tc.held == "profile item:2 admin openid item:1 team:x" {
			d = authorize.Decision{Outcome: authorize.Challenge, Required: d.Required}
		}
		got, optional := p.Advertise(ann, d)
		if got.String() != tc.want || optional != tc.optional {
			t.Errorf("%s {%s}: %q with %d optional, want %q with %d", tc.mode, tc.held, got, optional, tc.want, tc.optional)
		}
	}
	p := parsePolicy(t, strings.NewReplacer("MODE", "extended", "COMPANIONS", "{w: [x, r]}").Replace(policy))
	ann := holder("")
	ann.Profile.Grantable = []string{"base", "w", "r"}
	if got, _ := p.Advertise(ann, p.Decide(ann, tool("w", ""))); got.String() != "base w r" {
		t.Errorf("a companion that cannot be granted: %q", got)
	}
	if got, n := p.Advertise(nil, p.Decide(nil, tool("w", ""))); got.String() != "base" || n != 0 {
		t.Errorf("without a token: %q, %d", got, n)
	}
}
