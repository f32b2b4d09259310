package forward_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// childVar makes this test program an MCP server on standard input and output,
// with what it lists as its habits.
const childVar = "FORWARD_TEST_CHILD"

func TestMain(m *testing.M) {
	if habits, ok := os.LookupEnv(childVar); ok {
		newFakeServer(habits).run()
		return
	}
	// The thread that starts children is kept for ever on purpose.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/stile-mcp/stile/internal/stdio.runStarter"))
}

// fakeServer is an MCP server of both eras whose tools show what reaches it, and
// which misbehaves on demand.
type fakeServer struct {
	habits map[string]bool

	mu        sync.Mutex
	out       *bufio.Writer
	asked     int
	waiting   map[string]chan json.RawMessage // for answers of the client, by id
	cancelled []string
	seen      []string // notifications
	held      map[string]chan struct{}
}

// anyText keeps the arguments that are texts.
type anyText map[string]string

func (a *anyText) UnmarshalJSON(b []byte) error {
	var all map[string]any
	err := json.Unmarshal(b, &all)
	*a = anyText{}
	for name, value := range all {
		if text, ok := value.(string); ok {
			(*a)[name] = text
		}
	}
	return err
}

type fakeMessage struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name            string          `json:"name"`
		Arguments       anyText         `json:"arguments"`
		ProtocolVersion string          `json:"protocolVersion"`
		URI             string          `json:"uri"`
		Cursor          string          `json:"cursor"`
		Level           string          `json:"level"`
		RequestID       json.RawMessage `json:"requestId"`
		Capabilities    json.RawMessage `json:"capabilities"`
		Meta            struct {
			ProgressToken json.RawMessage `json:"progressToken"`
			Version       string          `json:"io.modelcontextprotocol/protocolVersion"`
		} `json:"_meta"`
	} `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
	raw    string
}

func newFakeServer(habits string) *fakeServer {
	s := &fakeServer{habits: map[string]bool{}, out: bufio.NewWriter(os.Stdout), waiting: map[string]chan json.RawMessage{}, held: map[string]chan struct{}{}}
	for _, habit := range strings.Fields(habits) {
		s.habits[habit] = true
	}
	return s
}

func (s *fakeServer) run() {
	if s.habits["banner"] {
		fmt.Println("Fake server, starting up ...")
	}
	if s.habits["broken"] {
		os.Exit(9)
	}
	if s.habits["stubborn"] {
		ignoreSignals()
	}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break
		}
		m := fakeMessage{raw: line}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			s.say(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"a line that is no JSON"}}`)
			continue
		}
		s.handle(&m)
	}
	if s.habits["stubborn"] {
		select {}
	}
}

func (s *fakeServer) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, format+"\n", args...)
	_ = s.out.Flush()
}

func (s *fakeServer) handle(m *fakeMessage) {
	switch {
	case m.Method == "":
		s.mu.Lock()
		answer := s.waiting[string(m.ID)]
		delete(s.waiting, string(m.ID))
		s.mu.Unlock()
		if answer != nil {
			answer <- json.RawMessage(strings.TrimSpace(m.raw))
		}
	case m.ID == nil:
		s.notified(m)
	default:
		go s.request(m)
	}
}

func (s *fakeServer) notified(m *fakeMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, m.Method)
	if m.Method == "notifications/cancelled" {
		s.cancelled = append(s.cancelled, string(m.Params.RequestID))
		if c := s.held["cancel"]; c != nil {
			close(c)
			delete(s.held, "cancel")
		}
	}
}

func (s *fakeServer) request(m *fakeMessage) {
	modern := m.Params.Meta.Version != ""
	switch {
	case s.habits["silent"]:
	case modern && s.habits["2025"], !modern && s.habits["2026"]:
		s.fail(m, -32601, "not in this revision: use 2026-07-28")
	case m.Method == "initialize":
		if s.habits["refuses"] {
			s.fail(m, -32602, "no")
			return
		}
		s.answer(m, `{"protocolVersion":%q,"capabilities":{"tools":{}},"serverInfo":{"name":"fake","version":"1"},"pid":%d,"client":%s}`,
			m.Params.ProtocolVersion, os.Getpid(), m.Params.Capabilities)
	case m.Method == "server/discover":
		s.answer(m, `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}`)
	case m.Method == "subscriptions/listen":
		s.listen(m)
	case m.Method == "tools/call":
		s.tool(m)
	case m.Method == "tools/list" && m.Params.Cursor == "":
		s.answer(m, `{"tools":[{"name":"who","inputSchema":{"type":"object"}}],"nextCursor":"more"}`)
	case m.Method == "tools/list":
		s.answer(m, `{"tools":[{"name":"route","inputSchema":{"type":"object","properties":{
			"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"N"},
			"deep":{"type":"object","properties":{"on":{"type":"boolean","x-mcp-header":"On"}}},
			"bad":{"type":"string","x-mcp-header":"no token"},"list":{"type":"array","items":{"type":"string","x-mcp-header":"Item"}}}}}]}`)
	case m.Method == "resources/subscribe", m.Method == "resources/unsubscribe":
		s.note(m.Method + " " + m.Params.URI)
		s.answer(m, `{}`)
	case m.Method == "logging/setLevel":
		s.note("level " + m.Params.Level)
		s.answer(m, `{}`)
	case m.Method == "ping":
		s.answer(m, `{}`)
	default:
		s.fail(m, -32601, "no such method")
	}
}

func (s *fakeServer) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, what)
}

func (s *fakeServer) answer(m *fakeMessage, format string, args ...any) {
	s.say(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, strings.NewReplacer("\n", "", "\t", "").Replace(fmt.Sprintf(format, args...)))
}

func (s *fakeServer) fail(m *fakeMessage, code int, text string) {
	s.say(`{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%q}}`, m.ID, code, text)
}

// listen acknowledges a subscription, sends news on it, and ends it when told to.
func (s *fakeServer) listen(m *fakeMessage) {
	meta := fmt.Sprintf(`"_meta":{"io.modelcontextprotocol/subscriptionId":%s}`, m.ID)
	s.say(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{%s,"notifications":{"toolsListChanged":true}}}`, meta)
	if s.habits["listens-briefly"] {
		s.say(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{%s}}`, meta)
		s.answer(m, `{"resultType":"complete",%s}`, meta)
	}
	if s.habits["ends-listening"] {
		s.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`, m.ID)
	}
}

// ask sends a request to the client and returns what it answered.
func (s *fakeServer) ask(method string) json.RawMessage {
	s.mu.Lock()
	s.asked++
	id := fmt.Sprintf(`"server-%d"`, s.asked)
	c := make(chan json.RawMessage, 1)
	s.waiting[id] = c
	s.mu.Unlock()
	s.say(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{}}`, id, method)
	return <-c
}

func (s *fakeServer) hold(name string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[name] == nil {
		s.held[name] = make(chan struct{})
	}
	return s.held[name]
}

// gigabyte answers with a line of 1 GB.
func (s *fakeServer) gigabyte(m *fakeMessage, order string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	head, tail := fmt.Sprintf(`{"id":%s,"result":{"text":"`, m.ID), `"}}`
	switch order {
	case "id last":
		head, tail = `{"result":{"text":"`, fmt.Sprintf(`"},"id":%s}`, m.ID)
	case "no id":
		head = `{"result":{"text":"`
	}
	chunk := strings.Repeat("x", 1<<20)
	fmt.Fprint(s.out, head)
	for range 1 << 10 {
		fmt.Fprint(s.out, chunk)
	}
	fmt.Fprintln(s.out, tail)
	_ = s.out.Flush()
}

func (s *fakeServer) tool(m *fakeMessage) {
	args := m.Params.Arguments
	switch m.Params.Name {
	case "raw": // the very bytes that came
		quoted, _ := json.Marshal(strings.TrimSuffix(m.raw, "\n"))
		s.answer(m, `{"raw":%s}`, quoted)
	case "who":
		s.answer(m, `{"pid":%d,"who":%q}`, os.Getpid(), args["who"])
	case "progress":
		for i := range 3 {
			s.say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d,"message":%q}}`, m.Params.Meta.ProgressToken, i, args["who"])
		}
		s.answer(m, `{"who":%q}`, args["who"])
	case "ask":
		s.answer(m, `{"answer":%s}`, s.ask(args["method"]))
	case "log":
		s.say(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":%q,"data":%q}}`, args["level"], args["who"])
		s.answer(m, `{"who":%q}`, args["who"])
	case "say": // any line
		s.say("%s", args["line"])
		s.answer(m, `{}`)
	case "hold":
		if args["first"] != "" {
			s.say("%s", args["first"])
		}
		<-s.hold(args["name"])
		s.answer(m, `{"held":%q}`, args["name"])
	case "hold-told": // says that it waits by progress, with the token that it was given
		s.say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1,"message":%q}}`, m.Params.Meta.ProgressToken, args["name"])
		<-s.hold(args["name"])
		s.answer(m, `{"held":%q}`, args["name"])
	case "holding": // the names of calls that are held
		s.mu.Lock()
		names := []string{}
		for name := range s.held {
			names = append(names, name)
		}
		list, _ := json.Marshal(names)
		s.mu.Unlock()
		s.answer(m, `{"holding":%s}`, list)
	case "gigabyte":
		s.gigabyte(m, args["order"])
	case "stderr":
		n := 0
		for range 10_000 {
			if _, err := fmt.Fprintln(os.Stderr, "noise"); err == nil {
				n++
			}
		}
		s.answer(m, `{"wrote":%d}`, n)
	case "release":
		close(s.hold(args["name"]))
		s.answer(m, `{}`)
	case "until-cancelled":
		<-s.hold("cancel")
	case "seen":
		s.mu.Lock()
		list, _ := json.Marshal(append(append([]string{}, s.seen...), s.cancelled...))
		s.mu.Unlock()
		s.answer(m, `{"seen":%s}`, list)
	case "crash":
		if args["first"] != "" {
			s.say("%s", args["first"])
		}
		if args["half"] != "" {
			s.mu.Lock()
			fmt.Fprint(s.out, `{"jsonrpc":"2.0","id":`)
			_ = s.out.Flush()
		}
		os.Exit(3)
	case "flood":
		pad := strings.Repeat("x", 1000)
		for i := range 3000 {
			s.say(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"%d %s"}}`, i, pad)
		}
		s.answer(m, `{}`)
	case "route":
		s.answer(m, `{}`)
	case "env":
		s.answer(m, `{"env":%q,"dir":%q}`, strings.Join(os.Environ(), "|"), func() string { d, _ := os.Getwd(); return d }())
	case "error":
		s.fail(m, -32602, "no such thing")
	case "codes":
		var code int
		_, _ = fmt.Sscan(args["code"], &code)
		s.fail(m, code, "as you wish")
	default:
		s.fail(m, -32602, "no such tool")
	}
}
