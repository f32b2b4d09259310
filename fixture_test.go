package stile_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/stiletest"
)

// TestMain wants every goroutine of every gateway gone.
func TestMain(m *testing.M) {
	// The thread that starts the children of commands is kept for ever on purpose.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/stile-mcp/stile/internal/stdio.runStarter"))
}

// The two eras, and the headers that a client of each sends.
const (
	era2025 = stiletest.Version2025
	era2026 = stiletest.Version2026
)

// ask is one request to the gateway. The zero value is a POST without a token.
type ask struct {
	method string // default POST, and GET or DELETE where there is no body
	path   string // default /mcp
	token  string
	body   string
	header http.Header
}

// with adds a header line.
func (a ask) with(name, value string) ask {
	h := a.header.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Add(name, value)
	a.header = h
	return a
}

// tool is a tools/call of one era.
func tool(era, token, name, args string) ask {
	return rpc(era, token, "tools/call", `"name":"`+name+`","arguments":`+args).named(era, name)
}

// named adds the header that mirrors the name.
func (a ask) named(era, name string) ask {
	if era == era2026 {
		return a.with("Mcp-Name", name)
	}
	return a
}

// rpc is a request of one era with the id 7. params are members, without braces.
func rpc(era, token, method, params string) ask {
	a := ask{token: token}.with("Accept", "application/json, text/event-stream").with("MCP-Protocol-Version", era)
	if era == era2026 {
		a = a.with("Mcp-Method", method)
		if params != "" {
			params += ","
		}
		params += `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	}
	a.body = `{"jsonrpc":"2.0","id":7,"method":"` + method + `","params":{` + params + `}}`
	return a
}

// stream is the GET of the 2025 revisions.
func stream(token string) ask {
	return ask{method: http.MethodGet, token: token}.with("Accept", "text/event-stream")
}

// request makes it an HTTP request to base.
func (a ask) request(t testing.TB, base string) *http.Request {
	t.Helper()
	if a.method == "" {
		a.method = http.MethodPost
	}
	if a.path == "" {
		a.path = "/mcp"
	}
	var body io.Reader
	if a.body != "" {
		body = strings.NewReader(a.body)
	}
	r, err := http.NewRequestWithContext(t.Context(), a.method, base+a.path, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range a.header {
		r.Header[name] = values
	}
	if a.body != "" && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if a.token != "" {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	return r
}

// do asks the handler without a network.
func do(t testing.TB, h http.Handler, a ask) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := a.request(t, publicURL)
	r.RequestURI, r.RemoteAddr = r.URL.RequestURI(), "192.0.2.1:1"
	h.ServeHTTP(w, r)
	return w
}

// serve puts a handler on loopback.
func serve(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

// send asks a server on loopback. The body is closed when t ends.
func send(t testing.TB, server *httptest.Server, a ask) *http.Response {
	t.Helper()
	res, err := server.Client().Do(a.request(t, server.URL))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// mint makes a token for the endpoint with further claims.
func (f *fixture) mint(c stiletest.Claims) string {
	c.Audience = []string{resource}
	return f.issuer.Token(c)
}

// reached is how many requests came to the upstream.
func (f *fixture) reached() int { return len(f.upstream.Recorded()) }

// rpcError is the error of a JSON-RPC answer.
type rpcError struct {
	ID    json.RawMessage `json:"id"`
	Error struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    struct {
			Error     string   `json:"error"`
			Scope     string   `json:"scope"`
			Required  []string `json:"required_scopes"`
			RequestID string   `json:"request_id"`
		} `json:"data"`
	} `json:"error"`
}

// readError reads a JSON-RPC error and wants it to be one.
func readError(t testing.TB, body []byte) rpcError {
	t.Helper()
	var e rpcError
	if err := json.Unmarshal(body, &e); err != nil || e.Error.Message == "" {
		t.Fatalf("a JSON-RPC error was expected, not %q: %v", body, err)
	}
	return e
}

// checkRefusal wants a status, and a JSON-RPC error that carries the id of the
// message and of the request.
func checkRefusal(t testing.TB, status int, h http.Header, body []byte, wantStatus int, wantID string) {
	t.Helper()
	if status != wantStatus {
		t.Fatalf("status %d, want %d: %s", status, wantStatus, body)
	}
	e := readError(t, body)
	if string(e.ID) != wantID {
		t.Errorf("id %s, want %s: %s", e.ID, wantID, body)
	}
	if id := h.Get("X-Request-Id"); id == "" || e.Error.Data.RequestID != id {
		t.Errorf("X-Request-Id %q, and in the body %q", id, e.Error.Data.RequestID)
	}
	if got := h.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
}

// events reads an event stream to its end, or until enough says so, and returns
// the data of its events. Comments are counted.
func events(t testing.TB, r io.Reader, enough func(data []string, comments int) bool) (data []string, comments int) {
	t.Helper()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		switch value, isData := strings.CutPrefix(line, "data:"); {
		case isData:
			data = append(data, strings.TrimPrefix(value, " "))
		case strings.HasPrefix(line, ":"):
			comments++
		}
		if enough != nil && enough(data, comments) {
			break
		}
	}
	return data, comments
}

// records are the lines of the audit.
func (f *fixture) records(t testing.TB) []map[string]any {
	t.Helper()
	return parseRecords(t, f.audit.Bytes())
}

func parseRecords(t testing.TB, audit []byte) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range bytes.Lines(audit) {
		var record map[string]any
		if err := json.Unmarshal(line, &record); err != nil {
			t.Fatalf("audit line %q: %v", line, err)
		}
		out = append(out, record)
	}
	return out
}

// lockedBuffer is a writer that may be read meanwhile.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// direct makes the upstream of the fixture a handler in the same process.
func direct(h http.Handler) func(*stile.Config) {
	return func(c *stile.Config) { c.Servers[0].Upstream = h }
}

// answerTool is an upstream that answers every tools/call with id 7.
var answerTool = stiletest.AnswerJSON(http.StatusOK, `{"jsonrpc":"2.0","id":7,"result":{"content":[]}}`)

// printable quotes what a test shows of an answer.
func printable(b []byte) string { return fmt.Sprintf("%.400q", b) }
