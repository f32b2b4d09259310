package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile/bridge"
	"github.com/stile-mcp/stile/internal/problem"
)

// restartable is a server that can be killed and started again at the same address.
type restartable struct {
	t    *testing.T
	addr string
	now  *httptest.Server
	quit chan struct{}
}

func (r *restartable) start(handler func(quit <-chan struct{}) http.Handler) {
	r.t.Helper()
	if r.addr == "" {
		r.addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr = l.Addr().String()
	r.quit = make(chan struct{})
	r.now = &httptest.Server{Listener: l, Config: &http.Server{Handler: handler(r.quit)}}
	r.now.Start()
}

func (r *restartable) kill() {
	_ = r.now.Listener.Close()
	r.now.CloseClientConnections()
	close(r.quit)
	r.now.Close()
}

// began wraps a server whose tool "wait" is to be seen at work.
func began(h http.Handler, at chan<- struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		if strings.Contains(string(body), `"wait"`) {
			at <- struct{}{}
		}
		h.ServeHTTP(w, r)
	})
}

func TestServerThatDiesAndComesBack(t *testing.T) {
	for _, kind := range kinds {
		if kind.name == "resumable" {
			continue // whose streams are come back to for most of a minute
		}
		for _, era := range []string{era2025, era2026} {
			t.Run(kind.name+"/"+era, func(t *testing.T) {
				server, at := &restartable{t: t}, make(chan struct{}, 1)
				server.start(func(quit <-chan struct{}) http.Handler { return began(kind.handler(quit), at) })
				s := across(t, "http://"+server.addr, era, nil)
				failed := make(chan error, 1)
				go func() {
					_, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "wait"})
					failed <- err
				}()
				<-at
				server.kill()
				if err := <-failed; err == nil || !strings.Contains(err.Error(), "broke off") && !strings.Contains(err.Error(), "ended") {
					t.Errorf("a call that the server died in: %v", err)
				}
				if _, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo"}); err == nil || !strings.Contains(err.Error(), "reached") && !strings.Contains(err.Error(), "begun") {
					t.Errorf("a call when it is dead: %v", err)
				}
				server.start(kind.handler)
				t.Cleanup(server.kill)
				if got := callText(t, s, &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"text": "again"}}); got != "again" {
					t.Errorf("echo says %q", got)
				}
			})
		}
	}
}

// watched sees how calls of a tool begin and end at the server.
func watched(at chan<- struct{}, done chan<- error) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "far", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "wait"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		at <- struct{}{}
		<-ctx.Done()
		done <- ctx.Err()
		return nil, nil, ctx.Err()
	})
	return s
}

func TestCancelReachesTheServer(t *testing.T) {
	for _, era := range []string{era2025, era2026} {
		for _, stateless := range []bool{false, true} {
			if stateless && era == era2025 {
				continue // it knows a call by its connection only, which 2025 does not end
			}
			t.Run(fmt.Sprintf("%s, stateless %t", era, stateless), func(t *testing.T) {
				done, at := make(chan error, 1), make(chan struct{}, 1)
				far := watched(at, done)
				s := across(t, farServer(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return far }, &mcp.StreamableHTTPOptions{Stateless: stateless, PropagateRequestCancellation: true})), era, nil)
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					<-at
					cancel()
				}()
				if _, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "wait", Arguments: map[string]any{}}); err == nil {
					t.Error("the call has a result")
				}
				select {
				case <-done:
				case <-time.After(10 * time.Second):
					t.Error("the server goes on")
				}
			})
		}
	}
}

func TestSessionIsEnded(t *testing.T) {
	var deleted atomic.Int32
	h := kinds[0].handler(nil)
	url := farServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete && r.Header.Get("Mcp-Session-Id") != "" {
			deleted.Add(1)
		}
		h.ServeHTTP(w, r)
	}))
	for _, era := range []string{era2025, era2026} {
		t.Run(era, func(t *testing.T) { across(t, url, era, nil) })
	}
	if n := deleted.Load(); n != 2 {
		t.Errorf("%d sessions were ended", n)
	}
}

// wall is a transport that holds some requests up, as a login does.
type wall struct {
	held func(body string) bool
	gate chan struct{}

	mu        sync.Mutex
	now, most int
}

func (w *wall) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	w.now++
	w.most = max(w.most, w.now)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.now--
		w.mu.Unlock()
	}()
	if w.held(string(body)) {
		select {
		case <-w.gate:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	_, id, _ := strings.Cut(string(body), `"id":`)
	id, _, _ = strings.Cut(id, ",")
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(`{"jsonrpc":"2.0","id":` + id + `,"result":{}}`))}, nil
}

// lines is a client that only counts.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

func TestManyCallsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wall{held: func(body string) bool { return strings.Contains(body, "slow") }, gate: make(chan struct{})}
		in, toBridge := io.Pipe()
		var out lines
		ended := make(chan error, 1)
		go func() {
			ended <- bridge.Run(t.Context(), bridge.Config{URL: "https://far.example/mcp", Transport: w, In: in, Out: &out, Log: logged(t)})
		}()
		say := func(id int, method string) {
			_, _ = fmt.Fprintf(toBridge, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":{}}`+"\n", id, method)
		}
		// One that waits for a login blocks nobody.
		say(0, "slow")
		for id := range 100 {
			say(1000+id, "quick")
		}
		synctest.Wait()
		if n := out.count(); n != 100 {
			t.Errorf("%d of 100 quick calls were answered beside a slow one", n)
		}
		for id := range 200 {
			say(1+id, "slow")
		}
		synctest.Wait()
		w.mu.Lock()
		if w.most != bridge.DefaultMaxCalls {
			t.Errorf("%d requests at once", w.most)
		}
		w.mu.Unlock()
		// There is an end to what waits, and it is told.
		for id := range 1000 {
			say(2000+id, "slow")
		}
		synctest.Wait()
		if n := out.count(); n != 100+201+1000-1024 {
			t.Errorf("%d answers, with 1024 calls under way", n)
		}
		close(w.gate)
		synctest.Wait()
		if n := out.count(); n != 100+201+1000 {
			t.Errorf("%d answers in the end", n)
		}
		_ = toBridge.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestConfig(t *testing.T) {
	err := bridge.Run(t.Context(), bridge.Config{URL: "ftp://x", MaxCalls: -1})
	var list problem.List
	if !errors.As(err, &list) || len(list) != 4 {
		t.Errorf("mistakes: %v", err)
	}
}

func TestClientThatIsGone(t *testing.T) {
	in, toBridge := io.Pipe()
	defer toBridge.Close()
	w := &wall{held: func(string) bool { return false }}
	ended := make(chan error, 1)
	go func() {
		ended <- bridge.Run(t.Context(), bridge.Config{URL: "https://far.example/mcp", Transport: w, In: in, Log: logged(t),
			Out: writerFunc(func([]byte) (int, error) { return 0, io.ErrClosedPipe })})
		_ = in.Close()
	}()
	_, _ = io.WriteString(toBridge, `{"jsonrpc":"2.0","id":1,"method":"x"}`+"\n")
	if err := <-ended; err == nil {
		t.Error("Run does not say that nobody listens")
	}
}

// A client that does not read holds up the server, and not the end.
func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, toBridge := io.Pipe()
		gate := make(chan struct{})
		w := &wall{held: func(string) bool { return false }}
		ended := make(chan error, 1)
		go func() {
			ended <- bridge.Run(t.Context(), bridge.Config{URL: "https://far.example/mcp", Transport: w, In: in, Log: logged(t),
				Out: writerFunc(func(p []byte) (int, error) { <-gate; return len(p), nil })})
		}()
		for id := range 200 {
			_, _ = fmt.Fprintf(toBridge, `{"jsonrpc":"2.0","id":%d,"method":"x"}`+"\n", id)
		}
		_ = toBridge.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		close(gate)
	})
}
