package forward_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stile-mcp/stile/forward"
)

func isolated(by forward.Isolation) func(*forward.CommandConfig) {
	return func(c *forward.CommandConfig) { c.Isolation = by }
}

func pid(t *testing.T, c *client) string {
	t.Helper()
	body := tool(1, "who")
	if c.session == "" {
		body = call(1, modernMeta, "who")
	}
	status, answer, _ := c.post(body)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	return member(t, answer, "result", "pid")
}

// TestCommandIsolation says who shares a process with whom.
func TestCommandIsolation(t *testing.T) {
	for _, by := range []forward.Isolation{forward.IsolateSession, forward.IsolateCaller, forward.IsolateShared} {
		t.Run(string(by), func(t *testing.T) {
			f := command(t, "", isolated(by))
			ada, again, bob := pid(t, f.open("ada")), pid(t, f.open("ada")), pid(t, f.open("bob"))
			if same := ada == again; same != (by != forward.IsolateSession) {
				t.Errorf("two sessions of one caller share a process: %v", same)
			}
			if same := ada == bob; same != (by == forward.IsolateShared) {
				t.Errorf("two callers share a process: %v", same)
			}
			ada, again, bob = pid(t, f.modern("ada")), pid(t, f.modern("ada")), pid(t, f.modern("bob"))
			if ada != again {
				t.Error("2026-07-28: a process a request")
			}
			if same := ada == bob; same != (by == forward.IsolateShared) {
				t.Errorf("2026-07-28: two callers share a process: %v", same)
			}
		})
	}
}

func TestCommandModern(t *testing.T) {
	f := command(t, "listens-briefly", nil)
	c := f.modern("ada")
	t.Run("discover", func(t *testing.T) {
		status, body, header := c.post(`{"jsonrpc":"2.0","id":"d","method":"server/discover","params":{"_meta":{` + modernMeta + `}}}`)
		if status != 200 || member(t, body, "id") != "d" || member(t, body, "result", "supportedVersions") != `["2026-07-28"]` || header.Get("Mcp-Session-Id") != "" {
			t.Errorf("%d %s %v", status, body, header)
		}
	})
	t.Run("progress", func(t *testing.T) {
		r, _ := c.stream(call("p", modernMeta+`,"progressToken":"mine"`, "progress", "who", "ada"))
		got := r.rest()
		if len(got) != 4 || member(t, got[0].data, "params", "progressToken") != "mine" || got[0].id != "" || member(t, got[3].data, "id") != "p" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("log only where it was asked for", func(t *testing.T) {
		r, _ := c.stream(call("l", modernMeta+`,"io.modelcontextprotocol/logLevel":"info"`, "log", "level", "info"))
		if got := r.rest(); len(got) != 2 {
			t.Errorf("got %q", got)
		}
		if _, body, _ := c.post(call("m", modernMeta, "log", "level", "info")); member(t, body, "id") != "m" {
			t.Errorf("got %s", body)
		}
	})
	t.Run("listen", func(t *testing.T) {
		r, _ := c.stream(`{"jsonrpc":"2.0","id":"sub","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},"_meta":{` + modernMeta + `}}}`)
		got := r.rest()
		if len(got) != 3 {
			t.Fatalf("got %q", got)
		}
		for i, path := range [][]string{{"params"}, {"params"}, {"result"}} {
			if id := member(t, got[i].data, append(path, "_meta", "io.modelcontextprotocol/subscriptionId")...); id != "sub" {
				t.Errorf("message %d belongs to %q: %s", i, id, got[i].data)
			}
		}
	})
	t.Run("status of errors", func(t *testing.T) {
		for code, want := range map[string]int{"-32601": 404, "-32020": 400, "-32021": 400, "-32022": 400, "-32602": 200, "-32603": 200, "7": 200} {
			if status, body, _ := c.post(call(1, modernMeta, "codes", "code", code)); status != want || member(t, body, "error", "code") != code {
				t.Errorf("%s: %d %s, want %d", code, status, body, want)
			}
		}
	})
	t.Run("notifications", func(t *testing.T) {
		for _, method := range []string{"notifications/cancelled", "acme/note"} {
			if status, body, _ := c.post(`{"jsonrpc":"2.0","method":"` + method + `","params":{"requestId":1}}`); status != 202 || body != "" {
				t.Errorf("%s: %d %s", method, status, body)
			}
		}
		_, body, _ := c.post(call(1, modernMeta, "seen"))
		if got := member(t, body, "result", "seen"); got != `["acme/note"]` {
			t.Errorf("the server saw %s", got)
		}
	})
	t.Run("crash", func(t *testing.T) {
		status, body, _ := c.post(call("x", modernMeta, "crash"))
		if status != 200 || member(t, body, "id") != "x" || !strings.Contains(body, "ended before it answered") {
			t.Errorf("%d %s", status, body)
		}
		pid(t, c) // the next request has a new process
	})
}

// TestCommandModernParamHeaders holds Mcp-Param-* against arguments, by schemas that
// stand on the second page of the list.
func TestCommandModernParamHeaders(t *testing.T) {
	c := command(t, "", nil).modern("ada")
	for name, tc := range map[string]struct {
		arguments string
		header    []string
		ok        bool
	}{
		"agree":           {`{"region":"eu","n":42,"deep":{"on":true}}`, []string{"Mcp-Param-Region", "eu", "Mcp-Param-N", "42", "Mcp-Param-On", "true"}, true},
		"encoded":         {`{"region":"é"}`, []string{"Mcp-Param-Region", "=?base64?w6k=?="}, true},
		"number":          {`{"n":42}`, []string{"Mcp-Param-N", "42.0"}, true},
		"none":            {`{}`, nil, true},
		"null":            {`{"region":null}`, nil, true},
		"not annotated":   {`{"bad":"x","list":["y"]}`, []string{"Mcp-Param-Item", "z", "Mcp-Param-Other", "\xff"}, true},
		"missing":         {`{"region":"eu"}`, nil, false},
		"differs":         {`{"region":"eu"}`, []string{"Mcp-Param-Region", "us"}, false},
		"case":            {`{"region":"eu"}`, []string{"Mcp-Param-Region", "EU"}, false},
		"without a value": {`{}`, []string{"Mcp-Param-Region", "eu"}, false},
		"characters":      {`{"region":"é"}`, []string{"Mcp-Param-Region", "é"}, false},
		"bad base64":      {`{"region":"é"}`, []string{"Mcp-Param-Region", "=?base64?w6k?="}, false},
		"other number":    {`{"n":42}`, []string{"Mcp-Param-N", "43"}, false},
		"hex":             {`{"n":42}`, []string{"Mcp-Param-N", "0x2a"}, false},
		"not a boolean":   {`{"deep":{"on":true}}`, []string{"Mcp-Param-On", "1"}, false},
		"wrong kind":      {`{"region":["eu"]}`, []string{"Mcp-Param-Region", "eu"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, _ := c.post(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"route","arguments":`+tc.arguments+`,"_meta":{`+modernMeta+`}}}`, tc.header...)
			if tc.ok != (status == 200) || !tc.ok && (status != 400 || member(t, body, "error", "code") != "-32020") {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	if status, body, _ := c.post(call(1, modernMeta, "who"), "Mcp-Param-Region", "eu"); status != 200 {
		t.Errorf("another tool: %d %s", status, body)
	}
}

func TestCommandModernEndOfConnectionCancels(t *testing.T) {
	c := command(t, "", nil).modern("ada")
	calling, gone := c.stream(call("gone", modernMeta+`,"io.modelcontextprotocol/logLevel":"info"`, "hold", "name", "x",
		"first", `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}`))
	calling.message() // it is under way
	gone()
	listening, stop := c.stream(`{"jsonrpc":"2.0","id":"sub","method":"subscriptions/listen","params":{"notifications":{},"_meta":{` + modernMeta + `}}}`)
	listening.message()
	stop()
	await(t, func() bool {
		_, body, _ := c.post(call(1, modernMeta, "seen"))
		return strings.Count(body, "notifications/cancelled") == 2
	})
}

func TestCommandModernServerEndsSubscription(t *testing.T) {
	c := command(t, "ends-listening", nil).modern("ada")
	r, _ := c.stream(`{"jsonrpc":"2.0","id":"sub","method":"subscriptions/listen","params":{"notifications":{},"_meta":{` + modernMeta + `}}}`)
	got := r.rest()
	if len(got) != 2 || member(t, got[1].data, "params", "requestId") != "sub" {
		t.Errorf("got %q", got)
	}
}

// await asks until it is so.
func await(t *testing.T, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("it did not happen")
		}
	}
}

// TestCommandSharedSessions has two callers on one child.
func TestCommandSharedSessions(t *testing.T) {
	f := command(t, "", isolated(forward.IsolateShared))
	ada, bob := f.open("ada"), f.open("bob")
	t.Run("greeting", func(t *testing.T) {
		old := &client{f: f, owner: "eve"}
		_, body, _ := old.post(initialize("2025-03-26"))
		if member(t, body, "result", "protocolVersion") != "2025-03-26" || member(t, body, "id") != "0" {
			t.Errorf("got %s", body)
		}
		if got := member(t, body, "result", "client"); got != "{}" {
			t.Errorf("the shared server was told of the capabilities %s", got)
		}
	})
	t.Run("news is for all", func(t *testing.T) {
		a, stopA := ada.listen()
		b, stopB := bob.listen()
		defer stopA()
		defer stopB()
		const news = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
		ada.post(tool(1, "say", "line", news))
		if one, two := a.message(), b.message(); one.data != news || two.data != news {
			t.Errorf("got %q and %q", one, two)
		}
	})
	t.Run("updates are for who subscribed", func(t *testing.T) {
		a, stopA := ada.listen()
		b, stopB := bob.listen()
		defer stopA()
		defer stopB()
		subscribe := func(c *client, verb, uri string) {
			if status, body, _ := c.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"resources/%s","params":{"uri":%q}}`, verb, uri)); status != 200 || member(t, body, "result") != "{}" {
				t.Errorf("%s: %d %s", verb, status, body)
			}
		}
		subscribe(ada, "subscribe", "note://ada")
		subscribe(bob, "subscribe", "note://bob")
		subscribe(ada, "subscribe", "note://both")
		subscribe(bob, "subscribe", "note://both")
		for _, uri := range []string{"note://ada", "note://bob", "note://both"} {
			ada.post(tool(1, "say", "line", fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":%q}}`, uri)))
		}
		for name, got := range map[string][2]string{"ada": {a.message().data, a.message().data}, "bob": {b.message().data, b.message().data}} {
			if !strings.Contains(got[0], "note://"+name) || !strings.Contains(got[1], "note://both") {
				t.Errorf("%s got %q", name, got)
			}
		}
		subscribe(ada, "unsubscribe", "note://both") // bob still wants it
		subscribe(ada, "unsubscribe", "note://ada")
		_, body, _ := ada.post(tool(1, "seen"))
		if strings.Contains(body, "unsubscribe note://both") || !strings.Contains(body, "unsubscribe note://ada") {
			t.Errorf("the server saw %s", body)
		}
	})
	t.Run("log levels", func(t *testing.T) {
		for c, level := range map[*client]string{ada: "error", bob: "debug"} {
			if status, _, _ := c.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":%q}}`, level)); status != 200 {
				t.Error(status)
			}
		}
		if status, body, header := ada.post(tool(1, "log", "level", "info", "who", "a")); status != 200 || header.Get("Content-Type") != "application/json" {
			t.Errorf("ada wants errors only: %s", body)
		}
		// Nobody can tell whom a log message of a shared child is about.
		if status, body, header := bob.post(tool(1, "log", "level", "info", "who", "b")); status != 200 || header.Get("Content-Type") != "application/json" {
			t.Errorf("bob got %s", body)
		}
	})
	t.Run("requests of the server are refused", func(t *testing.T) {
		_, body, _ := ada.post(tool(1, "ask", "method", "sampling/createMessage"))
		if member(t, body, "result", "answer", "error", "code") != "-32601" {
			t.Errorf("the server was answered %s", body)
		}
		_, body, _ = ada.post(tool(1, "ask", "method", "ping"))
		if member(t, body, "result", "answer", "result") != "{}" {
			t.Errorf("ping: %s", body)
		}
	})
	t.Run("a session's end cleans up", func(t *testing.T) {
		held := make(chan string)
		go func() {
			_, body, _ := bob.post(tool("h", "until-cancelled"), "Accept", "application/json")
			held <- body
		}()
		await(t, func() bool {
			select {
			case body := <-held:
				if !strings.Contains(body, "ended the session") && !strings.Contains(body, "no such session") {
					t.Errorf("got %s", body)
				}
				return true
			default:
				bob.send(t.Context(), http.MethodDelete, "").Body.Close()
				return false
			}
		})
		await(t, func() bool {
			_, body, _ := ada.post(tool(1, "seen"))
			return strings.Contains(body, "unsubscribe note://bob")
		})
	})
	t.Run("a crash ends all sessions", func(t *testing.T) {
		before := pid(t, ada)
		ada.post(tool(1, "crash"))
		if status, _, _ := ada.post(tool(1, "who")); status != http.StatusNotFound {
			t.Errorf("ada's session answers %d", status)
		}
		c := &client{f: f, owner: "ada"}
		if status, body, header := c.post(initialize("2025-11-25")); status != http.StatusServiceUnavailable || header.Get("Retry-After") != "1" {
			t.Errorf("at once: %d %s", status, body)
		}
		if err := f.command.Ready(t.Context()); err == nil {
			t.Error("ready although the child is gone")
		}
		await(t, func() bool { return f.command.Ready(t.Context()) == nil })
		if pid(t, f.open("ada")) == before {
			t.Error("the old process is back")
		}
	})
}

// TestCommandOneCallersLog has two sessions of one caller on a child, each with a
// level of its own; log messages go to the call that began last.
func TestCommandOneCallersLog(t *testing.T) {
	f := command(t, "", isolated(forward.IsolateCaller))
	quiet, loud := f.open("ada"), f.open("ada")
	for c, level := range map[*client]string{quiet: "error", loud: "debug"} {
		if status, _, _ := c.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":%q}}`, level)); status != 200 {
			t.Error(status)
		}
	}
	if status, body, header := quiet.post(tool(1, "log", "level", "info", "who", "a")); status != 200 || header.Get("Content-Type") != "application/json" {
		t.Errorf("the session wants errors only: %s", body)
	}
	r, _ := loud.stream(tool(1, "log", "level", "info", "who", "b"))
	if got := r.rest(); len(got) != 2 {
		t.Errorf("got %q", got)
	}
}

// TestCommandTwoCallersNeverCross runs two callers at once on every kind of
// isolation, with the same ids and tokens, and looks for the other's name in what
// comes back.
func TestCommandTwoCallersNeverCross(t *testing.T) {
	for _, by := range []forward.Isolation{forward.IsolateSession, forward.IsolateCaller, forward.IsolateShared} {
		t.Run(string(by), func(t *testing.T) {
			f := command(t, "", isolated(by))
			var all sync.WaitGroup
			for _, who := range []string{"ada", "bob"} {
				session, modern := f.open(who), f.modern(who)
				news, stop := session.listen()
				all.Go(func() {
					for _, e := range news.rest() {
						t.Errorf("%s heard %q", who, e)
					}
				})
				var work sync.WaitGroup
				for lane := range 4 {
					work.Go(func() {
						for i := range 10 {
							id := i*10 + lane
							token := fmt.Sprintf(`"progressToken":%d`, id)
							check(t, who, session, call(id, token, "progress", "who", who), 4)
							check(t, who, modern, call(id, modernMeta+","+token, "progress", "who", who), 4)
							check(t, who, session, tool(id, "who", "who", who), 1)
							if by == forward.IsolateSession {
								check(t, who, session, tool(fmt.Sprintf("ask-%d", id), "ask", "method", "elicitation/create"), 1)
							}
						}
					})
				}
				all.Go(func() { work.Wait(); stop() })
			}
			all.Wait()
		})
	}
}

// check sends a call and wants that many messages, all of one caller. Like any
// client it answers what the server asks, on whatever stream that comes.
func check(t *testing.T, who string, c *client, body string, messages int) {
	got := converse(t, who, c, body)
	all := strings.Join(got, "\n")
	other := map[string]string{"ada": "bob", "bob": "ada"}[who]
	if len(got) != messages || !strings.Contains(all, who) || strings.Contains(all, other) {
		t.Errorf("%s sent %s and got %d messages: %s", who, body, len(got), all)
	}
}

func converse(t *testing.T, who string, c *client, body string) []string {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	res := c.send(ctx, http.MethodPost, body)
	defer res.Body.Close()
	if res.Header.Get("Content-Type") == "application/json" {
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Error(err)
		}
		return []string{string(text)}
	}
	var got []string
	r := readEvents(t, res)
	for {
		e, ok := r.next()
		switch {
		case !ok:
			return got
		case strings.Contains(e.data, "elicitation/create"):
			c.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"result":{"who":%q}}`, member(t, e.data, "id"), who))
		case e.data != "":
			got = append(got, e.data)
		}
	}
}

func TestCommandLimits(t *testing.T) {
	t.Run("in all", func(t *testing.T) {
		f := command(t, "", func(c *forward.CommandConfig) { c.MaxChildren = 2 })
		f.open("ada")
		bob := f.open("bob")
		for _, c := range []*client{{f: f, owner: "eve"}, f.modern("eve")} {
			body := initialize("2025-11-25")
			if c.version != "" {
				body = call(1, modernMeta, "who")
			}
			if status, body, header := c.post(body); status != 503 || header.Get("Retry-After") == "" {
				t.Errorf("%d %s", status, body)
			}
		}
		bob.send(t.Context(), http.MethodDelete, "").Body.Close()
		await(t, func() bool {
			status, _, _ := (&client{f: f, owner: "eve"}).post(initialize("2025-11-25"))
			return status == 200
		})
	})
	t.Run("sessions in all", func(t *testing.T) {
		f := command(t, "", func(c *forward.CommandConfig) { c.MaxSessions, c.Isolation = 2, forward.IsolateShared })
		f.open("ada")
		bob := f.open("bob")
		if status, body, header := (&client{f: f, owner: "eve"}).post(initialize("2025-11-25")); status != 503 || header.Get("Retry-After") == "" {
			t.Errorf("%d %s", status, body)
		}
		bob.send(t.Context(), http.MethodDelete, "").Body.Close()
		f.open("eve")
	})
	t.Run("per caller, all at once", func(t *testing.T) {
		f := command(t, "", func(c *forward.CommandConfig) { c.MaxPerCaller, c.Isolation = 3, forward.IsolateShared })
		f.open("bob") // the child runs
		var opened atomic.Int32
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				switch status, body, _ := (&client{f: f, owner: "ada"}).post(initialize("2025-11-25")); status {
				case http.StatusOK:
					opened.Add(1)
				case http.StatusTooManyRequests:
				default:
					t.Errorf("%d %s", status, body)
				}
			})
		}
		all.Wait()
		if n := opened.Load(); n != 3 {
			t.Errorf("%d sessions were opened", n)
		}
	})
	t.Run("subscriptions", func(t *testing.T) {
		c := command(t, "", isolated(forward.IsolateShared)).open("ada")
		for i := range 1001 {
			status, body, _ := c.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"resources/subscribe","params":{"uri":"note://%d"}}`, i, i))
			if refused := strings.Contains(body, "too many subscriptions"); status != 200 || refused != (i == 1000) {
				t.Fatalf("subscription %d: %d %s", i, status, body)
			}
		}
	})
	t.Run("per caller", func(t *testing.T) {
		for _, by := range []forward.Isolation{forward.IsolateSession, forward.IsolateShared} {
			f := command(t, "", func(c *forward.CommandConfig) { c.MaxPerCaller, c.Isolation = 2, by })
			f.open("ada")
			f.open("ada")
			if status, body, header := (&client{f: f, owner: "ada"}).post(initialize("2025-11-25")); status != 429 || header.Get("Retry-After") == "" {
				t.Errorf("%s: %d %s", by, status, body)
			}
			f.open("bob")
		}
	})
}

func TestCommandIdle(t *testing.T) {
	const idle = 300 * time.Millisecond
	t.Run("sessions end", func(t *testing.T) {
		f := command(t, "", func(c *forward.CommandConfig) { c.IdleTimeout = idle })
		for range 3 {
			f.open("ada")
		}
		await(t, func() bool { return strings.Count(f.log.String(), "child ended") == 3 })
	})
	t.Run("calls keep them", func(t *testing.T) {
		f := command(t, "", func(c *forward.CommandConfig) { c.IdleTimeout = idle })
		ada, bob := f.open("ada"), f.open("bob")
		r, _ := ada.stream(tool(1, "hold", "name", "x", "first", `{"jsonrpc":"2.0","method":"notifications/message","params":{}}`))
		r.message()
		await(t, func() bool { return strings.Contains(f.log.String(), "idle session ended") })
		if status, _, _ := bob.post(tool(1, "who")); status != http.StatusNotFound {
			t.Errorf("the idle one answers %d", status)
		}
		if status, _, _ := ada.post(tool(2, "release", "name", "x")); status != http.StatusOK {
			t.Errorf("the busy one answers %d", status)
		}
		if got := r.rest(); len(got) != 1 {
			t.Errorf("got %q", got)
		}
	})
	t.Run("listeners are asked", func(t *testing.T) {
		f := command(t, "", func(c *forward.CommandConfig) { c.IdleTimeout = idle })
		c := f.open("ada")
		r, _ := c.listen()
		for range 2 {
			ping := r.message()
			if member(t, ping.data, "method") != "ping" {
				t.Fatalf("got %q", ping)
			}
			if status, _, _ := c.post(`{"jsonrpc":"2.0","id":"` + member(t, ping.data, "id") + `","result":{}}`); status != 202 {
				t.Errorf("the answer to the ping: %d", status)
			}
		}
		if _, body, _ := c.post(tool(1, "seen")); strings.Contains(body, "ping") {
			t.Errorf("the server saw %s", body)
		}
	})
	t.Run("listeners that do not answer are ended", func(t *testing.T) {
		f := command(t, "", func(c *forward.CommandConfig) { c.IdleTimeout = idle })
		c := f.open("ada")
		r, _ := c.listen()
		if got := r.rest(); len(got) != 1 || member(t, got[0].data, "method") != "ping" {
			t.Errorf("got %q", got)
		}
		if status, _, _ := c.post(tool(1, "who")); status != http.StatusNotFound {
			t.Errorf("the session answers %d", status)
		}
	})
	t.Run("shared children end", func(t *testing.T) {
		f := command(t, "", func(c *forward.CommandConfig) { c.IdleTimeout = idle })
		before := pid(t, f.modern("ada"))
		await(t, func() bool { return strings.Contains(f.log.String(), "child ended") })
		if pid(t, f.modern("ada")) == before {
			t.Error("the idle child is back")
		}
	})
}

// TestCommandBoundsAreKept floods a stream that nobody reads.
func TestCommandBoundsAreKept(t *testing.T) {
	f := command(t, "", func(c *forward.CommandConfig) { c.ReplayBytes, c.ReplayEvents = 100<<10, 50 })
	c := f.open("ada")
	body, _ := c.stream(tool(1, "hold", "name", "x", "first", `{"jsonrpc":"2.0","method":"notifications/message","params":{}}`))
	first := body.message()
	if _, answer, _ := c.post(tool(2, "flood"), "Accept", "application/json"); member(t, answer, "id") != "2" {
		t.Errorf("the flood's own answer is %s", answer)
	}
	c.post(tool(3, "release", "name", "x"))
	// What was read in time came, and so did the answer, whatever was dropped.
	if got := body.rest(); member(t, got[len(got)-1].data, "id") != "1" {
		t.Errorf("the stream ended with %q", got[len(got)-1])
	}
	again, _ := c.listen("Last-Event-ID", first.id)
	got := again.rest()
	if len(got) > 50 || len(got) == 0 || member(t, got[len(got)-1].data, "id") != "1" {
		t.Errorf("%d events were kept", len(got))
	}
}

func TestCommandEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_THE_GATEWAY", "x")
	dir := t.TempDir()
	f := command(t, "", func(c *forward.CommandConfig) { c.Dir, c.Env["NOTES_KEY"] = dir, "k" })
	_, body, _ := f.open("ada").post(tool(1, "env"))
	env := member(t, body, "result", "env")
	if strings.Contains(env, "SECRET") || !strings.Contains(env, "NOTES_KEY=k") || !strings.Contains(env, "PATH=") || member(t, body, "result", "dir") != dir {
		t.Errorf("got %s", body)
	}
}

// TestCommandLeaksNothing opens and abandons 200 sessions, some of which crash.
func TestCommandLeaksNothing(t *testing.T) {
	f := command(t, "stubborn", func(c *forward.CommandConfig) {
		c.MaxPerCaller, c.MaxChildren, c.StopGrace = 1000, 1000, 20*time.Millisecond
	})
	c := f.open("ada")
	c.post(tool(1, "crash"))
	await(t, func() bool { return census(t).processes == 1 }) // the keeper
	before := census(t)
	for i := range 200 {
		c := f.open(fmt.Sprintf("caller %d", i)) // who crashes a process again and again has to wait
		switch i % 4 {
		case 0:
			c.post(tool(1, "crash"))
		case 1:
			_, cancel := c.listen()
			cancel()
		case 2:
			_, cancel := c.stream(tool(1, "hold", "name", "x", "first", `{"jsonrpc":"2.0","method":"notifications/message","params":{}}`))
			cancel()
		}
		if i%4 != 0 {
			c.send(t.Context(), http.MethodDelete, "").Body.Close()
		}
	}
	await(t, func() bool { return census(t).processes <= before.processes })
	http.DefaultClient.CloseIdleConnections()
	await(t, func() bool {
		after := census(t)
		return after.files <= before.files && after.goroutines <= before.goroutines
	})
	f.command.Close()
	if after := census(t); after.processes != 0 {
		t.Errorf("%d processes are left", after.processes)
	}
	if status, _, _ := (&client{f: f}).post(initialize("2025-11-25")); status != http.StatusServiceUnavailable {
		t.Errorf("after Close: %d", status)
	}
}

type counts struct{ processes, files, goroutines int }

func census(t *testing.T) counts {
	t.Helper()
	out, _ := exec.Command("ps", "-o", "pid=", "--ppid", strconv.Itoa(os.Getpid())).Output()
	files, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return counts{strings.Count(string(out), "\n") - 1, len(files), runtime.NumGoroutine()}
}

func TestCommandConfig(t *testing.T) {
	_, err := forward.NewCommand(forward.CommandConfig{Isolation: "user", Env: map[string]string{"A=B": "", "C": "\x00"},
		StartTimeout: -1, StopGrace: -1, MaxChildren: -1, MaxPerCaller: -1, MaxSessions: -1, ReplayEvents: -1, ReplayBytes: -1, MaxMessage: -1})
	if err == nil {
		t.Fatal("it was taken")
	}
	for _, want := range []string{"command", "isolation", "user", "A=B", "env.C", "start_timeout", "stop_grace", "max_children", "max_per_caller", "max_sessions", "replay_events", "replay_bytes", "max_message"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told: %v", want, err)
		}
	}
}
