package challenge_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/scope"
)

// stepUp is a refusal with everything in it.
func stepUp() challenge.Refusal {
	c := challenge.Challenge{Error: "insufficient_scope", Scope: scope.Set{"notes:write", "notes:read"}, Optional: 1,
		ResourceMetadata: metadata, Description: "delete_note needs notes:write."}
	return challenge.Refusal{
		Status: http.StatusForbidden, Challenge: &c, ID: jsontext.Value(`"a-7"`), Message: "delete_note needs notes:write.",
		Error: c.Error, Description: c.Description, Scope: c.Scope, Required: scope.Set{"notes:write"},
		Alternatives: []scope.Set{{"notes:admin"}, {"a", "b"}}, RequestID: "r-1",
	}
}

func TestBody(t *testing.T) {
	tests := []struct {
		name string
		body []byte
		want string
	}{
		{"DES-14 everything, in its order", stepUp().Body(),
			`{"jsonrpc":"2.0","id":"a-7","error":{"code":403,"message":"delete_note needs notes:write.","data":{` +
				`"error":"insufficient_scope","error_description":"delete_note needs notes:write.","scope":"notes:write notes:read",` +
				`"required_scopes":["notes:write"],"alternatives":[["notes:admin"],["a","b"]],"request_id":"r-1"}}}`},
		{"nothing but a status", challenge.Refusal{Status: 404}.Body(),
			`{"jsonrpc":"2.0","id":null,"error":{"code":404,"message":"Not Found"}}`},
		{"one alternative", challenge.Refusal{Status: 403, Alternatives: []scope.Set{{"a"}}}.Body(),
			`{"jsonrpc":"2.0","id":null,"error":{"code":403,"message":"Forbidden","data":{"alternatives":[["a"]]}}}`},
		{"an alternative that asks for nothing", challenge.Refusal{Status: 403, Alternatives: []scope.Set{{}}}.Body(),
			`{"jsonrpc":"2.0","id":null,"error":{"code":403,"message":"Forbidden","data":{"alternatives":[[]]}}}`},
		{"REQ-26 a code of its own", challenge.Refusal{Status: 400, Code: -32020, Message: "Mcp-Name differs", ID: jsontext.Value("7")}.Body(),
			`{"jsonrpc":"2.0","id":7,"error":{"code":-32020,"message":"Mcp-Name differs"}}`},
		{"401 may say 401", challenge.Refusal{Status: 401, RequestID: "x401"}.Body(),
			`{"jsonrpc":"2.0","id":null,"error":{"code":401,"message":"Unauthorized","data":{"request_id":"x401"}}}`},
		{"nothing else may", challenge.Refusal{Status: 403, Message: "get_401k", RequestID: "4014401", Scope: scope.Set{"a:401"}, Required: scope.Set{"401"}}.Body(),
			`{"jsonrpc":"2.0","id":null,"error":{"code":403,"message":"get_4\u00301k","data":{"scope":"a:4\u00301","required_scopes":["4\u00301"],"request_id":"4\u0030144\u00301"}}}`},
		{"strings are JSON", challenge.Refusal{Status: 500, Message: "a\"\\\n\x00\u2028é\xff</script>"}.Body(),
			`{"jsonrpc":"2.0","id":null,"error":{"code":500,"message":"a\"\\\n\u0000` + "\u2028é\uFFFD" + `</script>"}}`},

		{"DES-21 tools/call", challenge.InBand{ID: jsontext.Value("3"), Tool: true, Text: "not offered", RequestID: "r-1"}.Body(),
			`{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"not offered"}],"isError":true}}`},
		{"DES-21 tools/call on 2026-07-28", challenge.InBand{ID: jsontext.Value("3"), Tool: true, Modern: true, Text: "not offered"}.Body(),
			`{"jsonrpc":"2.0","id":3,"result":{"resultType":"complete","content":[{"type":"text","text":"not offered"}],"isError":true}}`},
		{"DES-35 tools/call for ChatGPT", challenge.InBand{ID: jsontext.Value("3"), Tool: true, Text: "t", Challenge: stepUp().Challenge}.Body(),
			`{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"t"}],"isError":true,"_meta":{"mcp/www_authenticate":["` +
				strings.ReplaceAll(stepUp().Challenge.Header(), `"`, `\"`) + `"]}}}`},
		{"DES-21 another method", challenge.InBand{ID: jsontext.Value(`"x"`), Text: "not offered", Required: scope.Set{"a"}, RequestID: "r-1"}.Body(),
			`{"jsonrpc":"2.0","id":"x","error":{"code":-31000,"message":"not offered","data":{"error":"access_denied","required_scopes":["a"],"request_id":"r-1"}}}`},
		{"DES-21 another method on 2026-07-28 with nothing to say", challenge.InBand{Modern: true, Challenge: stepUp().Challenge}.Body(),
			`{"jsonrpc":"2.0","id":null,"error":{"code":-31000,"message":"access denied","data":{"error":"access_denied"}}}`},
		{"no 401 in-band", challenge.InBand{ID: jsontext.Value("3"), Tool: true, Text: "get_401k"}.Body(),
			`{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"get_4\u00301k"}],"isError":true}}`},

		{"DES-23 in a stream", challenge.InStream(jsontext.Value("9"), *stepUp().Challenge, "r-1"),
			`{"jsonrpc":"2.0","id":9,"error":{"code":403,"message":"delete_note needs notes:write.","data":{` +
				`"error":"insufficient_scope","error_description":"delete_note needs notes:write.","scope":"notes:write notes:read",` +
				`"required_scopes":["notes:write"],"request_id":"r-1"}}}`},
		{"DES-23 with odd counts", challenge.InStream(nil, challenge.Challenge{Error: "insufficient_scope", Scope: scope.Set{"a"}, Optional: 5}, ""),
			`{"jsonrpc":"2.0","id":null,"error":{"code":403,"message":"more scopes are needed","data":{"error":"insufficient_scope","scope":"a"}}}`},
		{"the end of a stream", challenge.StreamError(jsontext.Value("9"), 503, "the gateway is restarting", "r-1"),
			`{"jsonrpc":"2.0","id":9,"error":{"code":503,"message":"the gateway is restarting","data":{"request_id":"r-1"}}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, string(tt.body)); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			if !json.Valid(tt.body) || strings.ContainsAny(string(tt.body), "\r\n") {
				t.Error("not one line of JSON")
			}
		})
	}
}

func TestBodyID(t *testing.T) {
	for _, tt := range []struct{ id, want string }{
		{`1`, `1`}, {`-7`, `-7`}, {`1.5e3`, `1.5e3`}, {`"x"`, `"x"`}, {`""`, `""`}, {`"\u0041"`, `"\u0041"`}, {" 1\n", `1`},
		{`401`, `401`}, // an id has to come back as it was
		{``, `null`}, {`null`, `null`}, {`true`, `null`}, {`{}`, `null`}, {`[1]`, `null`}, {`1,"x":2`, `null`}, {`"`, `null`},
		{`1 2`, `null`}, {"\"\xff\"", `null`}, {`01`, `null`},
	} {
		want := `{"jsonrpc":"2.0","id":` + tt.want + `,"error":{"code":400,"message":"Bad Request"}}`
		if got := string(challenge.StreamError(jsontext.Value(tt.id), 400, "", "")); got != want {
			t.Errorf("id %q: %s", tt.id, got)
		}
	}
}

func TestWrite(t *testing.T) {
	full := stepUp()
	tests := []struct {
		name    string
		refusal challenge.Refusal
		want    http.Header // without Content-Length
	}{
		{"403", full, http.Header{
			"Www-Authenticate": {full.Challenge.Header()}, "X-Request-Id": {"r-1"},
			"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}},
		{"DES-26 and DES-27: without a challenge", challenge.Refusal{Status: 503, RetryAfter: 5 * time.Second}, http.Header{
			"Retry-After": {"5"}, "Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}},
		{"405", challenge.Refusal{Status: 405, Allow: "GET, POST"}, http.Header{
			"Allow": {"GET, POST"}, "Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}},
		{"a request id that is no header", challenge.Refusal{Status: 500, RequestID: "a\r\nb"}, http.Header{
			"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			// What an upstream's answer may have left behind.
			w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="https://upstream.internal/"`)
			w.Header().Add("WWW-Authenticate", `Basic realm="upstream"`)
			for _, name := range []string{"Content-Encoding", "ETag", "Retry-After", "Content-Length", "Content-Type", "Transfer-Encoding"} {
				w.Header().Set(name, "stale")
			}
			tt.refusal.Write(w)
			if w.Code != tt.refusal.Status {
				t.Errorf("status %d, want %d", w.Code, tt.refusal.Status)
			}
			if got, want := w.Header().Get("Content-Length"), len(w.Body.Bytes()); got != itoa(want) {
				t.Errorf("Content-Length %q, want %d", got, want)
			}
			w.Header().Del("Content-Length")
			if diff := cmp.Diff(tt.want, w.Header()); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(string(tt.refusal.Body()), w.Body.String()); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		})
	}
}

func itoa(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

func TestWriteInBand(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("WWW-Authenticate", "Basic")
	d := challenge.InBand{ID: jsontext.Value("1"), Text: "no", RequestID: "r-1", Challenge: stepUp().Challenge}
	d.Write(w)
	want := http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}, "X-Request-Id": {"r-1"},
		"Content-Length": {itoa(w.Body.Len())}}
	if diff := cmp.Diff(want, w.Header()); diff != "" || w.Code != 200 {
		t.Errorf("%d, header (-want +got):\n%s", w.Code, diff)
	}
	if w.Body.String() != string(d.Body()) {
		t.Errorf("body %s", w.Body)
	}
}

func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{0, ""}, {-time.Second, ""}, {1, "1"}, {time.Second - 1, "1"}, {time.Second, "1"}, {time.Second + 1, "2"},
		{90 * time.Second, "90"}, {1<<63 - 1, "9223372037"},
	} {
		w := httptest.NewRecorder()
		challenge.Refusal{Status: 503, RetryAfter: tt.d}.Write(w)
		if got := w.Header().Get("Retry-After"); got != tt.want {
			t.Errorf("%v: Retry-After %q, want %q", tt.d, got, tt.want)
		}
	}
}

// HEAD gets the header of the refusal and no body, on the wire.
func TestWriteToHead(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { stepUp().Write(w) }))
	defer server.Close()
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		r, err := http.NewRequest(method, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body := make([]byte, 10)
		n, _ := resp.Body.Read(body)
		_ = resp.Body.Close()
		if (n > 0) != (method == http.MethodGet) {
			t.Errorf("%s: %d bytes of body", method, n)
		}
		if resp.StatusCode != 403 || resp.Header.Get("WWW-Authenticate") != stepUp().Challenge.Header() ||
			resp.ContentLength != int64(len(stepUp().Body())) {
			t.Errorf("%s: %d %v", method, resp.StatusCode, resp.Header)
		}
	}
}

// FuzzBody: whatever goes in, the body is one line of JSON that says the same,
// nowhere shows "401" unless it is a 401, and is recognised by FromMessage.
func FuzzBody(f *testing.F) {
	f.Add(`"a-7"`, "delete_note needs notes:write.", "a b", "r-1", 403)
	f.Add(`1`, "get_401k \x14401 \\u0030", "a:401", "4014401", 403)
	f.Add(``, "a\"\\\n\x00\u2028\xff", "\xff", "\r\n", 401)
	f.Fuzz(func(t *testing.T, id, text, list, requestID string, status int) {
		names := strings.Split(list, " ")
		r := challenge.Refusal{Status: status, ID: jsontext.Value(id), Message: text, Error: "insufficient_scope", Description: text,
			Scope: names, Required: names, Alternatives: []scope.Set{names, names}, RequestID: requestID}
		body := r.Body()
		var got struct {
			ID    jsontext.Value
			Error struct {
				Code    int
				Message string
				Data    struct {
					Error, Scope         string
					Error_description    string
					Required_scopes      []string
					Alternatives         [][]string
					Request_id, Whatever string
				}
			}
		}
		if err := json.Unmarshal(body, &got); err != nil || strings.ContainsAny(string(body), "\r\n") {
			t.Fatalf("%v: %s", err, body)
		}
		data := got.Error.Data
		anonymous := r
		anonymous.ID = nil // an id has to come back as it was
		if b := string(anonymous.Body()); status != 401 && strings.Contains(b, "401") && !strings.Contains(itoa(status), "401") {
			t.Errorf("401 in %s", b)
		}
		if text != "" && utf8.ValidString(text) && (got.Error.Message != text || data.Error_description != text) {
			t.Errorf("message %q, %q, want %q", got.Error.Message, data.Error_description, text)
		}
		if got.Error.Code != status && status != 0 || !utf8.Valid(body) || data.Error != "insufficient_scope" {
			t.Errorf("%s", body)
		}
		if utf8.ValidString(list) && (!slices.Equal(data.Required_scopes, names) || data.Scope != list || len(data.Alternatives) != 2) {
			t.Errorf("scopes %q, want %q", data, names)
		}
		need, ok := challenge.FromMessage(body)
		if !ok || string(got.ID) != "null" && string(need.ID) != string(got.ID) || string(got.ID) == "null" && need.ID != nil {
			t.Errorf("read back as %v, %v: %s", need, ok, body)
		}
	})
}
