package ask_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/stile-mcp/stile/internal/ask"
)

const roleVar = "STILE_ASK_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		play(role)
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/stile-mcp/stile/internal/stdio.runStarter")) // one thread for good
}

// message is what a scripted server reads of a request.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Cursor string `json:"cursor"`
	} `json:"params"`
}

// script answers a request with a result, or with an error that begins with "!".
type script func(m message) string

func (s script) answer(m message) string {
	body := s(m)
	key := "result"
	if rest, failed := strings.CutPrefix(body, "!"); failed {
		body, key = rest, "error"
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,%q:%s}`, m.ID, key, body)
}

// capable is a server that says it has one kind.
func capable(kind string, list func(cursor string) string) script {
	return func(m message) string {
		switch m.Method {
		case "initialize":
			return `{"protocolVersion":"2025-06-18","capabilities":{"` + kind + `":{}},"serverInfo":{"name":"n","version":"v"}}`
		case kind + "/list":
			return list(m.Params.Cursor)
		default:
			return `!{"code":-32601,"message":"no"}`
		}
	}
}

func (s script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m message
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil || m.ID == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, s.answer(m))
}

var scripts = map[string]script{
	"pages": capable("tools", func(cursor string) string {
		if cursor == "" {
			return `{"tools":[{"name":"a","annotations":{"readOnlyHint":true,"destructiveHint":"no","openWorldHint":null}}],"nextCursor":"2"}`
		}
		return `{"tools":[{"name":"b"},{"name":"c","annotations":7}]}`
	}),
	"circle": capable("tools", func(string) string { return `{"tools":[],"nextCursor":"x"}` }),
	"endless": func() script {
		n := 0
		return capable("tools", func(string) string { n++; return fmt.Sprintf(`{"tools":[],"nextCursor":"%d"}`, n) })
	}(),
	"many": capable("prompts", func(string) string {
		return `{"prompts":[` + strings.Repeat(`{"name":"x"},`, ask.MaxItems) + `{"name":"y"}]}`
	}),
	"huge": capable("tools", func(string) string {
		return `{"tools":[{"name":"` + strings.Repeat("x", 33<<20) + `"}]}`
	}),
	"nameless":  capable("tools", func(string) string { return `{"tools":[{"title":"x"}]}` }),
	"no object": capable("tools", func(string) string { return `{"tools":["x"]}` }),
	"no list":   capable("tools", func(string) string { return `{}` }),
	"cursor":    capable("tools", func(string) string { return `{"tools":[],"nextCursor":1}` }),
	"broken":    capable("tools", func(string) string { return `!{"code":-32603,"message":"out of order"}` }),
	"unlisted":  capable("resources", func(string) string { return `!{"code":-32601,"message":"no"}` }),
	"new": func(m message) string {
		switch m.Method {
		case "server/discover":
			return `{"capabilities":{"prompts":{}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"n","version":"v"}}}`
		case "prompts/list":
			return `{"prompts":[{"name":"p"}]}`
		}
		return `!{"code":-32022,"message":"which version"}`
	},
	"neither": func(message) string { return `!{"code":-32601,"message":"no"}` },
}

// play is a scripted server on standard input and output, which asks something
// itself and is noisy.
func play(role string) {
	fmt.Println("a banner")
	fmt.Println(`{"jsonrpc":"2.0","id":"p","method":"ping"}`)
	in := bufio.NewReader(os.Stdin)
	asked, waiting := false, message{} // tools/list waits for the answer to ping
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var m message
		_ = json.Unmarshal(line, &m)
		if m.Method == "" && string(m.ID) == `"p"` {
			asked = true
			if waiting.ID != nil {
				fmt.Println(scripts[role].answer(waiting))
			}
		}
		if m.Method == "" || m.ID == nil {
			continue
		}
		switch {
		case role == "mute":
			continue
		case role == "dies":
			fmt.Fprintln(os.Stderr, "no database")
			os.Exit(3)
		case role == "pages" && m.Method == "tools/list" && !asked:
			waiting = m
			continue
		}
		fmt.Println(scripts[role].answer(m))
	}
}

func overHTTP(t *testing.T, h http.Handler) ask.Target {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return ask.Target{URL: server.URL}
}

func asCommand(t *testing.T, role string) ask.Target {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return ask.Target{Command: []string{exe}, Env: map[string]string{roleVar: role}}
}

// What servers answer, by HTTP and by a command. Lists are taken whole or not at
// all.
func TestServers(t *testing.T) {
	for role, want := range map[string]string{
		"pages":     "n v a b c",
		"new":       "n v p",
		"unlisted":  "n v",
		"circle":    "the pages go round in a circle",
		"endless":   "more than 500 pages",
		"many":      "lists more than 5000",
		"huge":      "more than 32 MiB",
		"nameless":  "has no name",
		"no object": "not an object",
		"no list":   "no list of tools",
		"cursor":    "nextCursor is not a text",
		"broken":    "out of order (error -32603)",
		"neither":   "neither way to begin",
	} {
		for how, target := range map[string]ask.Target{"http": overHTTP(t, scripts[role]), "command": asCommand(t, role)} {
			t.Run(role+"/"+how, func(t *testing.T) {
				in, err := ask.Inventory(t.Context(), target)
				got := []string{in.Server, in.Version}
				for _, tool := range in.Tools {
					got = append(got, tool.Name)
				}
				got = append(append(append(got, in.Resources...), in.Templates...), in.Prompts...)
				if err != nil {
					got = []string{err.Error()}
				}
				if text := strings.Join(got, " "); text != want && (err == nil || !strings.Contains(text, want)) {
					t.Errorf("%q, want %q", text, want)
				}
			})
		}
	}
}

// Hints that are no booleans were not given.
func TestHints(t *testing.T) {
	in, err := ask.Inventory(t.Context(), overHTTP(t, scripts["pages"]))
	if err != nil {
		t.Fatal(err)
	}
	a := in.Tools[0]
	if a.ReadOnly == nil || !*a.ReadOnly || a.Destructive != nil || a.OpenWorld != nil || a.Idempotent != nil {
		t.Errorf("%+v", a)
	}
}

func TestCommandsThatFail(t *testing.T) {
	if _, err := ask.Inventory(t.Context(), asCommand(t, "dies")); err == nil || !strings.Contains(err.Error(), "exited with code 3; it said: no database") {
		t.Error(err)
	}
	if _, err := ask.Inventory(t.Context(), ask.Target{Command: []string{"no-such-server"}}); err == nil || !strings.Contains(err.Error(), "not in PATH") {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := ask.Inventory(ctx, asCommand(t, "mute")); err == nil || err.Error() != "the server did not answer in time" {
		t.Error(err)
	}
}

// Answers that are no messages end it; a redirect is not followed, and a credential
// not carried elsewhere.
func TestHTTPAnswersThatFail(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, "give the URL that it sends to"},
		"token":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, "--header"},
		"not found":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "404"},
		"unwell":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "500"},
		"a page":       {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "no JSON-RPC response"},
		"empty stream": {stream(""), "ended without the answer"},
		"endless stream": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for {
				if _, err := io.WriteString(w, strings.Repeat(": x\n\n", 10_000)); err != nil {
					return
				}
			}
		}, "more than 32 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			target := overHTTP(t, tc.handler)
			target.Header = http.Header{"X-Api-Key": {"k"}}
			if _, err := ask.Inventory(t.Context(), target); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

func stream(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, text)
	}
}

// In a stream the answer may stand behind other messages, and a request of the
// server is answered. The session is ended.
func TestStreamsAndSessions(t *testing.T) {
	var pinged, ended bool
	target := overHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m message
		_ = json.NewDecoder(r.Body).Decode(&m)
		switch {
		case r.Method == http.MethodDelete:
			ended = r.Header.Get("Mcp-Session-Id") == "s1"
		case m.Method == "":
			pinged = string(m.ID) == `"q"`
			w.WriteHeader(http.StatusAccepted)
		case m.ID == nil:
			w.WriteHeader(http.StatusAccepted)
		default:
			w.Header().Set("Mcp-Session-Id", "s1")
			if m.Method != "initialize" && (r.Header.Get("Mcp-Session-Id") != "s1" || r.Header.Get("Mcp-Protocol-Version") != "2025-06-18") {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			stream("data: noise\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n"+
				"data: {\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"ping\"}\n\ndata: "+scripts["pages"].answer(m)+"\n\n")(w, r)
		}
	}))
	in, err := ask.Inventory(t.Context(), target)
	if err != nil || len(in.Tools) != 3 || !pinged || !ended {
		t.Errorf("%v %+v pinged %v ended %v", err, in, pinged, ended)
	}
}
