package forward_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/session"
)

func ignoreSignals() { signal.Ignore(syscall.SIGTERM, syscall.SIGINT) }

// fixture is a Command over HTTP in front of fake servers. The header Owner says
// who is asking, as the gateway's context does.
type commandFixture struct {
	t       *testing.T
	command *forward.Command
	url     string
	log     *safeBuffer
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func command(t *testing.T, habits string, change func(*forward.CommandConfig)) *commandFixture {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := &commandFixture{t: t, log: new(safeBuffer)}
	config := forward.CommandConfig{Name: "fake", Command: []string{exe}, Env: map[string]string{childVar: habits},
		StopGrace: 300 * time.Millisecond, Log: slog.New(slog.NewTextHandler(f.log, nil))}
	if change != nil {
		change(&config)
	}
	if f.command, err = forward.NewCommand(config); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		owner := session.Owner{Issuer: "https://idp.example.com", Subject: r.Header.Get("Owner")}
		f.command.ServeHTTP(w, r.WithContext(session.WithOwner(r.Context(), owner)))
	}))
	f.url = server.URL
	t.Cleanup(func() {
		f.command.Close()
		server.CloseClientConnections()
		server.Close()
		http.DefaultClient.CloseIdleConnections()
		if t.Failed() {
			t.Log(f.log)
		}
	})
	return f
}

// client is one client of the fixture.
type client struct {
	f       *commandFixture
	owner   string
	session string
	version string
}

const bothTypes = "application/json, text/event-stream"

// send sends a request; the answer's body is the caller's to close.
func (c *client) send(ctx context.Context, method, body string, header ...string) *http.Response {
	c.f.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, c.f.url, strings.NewReader(body))
	if err != nil {
		c.f.t.Fatal(err)
	}
	r.Header.Set("Accept", bothTypes)
	r.Header.Set("Owner", c.owner)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.session != "" {
		r.Header.Set("Mcp-Session-Id", c.session)
	}
	if c.version != "" {
		r.Header.Set("MCP-Protocol-Version", c.version)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return &http.Response{StatusCode: -1, Body: http.NoBody}
		}
		c.f.t.Fatal(err)
	}
	return res
}

// post sends a message and reads the whole answer.
func (c *client) post(body string, header ...string) (int, string, http.Header) {
	c.f.t.Helper()
	ctx, cancel := context.WithTimeout(c.f.t.Context(), 60*time.Second)
	defer cancel()
	res := c.send(ctx, http.MethodPost, body, header...)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.f.t.Fatalf("%s: %v after %s", body, err, text)
	}
	return res.StatusCode, string(text), res.Header
}

// open begins a session of the 2025 revisions.
func (f *commandFixture) open(owner string) *client {
	f.t.Helper()
	c := &client{f: f, owner: owner}
	status, body, header := c.post(initialize("2025-11-25"))
	if status != http.StatusOK || header.Get("Mcp-Session-Id") == "" || header.Get("Content-Type") != "application/json" {
		f.t.Fatalf("initialize: %d %s %v", status, body, header)
	}
	c.session, c.version = header.Get("Mcp-Session-Id"), "2025-11-25"
	if status, body, _ := c.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`); status != http.StatusAccepted || body != "" {
		f.t.Fatalf("initialized: %d %s", status, body)
	}
	return c
}

func initialize(version string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":%q,"capabilities":{"sampling":{}},"clientInfo":{"name":"t","version":"1"}}}`, version)
}

// tool is a call of the fake server; arguments come as name, value pairs.
func tool(id any, name string, arguments ...string) string {
	return call(id, "", name, arguments...)
}

func call(id any, meta, name string, arguments ...string) string {
	args := map[string]string{}
	for i := 0; i+1 < len(arguments); i += 2 {
		args[arguments[i]] = arguments[i+1]
	}
	encoded, _ := json.Marshal(args)
	if meta != "" {
		meta = `,"_meta":{` + meta + `}`
	}
	rawID, _ := json.Marshal(id)
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q,"arguments":%s%s}}`, rawID, name, encoded, meta)
}

const modernMeta = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}`

// modern is a client of 2026-07-28.
func (f *commandFixture) modern(owner string) *client {
	return &client{f: f, owner: owner, version: "2026-07-28"}
}

// result is the member of a JSON object.
func member(t *testing.T, body string, path ...string) string {
	t.Helper()
	raw := json.RawMessage(body)
	for _, name := range path {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(raw, &object); err != nil {
			t.Fatalf("%s has no %v: %v", body, path, err)
		}
		raw = object[name]
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

// event is one event of a stream.
type sseEvent struct{ id, data string }

// events reads a stream as it comes.
type eventReader struct {
	t    *testing.T
	res  *http.Response
	scan *bufio.Scanner
}

func readEvents(t *testing.T, res *http.Response) *eventReader {
	t.Helper()
	if got := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || got != "text/event-stream" {
		body, _ := io.ReadAll(res.Body)
		t.Fatalf("no stream but %d %s: %s", res.StatusCode, got, body)
	}
	scan := bufio.NewScanner(res.Body)
	scan.Buffer(nil, 8<<20)
	return &eventReader{t, res, scan}
}

// next returns the next event, comments aside; false at the end.
func (r *eventReader) next() (sseEvent, bool) {
	var e sseEvent
	some := false
	for r.scan.Scan() {
		line := r.scan.Text()
		switch {
		case line == "":
			if some {
				return e, true
			}
		case strings.HasPrefix(line, "id: "):
			e.id, some = line[4:], true
		case strings.HasPrefix(line, "data:"):
			e.data, some = strings.TrimPrefix(line[5:], " "), true
		}
	}
	return e, false
}

// message returns the next event with data.
func (r *eventReader) message() sseEvent {
	r.t.Helper()
	for {
		e, ok := r.next()
		if !ok {
			r.t.Fatal("the stream ended")
		}
		if e.data != "" {
			return e
		}
	}
}

func (r *eventReader) rest() []sseEvent {
	var all []sseEvent
	for {
		e, ok := r.next()
		if !ok {
			return all
		}
		if e.data != "" {
			all = append(all, e)
		}
	}
}

// listen opens the GET stream of a session.
func (c *client) listen(header ...string) (*eventReader, context.CancelFunc) {
	c.f.t.Helper()
	ctx, cancel := context.WithCancel(c.f.t.Context())
	res := c.send(ctx, http.MethodGet, "", header...)
	c.f.t.Cleanup(func() { cancel(); res.Body.Close() })
	return readEvents(c.f.t, res), cancel
}

// stream sends a message that is answered with a stream.
func (c *client) stream(body string, header ...string) (*eventReader, context.CancelFunc) {
	c.f.t.Helper()
	ctx, cancel := context.WithCancel(c.f.t.Context())
	res := c.send(ctx, http.MethodPost, body, header...)
	c.f.t.Cleanup(func() { cancel(); res.Body.Close() })
	return readEvents(c.f.t, res), cancel
}

func TestCommandSession(t *testing.T) {
	f := command(t, "banner", nil)
	ada := f.open("ada")
	other := f.open("ada")
	if status, body, _ := ada.post(tool(1, "who", "who", "ada")); status != 200 || member(t, body, "result", "who") != "ada" {
		t.Errorf("%d %s", status, body)
	}
	_, one, _ := ada.post(tool("x", "who"))
	_, two, _ := other.post(tool("x", "who"))
	if member(t, one, "result", "pid") == member(t, two, "result", "pid") {
		t.Error("two sessions share a process")
	}
	if member(t, one, "id") != "x" {
		t.Errorf("the id came back as %s", one)
	}
	if status, body, _ := ada.post(tool(2, "error")); status != 200 || member(t, body, "error", "code") != "-32602" {
		t.Errorf("%d %s", status, body)
	}
	res := ada.send(t.Context(), http.MethodDelete, "")
	res.Body.Close()
	if res.StatusCode != http.StatusNoContent {
		t.Errorf("DELETE: %d", res.StatusCode)
	}
	if status, body, _ := ada.post(tool(3, "who")); status != http.StatusNotFound || member(t, body, "id") != "3" {
		t.Errorf("after DELETE: %d %s", status, body)
	}
	if status, _, _ := other.post(tool(3, "who")); status != http.StatusOK {
		t.Errorf("the other session: %d", status)
	}
}

// TestCommandPassesBytes sends what a decoder and encoder would change.
func TestCommandPassesBytes(t *testing.T) {
	c := command(t, "", nil).open("ada")
	body := "{ \"id\" : 12345678901234567890,\n\t\"jsonrpc\":\"2.0\",\r\n \"method\":\"tools\\/call\",\"params\":{\"name\":\"raw\",\"x\":1.0e2,\"é\":\"\\u00e9\\ud83d\\ude00<&>\"}}"
	_, answer, _ := c.post(body)
	want := strings.NewReplacer("\n", " ", "\r", " ").Replace(body)
	if got := member(t, answer, "result", "raw"); got != want {
		t.Errorf("the server got\n%s\nwant\n%s", got, want)
	}
	if !strings.Contains(answer, `"id":12345678901234567890`) {
		t.Errorf("the id came back as %s", answer)
	}
}

func TestCommandRefusals(t *testing.T) {
	f := command(t, "", nil)
	ada := f.open("ada")
	stranger := &client{f: f, owner: "eve", session: ada.session}
	for name, c := range map[string]struct {
		client *client
		method string
		body   string
		header []string
		status int
		says   string
	}{
		"no session":         {&client{f: f}, "POST", tool(1, "who"), nil, 400, "Mcp-Session-Id is missing"},
		"unknown session":    {&client{f: f, session: "nobody"}, "POST", tool(1, "who"), nil, 404, "start a new one"},
		"stranger POST":      {stranger, "POST", tool(1, "who"), nil, 404, ""},
		"stranger GET":       {stranger, "GET", "", nil, 404, ""},
		"stranger DELETE":    {stranger, "DELETE", "", nil, 404, ""},
		"stranger resumes":   {stranger, "GET", "", []string{"Last-Event-ID", "1-1"}, 404, ""},
		"GET no session":     {&client{f: f}, "GET", "", nil, 400, ""},
		"DELETE no session":  {&client{f: f}, "DELETE", "", nil, 400, ""},
		"PUT":                {ada, "PUT", "", nil, 405, ""},
		"2026 GET":           {f.modern("ada"), "GET", "", nil, 405, ""},
		"2026 DELETE":        {f.modern("ada"), "DELETE", "", nil, 405, ""},
		"initialize again":   {ada, "POST", initialize("2025-11-25"), nil, 400, "begins a session"},
		"unknown revision":   {ada, "POST", tool(1, "who"), []string{"MCP-Protocol-Version", "2025-01-01"}, 400, "no known revision"},
		"nothing acceptable": {ada, "POST", tool(1, "who"), []string{"Accept", "text/html"}, 406, ""},
		"not a message":      {ada, "POST", `{"id":1}`, nil, 400, "not one JSON-RPC message"},
		"bad event id":       {ada, "GET", "", []string{"Last-Event-ID", "x"}, 400, "Last-Event-ID"},
		"unknown event id":   {ada, "GET", "", []string{"Last-Event-ID", "zz-1"}, 400, "Last-Event-ID"},
		"future event id":    {ada, "GET", "", []string{"Last-Event-ID", "1-zz"}, 400, "Last-Event-ID"},
		"2026 response":      {f.modern("ada"), "POST", `{"jsonrpc":"2.0","id":1,"result":{}}`, nil, 400, "no responses"},
	} {
		t.Run(name, func(t *testing.T) {
			res := c.client.send(t.Context(), c.method, c.body, c.header...)
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != c.status || !strings.Contains(string(body), c.says) || member(t, string(body), "error") == "" {
				t.Errorf("%d %s, want %d and %q", res.StatusCode, body, c.status, c.says)
			}
			if c.status == 405 && res.Header.Get("Allow") == "" {
				t.Error("no Allow header")
			}
		})
	}
	if status, _, _ := ada.post(tool(1, "who")); status != 200 {
		t.Errorf("the session did not survive: %d", status)
	}
}

func TestCommandProgressAndLog(t *testing.T) {
	c := command(t, "", nil).open("ada")
	r, _ := c.stream(call(7, `"progressToken":"t"`, "progress", "who", "ada"))
	got := r.rest()
	if len(got) != 4 {
		t.Fatalf("got %q", got)
	}
	for i, e := range got[:3] {
		if member(t, e.data, "params", "progressToken") != "t" || member(t, e.data, "params", "progress") != fmt.Sprint(i) || e.id == "" {
			t.Errorf("event %d: %q", i, e)
		}
	}
	if member(t, got[3].data, "id") != "7" {
		t.Errorf("the answer: %q", got[3])
	}
	r, _ = c.stream(tool(8, "log", "level", "info", "who", "ada"))
	if got := r.rest(); len(got) != 2 || member(t, got[0].data, "method") != "notifications/message" {
		t.Errorf("got %q", got)
	}
}

// TestCommandJSONOnly has a client that takes no streams.
func TestCommandJSONOnly(t *testing.T) {
	c := command(t, "", nil).open("ada")
	status, body, header := c.post(call(7, `"progressToken":"t"`, "progress", "who", "ada"), "Accept", "application/json")
	if status != 200 || header.Get("Content-Type") != "application/json" || member(t, body, "result", "who") != "ada" {
		t.Errorf("%d %s", status, body)
	}
	r, _ := c.stream(tool(8, "who", "who", "ada"), "Accept", "text/event-stream")
	if got := r.rest(); len(got) != 1 || member(t, got[0].data, "result", "who") != "ada" {
		t.Errorf("got %q", got)
	}
}

func TestCommandServerRequests(t *testing.T) {
	f := command(t, "", nil)
	c := f.open("ada")
	t.Run("on the stream of the call", func(t *testing.T) {
		r, _ := c.stream(tool(1, "ask", "method", "sampling/createMessage"))
		asked := r.message()
		if member(t, asked.data, "method") != "sampling/createMessage" {
			t.Fatalf("got %q", asked)
		}
		status, body, _ := c.post(`{"jsonrpc":"2.0","id":"` + member(t, asked.data, "id") + `","result":{"text":"\u00e9"}}`)
		if status != http.StatusAccepted || body != "" {
			t.Errorf("the client's answer: %d %s", status, body)
		}
		if got := r.rest(); len(got) != 1 || !strings.Contains(got[0].data, `{"text":"\u00e9"}`) {
			t.Errorf("got %q", got)
		}
	})
	t.Run("ping is answered by Stile", func(t *testing.T) {
		status, body, _ := c.post(tool(2, "ask", "method", "ping"))
		if status != 200 || member(t, body, "result", "answer", "result") != "{}" {
			t.Errorf("%d %s", status, body)
		}
	})
	t.Run("on the GET stream when the call takes none", func(t *testing.T) {
		r, _ := c.listen()
		done := make(chan string)
		go func() {
			_, body, _ := c.post(tool(3, "ask", "method", "roots/list"), "Accept", "application/json")
			done <- body
		}()
		asked := r.message()
		c.post(`{"jsonrpc":"2.0","id":"` + member(t, asked.data, "id") + `","result":{"roots":[]}}`)
		if body := <-done; member(t, body, "result", "answer", "result", "roots") != "[]" {
			t.Errorf("got %s", body)
		}
	})
}

func TestCommandGetStream(t *testing.T) {
	c := command(t, "", nil).open("ada")
	const news = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	const updated = `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"note://1"}}`
	c.post(tool(1, "say", "line", news)) // before anyone listens
	first, _ := c.listen()
	if got := first.message(); got.data != news {
		t.Errorf("got %q", got)
	}
	c.post(tool(2, "say", "line", updated))
	e := first.message()
	if e.data != updated {
		t.Errorf("got %q", e)
	}
	second, cancel := c.listen() // takes over
	if got := first.rest(); len(got) != 0 {
		t.Errorf("the old stream still got %q", got)
	}
	c.post(tool(3, "say", "line", news))
	if got := second.message(); got.data != news {
		t.Errorf("got %q", got)
	}
	cancel()
	c.post(tool(4, "say", "line", updated))
	third, _ := c.listen("Last-Event-ID", e.id) // replays what came after e
	if one, two := third.message(), third.message(); one.data != news || two.data != updated {
		t.Errorf("replayed %q and %q", one, two)
	}
}

// TestCommandResumesPost loses the connection of a call and comes back to it.
func TestCommandResumesPost(t *testing.T) {
	c := command(t, "", nil).open("ada")
	const first = `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"first"}}`
	r, cancel := c.stream(tool("long", "hold", "name", "a", "first", first))
	prime, ok := r.next()
	if !ok || prime.id == "" || prime.data != "" {
		t.Errorf("the stream begins with %q, want an id and no data", prime)
	}
	if got := r.message(); got.data != first {
		t.Errorf("got %q", got)
	}
	cancel()
	c.post(tool(1, "release", "name", "a"))
	resumed, _ := c.listen("Last-Event-ID", prime.id)
	got := resumed.rest()
	if len(got) != 2 || got[0].data != first || member(t, got[1].data, "id") != "long" {
		t.Fatalf("replayed %q", got)
	}
	again, _ := c.listen("Last-Event-ID", got[0].id)
	if rest := again.rest(); len(rest) != 1 || rest[0] != got[1] {
		t.Errorf("replayed %q, want %q", rest, got[1:])
	}
	older := *c
	older.version = "2025-06-18"
	// The revision that was agreed on counts, not the one in the header.
	r, _ = older.stream(tool(2, "log", "level", "info"))
	if e, _ := r.next(); e.data != "" {
		t.Errorf("no event to come back to: %q", e)
	}
}

func TestCommandOldRevisionsGetNoEmptyEvent(t *testing.T) {
	f := command(t, "", nil)
	c := &client{f: f, owner: "ada"}
	_, _, header := c.post(initialize("2025-06-18"))
	c.session = header.Get("Mcp-Session-Id")
	r, _ := c.stream(tool(2, "log", "level", "info"))
	if e, _ := r.next(); e.data == "" {
		t.Errorf("the stream begins with %q", e)
	}
}

func TestCommandCancels(t *testing.T) {
	c := command(t, "", nil).open("ada")
	done := make(chan string)
	go func() {
		_, body, _ := c.post(tool("c", "until-cancelled"), "Accept", "application/json")
		done <- body
	}()
	// A call that is not known is not cancelled.
	if status, _, _ := c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"d"}}`); status != 202 {
		t.Error(status)
	}
	for {
		status, _, _ := c.post(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"\u0063"}}`)
		if status != 202 {
			t.Fatal(status)
		}
		select {
		case body := <-done:
			if member(t, body, "error", "message") == "" || member(t, body, "id") != "c" {
				t.Errorf("got %s", body)
			}
			if _, body, _ := c.post(tool(1, "seen")); strings.Count(body, "notifications/cancelled") != 1 {
				t.Errorf("the server saw %s", body)
			}
			return
		case <-time.After(10 * time.Millisecond): // it was not under way yet
		}
	}
}

func TestCommandCrash(t *testing.T) {
	for name, body := range map[string]string{
		"plain":          tool(1, "crash"),
		"in a stream":    tool(1, "crash", "first", `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}`),
		"half a message": tool(1, "crash", "half", "yes"),
	} {
		t.Run(name, func(t *testing.T) {
			f := command(t, "", nil)
			c := f.open("ada")
			news, _ := c.listen()
			waiting := make(chan string)
			r, _ := c.stream(tool("w", "hold", "name", "x", "first", `{"jsonrpc":"2.0","method":"notifications/message","params":{}}`))
			go func() {
				all := r.rest()
				waiting <- all[len(all)-1].data
			}()
			_, answer, header := c.post(body)
			if strings.Contains(header.Get("Content-Type"), "event-stream") {
				answer = answer[strings.LastIndex(answer, "data: ")+len("data: "):]
			}
			for id, got := range map[string]string{"1": answer, "w": <-waiting} {
				if member(t, got, "id") != id || !strings.Contains(member(t, got, "error", "message"), "ended before it answered") {
					t.Errorf("call %s was answered with %s", id, got)
				}
			}
			if got := news.rest(); len(got) != 0 {
				t.Errorf("the GET stream got %q", got)
			}
			if status, _, _ := c.post(tool(2, "who")); status != http.StatusNotFound {
				t.Errorf("afterwards the session answers %d", status)
			}
			c = f.open("ada") // anew, at once
			if status, _, _ := c.post(tool(2, "who")); status != http.StatusOK {
				t.Errorf("a new session: %d", status)
			}
		})
	}
}

// TestCommandCrashesAgain has a caller whose children crash as soon as they work:
// the first new ones are free, then it has to wait, and nobody else has.
func TestCommandCrashesAgain(t *testing.T) {
	f := command(t, "", nil)
	c := f.modern("ada")
	for range 3 {
		if status, body, _ := c.post(call("x", modernMeta, "crash")); status != 200 || !strings.Contains(body, "ended before it answered") {
			t.Fatalf("%d %s", status, body)
		}
	}
	if status, body, header := c.post(call("x", modernMeta, "who")); status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("%d %s", status, body)
	}
	pid(t, f.modern("bob"))
	if err := f.command.Ready(t.Context()); err != nil {
		t.Errorf("what one caller does to its processes is not for readiness: %v", err)
	}
}

func TestCommandThatDoesNotStart(t *testing.T) {
	t.Run("ends at once", func(t *testing.T) {
		f := command(t, "broken", nil)
		c := &client{f: f, owner: "ada"}
		status, body, _ := c.post(initialize("2025-11-25"))
		if status != http.StatusBadGateway || member(t, body, "error", "code") != "502" {
			t.Errorf("%d %s", status, body)
		}
		status, body, header := c.post(initialize("2025-11-25"))
		if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
			t.Errorf("the next: %d %s", status, body)
		}
		for _, owner := range []string{"bob", "eve"} {
			// Their starts are their own.
			if status, _, _ := (&client{f: f, owner: owner}).post(initialize("2025-11-25")); status != http.StatusBadGateway {
				t.Errorf("%s: %d", owner, status)
			}
		}
		if err := f.command.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "code 9") {
			t.Errorf("Ready after three failures: %v", err)
		}
	})
	t.Run("says nothing", func(t *testing.T) {
		f := command(t, "silent stubborn", func(c *forward.CommandConfig) { c.StartTimeout = 200 * time.Millisecond })
		for _, c := range []*client{{f: f, owner: "ada"}, f.modern("bob")} {
			body := initialize("2025-11-25")
			if c.version != "" {
				body = call(1, modernMeta, "who")
			}
			if status, body, _ := c.post(body); status != http.StatusGatewayTimeout {
				t.Errorf("%d %s", status, body)
			}
		}
	})
	t.Run("is not there", func(t *testing.T) {
		f := command(t, "", func(c *forward.CommandConfig) { c.Command = []string{"/no/such/program"} })
		if err := f.command.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
			t.Errorf("Ready: %v", err)
		}
		if status, _, _ := (&client{f: f}).post(initialize("2025-11-25")); status != http.StatusBadGateway {
			t.Errorf("initialize: %d", status)
		}
	})
	t.Run("refuses the client", func(t *testing.T) {
		f := command(t, "refuses", func(c *forward.CommandConfig) { c.MaxChildren = 1 })
		for range 3 {
			c := &client{f: f}
			status, body, header := c.post(initialize("2025-11-25"))
			if status == http.StatusServiceUnavailable {
				continue // the one before is still going
			}
			if status != 200 || member(t, body, "error", "code") != "-32602" || header.Get("Mcp-Session-Id") != "" {
				t.Errorf("%d %s", status, body)
			}
		}
	})
	t.Run("healthy", func(t *testing.T) {
		if err := command(t, "", nil).command.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestCommandEras(t *testing.T) {
	t.Run("2026 client, 2025 server", func(t *testing.T) {
		f := command(t, "2025", nil)
		for range 2 {
			status, body, _ := f.modern("ada").post(call(1, modernMeta, "who"))
			if status != 400 || member(t, body, "error", "code") != "-32600" || !strings.Contains(body, "does not speak revision 2026-07-28") {
				t.Errorf("%d %s", status, body)
			}
		}
		if n := strings.Count(f.log.String(), "child started"); n != 1 {
			t.Errorf("%d children were started to find out", n)
		}
		f.open("ada")
	})
	t.Run("2025 client, 2026 server", func(t *testing.T) {
		f := command(t, "2026", nil)
		status, body, _ := (&client{f: f}).post(initialize("2025-11-25"))
		if status != 200 || member(t, body, "error", "message") != "not in this revision: use 2026-07-28" {
			t.Errorf("%d %s", status, body)
		}
		if status, _, _ := f.modern("ada").post(call(1, modernMeta, "who")); status != 200 {
			t.Error(status)
		}
	})
	t.Run("both", func(t *testing.T) {
		f := command(t, "", nil)
		_, old, _ := f.open("ada").post(tool(1, "who"))
		_, new, _ := f.modern("ada").post(call(1, modernMeta, "who"))
		if member(t, old, "result", "pid") == member(t, new, "result", "pid") {
			t.Error("a session and requests without one share a process")
		}
	})
}
