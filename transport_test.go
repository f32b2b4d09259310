package stile_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile"
)

// TestCORSOptions sends what browsers do before and with a call.
func TestCORSOptions(t *testing.T) {
	const page = "https://other.example.com"
	preflight := ask{method: http.MethodOptions}.with("Origin", page).with("Access-Control-Request-Method", "POST")
	tests := []struct {
		name    string
		cors    stile.CORS
		origins []string
		header  string // asked for by the preflight
		want    map[string]string
		allowed bool
	}{
		{name: "a strange page", want: map[string]string{"Access-Control-Allow-Origin": ""}},
		{name: "an allowed page", origins: []string{page}, header: "authorization", allowed: true, want: map[string]string{
			"Access-Control-Allow-Origin": page, "Access-Control-Allow-Headers": "authorization", "Access-Control-Max-Age": "600", "Access-Control-Allow-Credentials": ""}},
		{name: "any page", cors: stile.CORS{AnyOrigin: true}, allowed: true, want: map[string]string{
			"Access-Control-Allow-Origin": page, "Access-Control-Allow-Credentials": ""}},
		{name: "a header that nobody named", origins: []string{page}, header: "x-mine", allowed: true, want: map[string]string{"Access-Control-Allow-Origin": ""}},
		{name: "a header that was named", cors: stile.CORS{Headers: []string{"X-Mine"}}, origins: []string{page}, header: "x-mine", allowed: true, want: map[string]string{
			"Access-Control-Allow-Origin": page, "Access-Control-Allow-Headers": "x-mine"}},
		{name: "cookies", cors: stile.CORS{Credentials: true}, origins: []string{page}, allowed: true, want: map[string]string{
			"Access-Control-Allow-Origin": page, "Access-Control-Allow-Credentials": "true"}},
		{name: "not remembered", cors: stile.CORS{MaxAge: -1}, origins: []string{page}, allowed: true, want: map[string]string{"Access-Control-Max-Age": "0"}},
		{name: "remembered", cors: stile.CORS{MaxAge: time.Hour, Expose: []string{"X-Theirs"}}, origins: []string{page}, allowed: true, want: map[string]string{"Access-Control-Max-Age": "3600"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, notesPolicy, answerTool, func(c *stile.Config) { c.CORS, c.AllowedOrigins = tt.cors, tt.origins })
			ask := preflight
			if tt.header != "" {
				ask = ask.with("Access-Control-Request-Headers", tt.header)
			}
			w := do(t, f.gateway, ask)
			if w.Code == http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != "" {
				t.Errorf("the preflight was challenged: %d", w.Code)
			}
			for name, want := range tt.want {
				if got := w.Header().Get(name); got != want {
					t.Errorf("preflight: %s is %q, want %q", name, got, want)
				}
			}
			for token, status := range map[string]int{f.token("notes:read"): 200, "": 401, "bad": 401} {
				if !tt.allowed {
					status = 403
				}
				w := do(t, f.gateway, tool(era2025, token, "get_note", `{}`).with("Origin", page))
				if w.Code != status {
					t.Errorf("token %q: %d, want %d", token, w.Code, status)
				}
				if vary := strings.Join(w.Header().Values("Vary"), ","); tt.allowed && !strings.Contains(vary, "Origin") {
					t.Errorf("token %q: Vary %q", token, vary)
				}
				exposed := w.Header().Get("Access-Control-Expose-Headers")
				if strings.Contains(exposed, "WWW-Authenticate") != tt.allowed || strings.Contains(exposed, "X-Theirs") != (len(tt.cors.Expose) > 0) {
					t.Errorf("token %q: exposed %q", token, exposed)
				}
			}
		})
	}
	t.Run("mistakes", func(t *testing.T) {
		f := newFixture(t, notesPolicy, answerTool)
		c := f.config
		c.CORS = stile.CORS{AnyOrigin: true, Credentials: true, Headers: []string{"a b"}, Expose: []string{"", "ok"}}
		_, err := stile.New(c)
		for _, want := range []string{"cors.credentials", "cors.headers[0]", "cors.expose[0]"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s is not among %v", want, err)
			}
		}
		c.PublicURL, c.CORS = "http://127.0.0.1:8080", stile.CORS{AnyOrigin: true}
		if _, err := stile.New(c); err == nil || !strings.Contains(err.Error(), "cors.any_origin") {
			t.Errorf("any origin on loopback: %v", err)
		}
	})
}

// TestStateless has an upstream that gives out sessions all the same.
func TestStateless(t *testing.T) {
	f := newFixture(t, notesPolicy, numbered(), func(c *stile.Config) { c.Servers[0].Stateless = true })
	token := f.token("notes:read")
	w := do(t, f.gateway, ask{token: token, body: legacyInitialize})
	if w.Code != http.StatusOK || w.Header().Get("Mcp-Session-Id") != "" {
		t.Errorf("initialize: %d %v", w.Code, w.Header())
	}
	if w := do(t, f.gateway, tool(era2025, token, "get_note", `{}`).inSession("whatever")); w.Code != http.StatusOK || f.lastSession() != "" {
		t.Errorf("a call with a session: %d, upstream %q", w.Code, f.lastSession())
	}
	if w := do(t, f.gateway, tool(era2025, token, "delete_note", `{}`)); w.Code != http.StatusForbidden {
		t.Errorf("a call that needs more: %d", w.Code)
	}
	reached := f.reached()
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		for token, status := range map[string]int{token: 405, "": 401} {
			a := stream(token)
			a.method = method
			if w := do(t, f.gateway, a); w.Code != status || status == 405 && w.Header().Get("Allow") != "POST, OPTIONS" {
				t.Errorf("%s: %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
			}
		}
	}
	if f.reached() != reached {
		t.Error("GET or DELETE reached the upstream")
	}
	c := f.config
	c.Servers[0].LegacySSE = true
	if _, err := stile.New(c); err == nil || !strings.Contains(err.Error(), "stateless") {
		t.Errorf("stateless with the legacy transport: %v", err)
	}
}

// waiting is an upstream that takes n pauses, says something after each where it
// streams, and then answers.
type waiting struct {
	pause  time.Duration
	last   time.Duration // before the answer, besides
	n      int
	stream bool
	asks   bool // something of the client, in place of telling progress

	mu   sync.Mutex
	told []string // notifications
}

func (u *waiting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if strings.Contains(string(body), `"notifications/`) {
		u.mu.Lock()
		u.told = append(u.told, string(body))
		u.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
		return
	}
	begin, end := "", ""
	if u.stream {
		w.Header().Set("Content-Type", "text/event-stream")
		begin, end = "data: ", "\n\n"
	}
	for i := range u.n {
		select {
		case <-time.After(u.pause):
		case <-r.Context().Done():
			panic(http.ErrAbortHandler) // as a proxy does
		}
		if u.asks {
			more(w, fmt.Sprintf("data: {\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"elicitation/create\",\"params\":{}}\n\n", i))
		} else if u.stream {
			more(w, fmt.Sprintf("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":%d}}\n\n", i))
		}
	}
	select {
	case <-time.After(u.last):
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
	more(w, begin+`{"jsonrpc":"2.0","id":7,"result":{"content":[]}}`+end)
}

func TestRequestTimeout(t *testing.T) {
	cancelled := []string{`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"reason":"the gateway gave up waiting"}}`}
	tests := []struct {
		name   string
		pause  time.Duration
		n      int
		stream bool
		era    string
		status int
		code   int           // of the error at the end, 0: none
		after  time.Duration // exact, as time is simulated
		told   []string
	}{
		{"in time", 9 * time.Second, 1, false, era2025, 200, 0, 9 * time.Second, nil},
		{"too late", 11 * time.Second, 1, false, era2025, 504, 504, 10 * time.Second, cancelled},
		{"too late, where the end of the request says so", 11 * time.Second, 1, false, era2026, 504, 504, 10 * time.Second, nil},
		{"kept alive by progress", 9 * time.Second, 3, true, era2025, 200, 0, 27 * time.Second, nil},
		{"no progress", 11 * time.Second, 2, true, era2025, 504, 504, 10 * time.Second, cancelled},
		{"progress without end", 9 * time.Second, 100, true, era2025, 200, 504, 30 * time.Second, cancelled},
		{"a question that is thought about", 9 * time.Second, 1, true, era2025, 200, 0, 29 * time.Second, nil},
		{"a question that is never answered", 9 * time.Second, 1, true, era2025, 200, 504, 30 * time.Second, cancelled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &waiting{pause: tt.pause, n: tt.n, stream: tt.stream, asks: strings.Contains(tt.name, "question")}
				if u.asks {
					u.last = 20 * time.Second
					if tt.code != 0 {
						u.last = time.Hour
					}
				}
				g := clock(t, u.ServeHTTP, func(c *stile.Config) {
					c.Servers[0].RequestTimeout, c.Servers[0].MaxRequestTime = 10*time.Second, 30*time.Second
				})
				w := open(t, g, tool(tt.era, "r", "get_note", `{}`))
				<-w.done
				if took := time.Since(w.begin); took != tt.after {
					t.Errorf("it took %v, want %v", took, tt.after)
				}
				got := w.got()
				last := got[len(got)-1]
				if w.status != tt.status || w.cut || !strings.Contains(last, `"id":7`) ||
					strings.Contains(last, `"error"`) != (tt.code != 0) || tt.code != 0 && !strings.Contains(last, fmt.Sprintf(`"code":%d`, tt.code)) {
					t.Errorf("status %d, cut off: %t, last %s", w.status, w.cut, last)
				}
				if !slices.Equal(u.told, tt.told) {
					t.Errorf("the upstream was told %q, want %q", u.told, tt.told)
				}
			})
		})
	}
	f := newFixture(t, notesPolicy, answerTool)
	c := f.config
	c.Servers[0].RequestTimeout, c.Servers[0].MaxRequestTime = time.Minute, time.Second
	if _, err := stile.New(c); err == nil || !strings.Contains(err.Error(), "max_request_time") {
		t.Errorf("a limit under the timeout: %v", err)
	}
}

// TestPing answers as mcp-proxy does, before any credential.
func TestPing(t *testing.T) {
	f := newFixture(t, notesPolicy, answerTool)
	if w := do(t, f.gateway, ask{method: http.MethodGet, path: "/ping"}); w.Code != http.StatusOK || w.Body.String() != "pong" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	c := f.config
	c.Servers[0].Path = "/ping"
	if _, err := stile.New(c); err == nil {
		t.Error("a server at /ping was taken")
	}
}
