package challenge_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/modelcontextprotocol/go-sdk/auth"

	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/scope"
)

func TestFromHeader(t *testing.T) {
	tests := []struct {
		name   string
		fields []string
		want   *challenge.Need // nil: not recognised
	}{
		{"our own", []string{stepUp().Challenge.Header()},
			&challenge.Need{Scopes: scope.Set{"notes:write", "notes:read"}, Description: "delete_note needs notes:write."}},
		{"behind another challenge", []string{`Basic realm="x", Bearer error="insufficient_scope", scope="a b"`},
			&challenge.Need{Scopes: scope.Set{"a", "b"}}},
		{"in a second field", []string{`Basic realm="x"`, `Bearer error="insufficient_scope", scope="a"`}, &challenge.Need{Scopes: scope.Set{"a"}}},
		{"behind another Bearer challenge", []string{`Bearer error="invalid_token", Bearer error="insufficient_scope", scope="a"`},
			&challenge.Need{Scopes: scope.Set{"a"}}},
		{"behind a Bearer challenge without error", []string{`Bearer scope="b"`, `Bearer error="insufficient_scope", scope="a"`},
			&challenge.Need{Scopes: scope.Set{"a"}}},
		{"behind a field that cannot be read", []string{`Basic realm="x`, `Bearer error="insufficient_scope", scope="a"`},
			&challenge.Need{Scopes: scope.Set{"a"}}},
		{"scheme in lower case, unquoted", []string{`bearer error=insufficient_scope,scope=a`}, &challenge.Need{Scopes: scope.Set{"a"}}},
		{"npm mcp-proxy: a comma after the scheme", []string{`Bearer, error="insufficient_scope", scope="a b", resource_metadata="https://x/.well-known/y", error_description="Needs \"a\""`},
			&challenge.Need{Scopes: scope.Set{"a", "b"}, Description: `Needs "a"`}},
		{"npm mcp-proxy without scopes", []string{`Bearer, error="insufficient_scope", scope=""`}, &challenge.Need{}},
		{"EpicMe: values that ought to be quoted", []string{`Bearer error=insufficient_scope, resource_metadata=https://x/y?z, scope=read:notes`},
			&challenge.Need{Scopes: scope.Set{"read:notes"}}},
		{"go-sdk: no error, but a scope", []string{`Bearer resource_metadata="https://x/y", scope="a b"`}, &challenge.Need{Scopes: scope.Set{"a", "b"}}},
		{"no scope", []string{`Bearer error="insufficient_scope"`}, &challenge.Need{}},
		{"scopes of other characters are left out, twins too", []string{`Bearer error="insufficient_scope", scope="a\\b é  c c resource_metadata=x"`},
			&challenge.Need{Scopes: scope.Set{"c"}}},
		{"no error and no scope", []string{`Bearer resource_metadata="https://x/y"`}, nil},
		{"no error and an empty scope", []string{`Bearer scope=""`}, nil},
		{"another error", []string{`Bearer error="invalid_token", scope="a"`}, nil},
		{"another scheme", []string{`DPoP error="insufficient_scope", scope="a"`}, nil},
		{"inside another value", []string{`Basic realm="Bearer error=insufficient_scope"`}, nil},
		{"twice the error", []string{`Bearer error="invalid_token", error="insufficient_scope"`}, nil},
		{"no field", nil, nil},
		{"too long", []string{`Bearer error="insufficient_scope", scope="` + strings.Repeat("a", 16<<10) + `"`}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{"Www-Authenticate": tt.fields}
			got, ok := challenge.FromHeader(http.StatusForbidden, h)
			checkNeed(t, got, ok, tt.want)
			for _, status := range []int{200, 400, 401, 404, 500} {
				if got, ok := challenge.FromHeader(status, h); ok || !cmp.Equal(got, challenge.Need{}) {
					t.Errorf("status %d: %v, %v; only a 403 wants scopes", status, got, ok)
				}
			}
		})
	}
}

func checkNeed(t *testing.T, got challenge.Need, ok bool, want *challenge.Need) {
	t.Helper()
	if ok != (want != nil) {
		t.Fatalf("recognised: %v, want %v (%v)", ok, want != nil, got)
	}
	if want == nil {
		want = &challenge.Need{}
	}
	if diff := cmp.Diff(*want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("need (-want +got):\n%s", diff)
	}
}

// The go-sdk's middleware, as an upstream.
func TestFromHeaderOfGoSDK(t *testing.T) {
	verify := func(context.Context, string, *http.Request) (*auth.TokenInfo, error) {
		return &auth.TokenInfo{Scopes: []string{"a"}, Expiration: time.Now().Add(time.Hour)}, nil
	}
	protect := auth.RequireBearerToken(verify, &auth.RequireBearerTokenOptions{Scopes: []string{"a", "b"}, ResourceMetadataURL: metadata})
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/mcp", nil)
	r.Header.Set("Authorization", "Bearer x")
	protect(http.NotFoundHandler()).ServeHTTP(w, r)
	got, ok := challenge.FromHeader(w.Code, w.Header())
	checkNeed(t, got, ok, &challenge.Need{Scopes: scope.Set{"a", "b"}})
}

// inMeta is a result that carries challenges for ChatGPT.
func inMeta(isError, challenges string) string {
	return `{"jsonrpc":"2.0","id":3,"result":{"content":[],"isError":` + isError + `,"_meta":{"mcp/www_authenticate":` + challenges + `}}}`
}

var messageTests = []struct {
	name string
	msg  string
	want *challenge.Need
}{
	{"our own", string(stepUp().Body()), &challenge.Need{ID: jsontext.Value(`"a-7"`), Scopes: scope.Set{"notes:write"}, Description: "delete_note needs notes:write."}},
	{"npm mcp-proxy by way of the SDK", `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Insufficient scope","data":{"error":"insufficient_scope","required_scopes":["a","b"]}}}`,
		&challenge.Need{ID: jsontext.Value("1"), Scopes: scope.Set{"a", "b"}, Description: "Insufficient scope"}},
	{"requiredScopes", `{"error":{"data":{"requiredScopes":["a"],"error":"insufficient_scope"}},"id":"x"}`, &challenge.Need{ID: jsontext.Value(`"x"`), Scopes: scope.Set{"a"}}},
	{"both spellings", `{"error":{"data":{"requiredScopes":["a"],"required_scopes":["b","a"],"error":"insufficient_scope"}}}`, &challenge.Need{Scopes: scope.Set{"b", "a"}}},
	{"scope", `{"error":{"data":{"scope":"a b","error":"insufficient_scope","error_description":"d"},"message":"m"}}`, &challenge.Need{Scopes: scope.Set{"a", "b"}, Description: "d"}},
	{"required scopes before scope", `{"error":{"data":{"scope":"a b","error":"insufficient_scope","required_scopes":["b"]}}}`, &challenge.Need{Scopes: scope.Set{"b"}}},
	{"required scopes as a string", `{"error":{"data":{"error":"insufficient_scope","required_scopes":"b"}}}`, &challenge.Need{Scopes: scope.Set{"b"}}},
	{"no scopes", `{"error":{"data":{"error":"insufficient_scope"}}}`, &challenge.Need{}},
	{"scopes of odd kinds", `{"error":{"data":{"error":"insufficient_scope","required_scopes":[1,null,{"a":["x"]},"b",""],"scope":7}}}`, &challenge.Need{Scopes: scope.Set{"b"}}},
	{"scopes of other characters", `{"error":{"data":{"error":"insufficient_scope","required_scopes":["a b","c\"","é","d"]}}}`, &challenge.Need{Scopes: scope.Set{"d"}}},
	{"escapes", `{"\u0065rror":{"d\u0061ta":{"error":"\u0069nsufficient\u005fscope"}}}`, &challenge.Need{}},
	{"space", " {\n\t\"error\" : { \"data\" : { \"error\" : \"insufficient_scope\" } } , \"id\" : 5 } \r\n", &challenge.Need{ID: jsontext.Value("5")}},
	{"an id of another kind", `{"id":{},"error":{"data":{"error":"insufficient_scope"}}}`, &challenge.Need{}},
	{"an id of null", `{"id":null,"error":{"data":{"error":"insufficient_scope"}}}`, &challenge.Need{}},
	{"in a result for ChatGPT", inMeta("true", `["Bearer error=\"insufficient_scope\", scope=\"a b\", error_description=\"d\""]`),
		&challenge.Need{ID: jsontext.Value("3"), Scopes: scope.Set{"a", "b"}, Description: "d"}},
	{"in a result as one string", inMeta("true", `"Bearer error=\"insufficient_scope\", scope=\"a\""`), &challenge.Need{ID: jsontext.Value("3"), Scopes: scope.Set{"a"}}},
	{"in a result, the second of two", inMeta("true", `["Bearer realm=x", "Bearer error=insufficient_scope, scope=a"]`), &challenge.Need{ID: jsontext.Value("3"), Scopes: scope.Set{"a"}}},
	{"in a result, escaped", strings.Replace(inMeta("true", `["Bearer error=insufficient_scope"]`), "www_authenticate", `\u0077ww\u005fauthenticate`, 1), &challenge.Need{ID: jsontext.Value("3")}},
	{"isError after _meta", `{"result":{"_meta":{"mcp/www_authenticate":["Bearer error=insufficient_scope"]},"isError":true}}`, &challenge.Need{}},

	{"an ordinary result", `{"jsonrpc":"2.0","id":3,"result":{"content":[]}}`, nil},
	{"an ordinary error", `{"jsonrpc":"2.0","id":3,"error":{"code":-32601,"message":"no such method"}}`, nil},
	{"a result that speaks of it", `{"id":3,"result":{"content":[{"type":"text","text":"error: insufficient_scope"}],"isError":true}}`, nil},
	{"a result with such data", `{"id":3,"result":{"data":{"error":"insufficient_scope"},"isError":true}}`, nil},
	{"no error result", inMeta("false", `["Bearer error=insufficient_scope"]`), nil},
	{"isError as a string", inMeta(`"true"`, `["Bearer error=insufficient_scope"]`), nil},
	{"another challenge", inMeta("true", `["Bearer error=invalid_token"]`), nil},
	{"a challenge without error", inMeta("true", `["Bearer scope=insufficient_scope"]`), nil},
	{"a challenge that is none", inMeta("true", `{"error":"insufficient_scope"}`), nil},
	{"another error code", `{"error":{"data":{"error":"access_denied","error_description":"insufficient_scope"}}}`, nil},
	{"in the message only", `{"error":{"message":"insufficient_scope","data":{}}}`, nil},
	{"data as a string", `{"error":{"data":"insufficient_scope"}}`, nil},
	{"deeper than data", `{"error":{"data":{"data":{"error":"insufficient_scope"}}}}`, nil},
	{"names in another case", `{"Error":{"Data":{"Error":"insufficient_scope"}}}`, nil},
	{"a request", `{"id":1,"method":"x","error":{"data":{"error":"insufficient_scope"}}}`, nil},
	{"a notification that quotes one", `{"method":"notifications/message","params":{"error":{"data":{"error":"insufficient_scope"}}}}`, nil},
	{"error and result", `{"error":{"data":{"error":"insufficient_scope"}},"result":{}}`, nil},
	{"a batch", `[{"error":{"data":{"error":"insufficient_scope"}}}]`, nil},
	{"duplicate names", `{"error":{"data":{"error":"x","error":"insufficient_scope"}}}`, nil},
	{"duplicate names elsewhere", `{"error":{"data":{"error":"insufficient_scope"}},"x":{"a":1,"a":2}}`, nil},
	{"invalid UTF-8", "{\"error\":{\"message\":\"\xff\",\"data\":{\"error\":\"insufficient_scope\"}}}", nil},
	{"trailing data", `{"error":{"data":{"error":"insufficient_scope"}}}{}`, nil},
	{"cut off", `{"error":{"data":{"error":"insufficient_scope"}}`, nil},
	{"not JSON", `insufficient_scope`, nil},
	{"nothing", ``, nil},
	{"too long", `{"error":{"data":{"error":"insufficient_scope"},"message":"` + strings.Repeat("x", 1<<20) + `"}}`, nil},
	{"endless nesting", `{"error":{"data":{"error":"insufficient_scope"}},"x":` + strings.Repeat("[", 1e5), nil},
}

func TestFromMessage(t *testing.T) {
	for _, tt := range messageTests {
		t.Run(tt.name, func(t *testing.T) {
			msg := []byte(tt.msg)
			got, ok := challenge.FromMessage(msg)
			clear(msg) // not kept
			checkNeed(t, got, ok, tt.want)
		})
	}
}

func TestMayRefuse(t *testing.T) {
	for _, tt := range []struct {
		msg  string
		want bool
	}{
		{`{"id":1,"result":{"content":[{"type":"text","text":"hello"}]}}`, false},
		{`{"result":{"text":"\u00e9 \u003c \u0000 \u2028 \n \\u"}}`, false},
		{`{"result":{"text":"\u005f"}}`, true},
		{`{"result":{"text":"\u003c\u0069"}}`, true},
		{`{"error":{"data":{"error":"insufficient_scope"}}}`, true},
		{`{"_meta":{"mcp/www_authenticate":[]}}`, true},
		{`\u00`, false},
		{`\u006`, true},
		{``, false},
	} {
		if got := challenge.MayRefuse([]byte(tt.msg)); got != tt.want {
			t.Errorf("MayRefuse(%s) = %v", tt.msg, got)
		}
	}
	for _, tt := range messageTests {
		if tt.want != nil && !challenge.MayRefuse([]byte(tt.msg)) {
			t.Errorf("%s: MayRefuse is false for what FromMessage recognises", tt.name)
		}
	}
}

// FuzzFromMessage: a second reader, made of encoding/json alone, agrees on what
// is a refusal and for which scopes; nothing that could not stand in a header
// comes out; and the prefilter lets every refusal through.
func FuzzFromMessage(f *testing.F) {
	for _, tt := range messageTests {
		if len(tt.msg) < 1000 {
			f.Add(tt.msg)
		}
	}
	f.Fuzz(func(t *testing.T, msg string) {
		need, ok := challenge.FromMessage([]byte(msg))
		if !ok {
			if !cmp.Equal(need, challenge.Need{}) {
				t.Errorf("%v is returned although it is no refusal", need)
			}
			return
		}
		if !challenge.MayRefuse([]byte(msg)) {
			t.Error("the prefilter would have missed it")
		}
		for _, s := range need.Scopes {
			if err := challenge.CheckScope(s); err != nil {
				t.Error(err)
			}
		}
		var m map[string]any
		decoder := json.NewDecoder(strings.NewReader(msg))
		decoder.UseNumber() // 1e999 is a number, if no float64
		if err := decoder.Decode(&m); err != nil {
			t.Fatal(err)
		}
		checkRefusal(t, m, need)
		if again, ok := challenge.FromMessage(challenge.InStream(need.ID, challenge.Challenge{Error: "insufficient_scope",
			Scope: need.Scopes, Description: need.Description}, "")); !ok || !cmp.Equal(again.Scopes, need.Scopes, cmpopts.EquateEmpty()) {
			t.Errorf("what we make of it reads as %v, %v", again, ok)
		}
	})
}

// checkRefusal holds a Need against the decoded message.
func checkRefusal(t *testing.T, m map[string]any, need challenge.Need) {
	e, _ := m["error"].(map[string]any)
	data, _ := e["data"].(map[string]any)
	result, _ := m["result"].(map[string]any)
	meta, _ := result["_meta"].(map[string]any)
	_, isRequest := m["method"]
	inData := data["error"] == "insufficient_scope"
	inResult := result["isError"] == true && meta["mcp/www_authenticate"] != nil
	if isRequest || inData == inResult {
		t.Errorf("not a refusal: %v", m)
	}
	// The text of a challenge may spell scopes with quoted pairs.
	all, _ := json.Marshal([]any{data["required_scopes"], data["requiredScopes"], data["scope"]})
	for _, s := range need.Scopes {
		quoted, _ := json.Marshal(s)
		if inData && !strings.Contains(string(all), strings.Trim(string(quoted), `"`)) {
			t.Errorf("scope %q is not in the message", s)
		}
	}
	switch id := m["id"].(type) {
	case string:
		var got string
		if err := json.Unmarshal(need.ID, &got); err != nil || got != id {
			t.Errorf("id %s, want %q", need.ID, id)
		}
	case json.Number:
		if string(need.ID) != id.String() {
			t.Errorf("id %s, want %s", need.ID, id)
		}
	default:
		if need.ID != nil {
			t.Errorf("id %s, want none", need.ID)
		}
	}
}

func BenchmarkMayRefuse(b *testing.B) {
	msg := []byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` + strings.Repeat(`some text \u003cb\u003e. `, 1000) + `"}]}}`)
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		if challenge.MayRefuse(msg) {
			b.Fatal("refused")
		}
	}
}
