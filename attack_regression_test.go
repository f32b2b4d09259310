package stile_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/stiletest"
)

// The tests in this file are attacks that once got through.

// listCall is an innocent request of 2025.
const listCall = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_notes","arguments":{}}}`

// post is a POST by somebody who holds the baseline.
func (f *fixture) post(t *testing.T, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, resource, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Authorization", "Bearer "+f.issuer.Token(stiletest.Claims{Scope: "notes:read", Audience: []string{resource}}))
	for i := 0; i < len(header); i += 2 {
		r.Header[header[i]] = []string{header[i+1]}
	}
	w := httptest.NewRecorder()
	f.gateway.ServeHTTP(w, r)
	return w
}

// accepted is an upstream that takes everything.
func accepted(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }

// TestOtherCharsets sends a body that is list_notes in UTF-8 and delete_note in
// UTF-7, which is what express.json() takes it for when Content-Type says so.
func TestOtherCharsets(t *testing.T) {
	f := newFixture(t, notesPolicy, accepted)
	hidden := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_notes","arguments":{"a":"` +
		`+ACI-,+ACI-x+ACI-:0},+ACI-name+ACI-:+ACI-delete_note+ACI-,+ACI-y+ACI-:{+ACI-z+ACI-:+ACI-"}}}`
	for contentType, status := range map[string]int{
		"application/json":                               http.StatusAccepted,
		"application/json; charset=utf-8":                http.StatusAccepted,
		`Application/JSON;charset="UTF-8"`:               http.StatusAccepted,
		"application/json; profile=x":                    http.StatusAccepted,
		"application/json; charset=utf-7":                http.StatusUnsupportedMediaType,
		"application/json; charset=utf-16":               http.StatusUnsupportedMediaType,
		"application/json; charset=":                     http.StatusUnsupportedMediaType,
		"application/json; charset*=utf-8''utf-7":        http.StatusUnsupportedMediaType,
		"application/json; charset=utf-8; charset=utf-7": http.StatusUnsupportedMediaType,
		"application/json; charset=utf-8, charset=utf-7": http.StatusUnsupportedMediaType,
	} {
		if w := f.post(t, hidden, "Content-Type", contentType); w.Code != status {
			t.Errorf("%s: status %d, want %d", contentType, w.Code, status)
		}
	}
	for _, r := range f.upstream.Recorded() {
		if got := r.Header.Values("Content-Type"); len(got) != 1 || got[0] != "application/json" {
			t.Errorf("the upstream was told Content-Type %q", got)
		}
	}
}

// TestRefusedBodiesThatNeverCome opens requests whose bodies are announced and
// never sent. What is refused without reading them must be answered all the same:
// otherwise anybody without a token could hold connections for ever.
func TestRefusedBodiesThatNeverCome(t *testing.T) {
	f := newFixture(t, notesPolicy, accepted, func(c *stile.Config) { c.BodyTimeout = 50 * time.Millisecond })
	server := httptest.NewServer(f.gateway)
	defer server.Close()
	for first, status := range map[string]int{
		"POST /mcp": http.StatusUnauthorized,
		"PUT /mcp":  http.StatusMethodNotAllowed,
		"GET /mcp":  http.StatusUnauthorized,
		"POST /":    http.StatusNotFound,
		"POST /.well-known/oauth-protected-resource/mcp": http.StatusMethodNotAllowed,
		"POST /healthz": http.StatusOK,
	} {
		for _, framing := range []string{"Content-Length: 9", "Transfer-Encoding: chunked"} {
			if got := statusWithoutBody(t, server.Listener.Addr().String(), first, framing); got != status {
				t.Errorf("%s with %s: status %d, want %d", first, framing, got, status)
			}
		}
	}
}

// statusWithoutBody sends the head of a request alone and reads the answer's
// status, 0 when there is none.
func statusWithoutBody(t *testing.T, address, first, framing string) int {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second)) // only reached when the answer never comes
	if _, err := io.WriteString(conn, first+" HTTP/1.1\r\nHost: 127.0.0.1\r\n"+framing+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// TestHeadersThatOnlyTheUpstreamWouldRead sends what some servers take for a
// session id, a content coding, or the path and method that are asked for.
func TestHeadersThatOnlyTheUpstreamWouldRead(t *testing.T) {
	f := newFixture(t, notesPolicy, accepted)
	names := []string{"Mcp_session_id", "MCP_Session_Id", "Content_encoding", "Mcp_param_x", "Last-Event-Id", "Range", "If-Range",
		"X-Original-Url", "X-Original_url", "X-Rewrite-Url", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}
	var header []string
	for _, name := range names {
		header = append(header, name, "x")
	}
	if w := f.post(t, listCall, header...); w.Code != http.StatusAccepted {
		t.Fatalf("status %d, want 202: %s", w.Code, w.Body)
	}
	for _, r := range f.upstream.Recorded() {
		for _, name := range names {
			if _, sent := r.Header[name]; sent {
				t.Errorf("%s went upstream", name)
			}
		}
	}
}

// TestRefusalsAreSmallInMemory calls many tools with long names that are all
// challenged. What is remembered of each must not grow with the name.
func TestRefusalsAreSmallInMemory(t *testing.T) {
	f := newFixture(t, "baseline: notes:read\nrules:\n  - tools: ['*']\n    scopes: notes:write\n", accepted,
		func(c *stile.Config) { c.ChallengesPerMinute = -1 })
	before := heap()
	const calls, size = 1000, 16_000
	long := strings.Repeat("x", size)
	for i := range calls {
		body := strings.Replace(listCall, "list_notes", strconv.Itoa(i)+long, 1)
		if w := f.post(t, body); w.Code != http.StatusForbidden {
			t.Fatalf("status %d, want 403", w.Code)
		}
		f.audit.Reset()
	}
	if grown := heap() - before; grown > calls*size/4 {
		t.Errorf("%d KiB are held after %d refusals of %d bytes", grown>>10, calls, size)
	}
	runtime.KeepAlive(f)
}

// heap is the memory in use, in bytes.
func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// TestListsThatAreNoMessage has an upstream answer tools/list with what is not
// JSON by its first byte. It cannot be filtered, so it must not pass.
func TestListsThatAreNoMessage(t *testing.T) {
	const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	for body, status := range map[string]int{
		")]}'\n" + `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"drop_everything"}]}}`: http.StatusBadGateway,
		`"drop_everything"`: http.StatusBadGateway,
		"":                  http.StatusBadGateway,
		`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"list_notes"}]}}`: http.StatusOK,
	} {
		f := newFixture(t, notesPolicy, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		if w := f.post(t, list); w.Code != status || strings.Contains(w.Body.String(), "drop_everything") {
			t.Errorf("%q: status %d, want %d: %s", body, w.Code, status, w.Body)
		}
	}
	gone := newFixture(t, notesPolicy, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "session not found", http.StatusNotFound) })
	if w := gone.post(t, list); w.Code != http.StatusNotFound {
		t.Errorf("an ended session: status %d, want 404", w.Code)
	}
}

// TestFinalDenialInAStream has an upstream refuse, in the middle of a stream, a
// call for want of a scope that the caller has: signing in again would not help,
// so nothing may ask for it (DES-21).
func TestFinalDenialInAStream(t *testing.T) {
	f := newFixture(t, notesPolicy, stiletest.AnswerSSE(
		`data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`+"\n\n",
		`data: {"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"no","data":{"error":"insufficient_scope","required_scopes":["notes:read"]}}}`+"\n\n"))
	body := f.post(t, listCall).Body.String()
	if strings.Contains(body, "insufficient_scope") || !strings.Contains(body, `"isError":true`) {
		t.Errorf("the stream is\n%s\nwant a final denial", body)
	}
}

// TestUpstreamThatIsCancelledByItself has an upstream fail with a cancelled
// context while the client is still there: no answer must not look like a good one.
func TestUpstreamThatIsCancelledByItself(t *testing.T) {
	f := newFixture(t, notesPolicy, accepted, func(c *stile.Config) {
		c.Servers[0].Upstream = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.(interface{ Fail(error) }).Fail(context.Canceled)
		})
	})
	if w := f.post(t, listCall); w.Code != http.StatusBadGateway {
		t.Errorf("status %d, want 502", w.Code)
	}
}

// TestRefusalsRepeatLittle calls a tool whose name is long or holds more than
// DES-12 lets a client see.
func TestRefusalsRepeatLittle(t *testing.T) {
	for _, name := range []string{strings.Repeat("x", 3000), `a, error=b`, "\u202ename"} {
		f := newFixture(t, "baseline: notes:read\nrules:\n  - tools: ['*']\n    scopes: notes:write\n", accepted)
		w := f.post(t, strings.Replace(listCall, "list_notes", name, 1))
		if w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), name) ||
			!strings.Contains(w.Header().Get("WWW-Authenticate"), "this operation needs notes:write") {
			t.Errorf("%.20q: status %d, %s\n%.300s", name, w.Code, w.Header().Get("WWW-Authenticate"), w.Body)
		}
	}
}

// TestPostToNowhere wants a JSON-RPC body where nothing is served either.
func TestPostToNowhere(t *testing.T) {
	f := newFixture(t, notesPolicy, accepted)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, publicURL+"/mcp/", strings.NewReader(listCall))
	w := httptest.NewRecorder()
	f.gateway.ServeHTTP(w, r)
	if w.Code != http.StatusNotFound || !strings.HasPrefix(w.Body.String(), `{"jsonrpc":"2.0","id":null,"error":{"code":404,`) {
		t.Errorf("status %d, %s", w.Code, w.Body)
	}
}

// TestCredentialsEndHere has the upstream be a handler in the same process, which no
// proxy strips anything for: it must see no credential either (T12).
func TestCredentialsEndHere(t *testing.T) {
	seen := make(chan http.Header, 1)
	f := newFixture(t, notesPolicy, accepted, direct(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		w.WriteHeader(http.StatusAccepted)
	})))
	names := []string{"Authorization", "Cookie", "Proxy-Authorization", "X-Forwarded-User", "X-Auth-Request-Email", "X-Amzn-Oidc-Identity", "Forwarded"}
	w := f.post(t, listCall, "Cookie", "a=b", "Proxy-Authorization", "Basic x", "X-Forwarded-User", "root",
		"X-Auth-Request-Email", "root@example.com", "X-Amzn-Oidc-Identity", "root", "Forwarded", "for=127.0.0.1")
	if w.Code != http.StatusAccepted {
		t.Fatalf("status %d, want 202: %s", w.Code, w.Body)
	}
	header := <-seen
	for _, name := range names {
		if values := header.Values(name); values != nil {
			t.Errorf("the upstream saw %s: %q", name, values)
		}
	}
}
