package stile_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/stiletest"
)

// An upstream that cannot be asked, or whose answer never begins, is told as a
// JSON-RPC error with the id of the call; what it was stays in the log.
func TestUpstreamThatDoesNotAnswer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	listener.Close()
	hanging := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	cut := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
	}
	forwarder := func(url string, timeout time.Duration) http.Handler {
		proxy, err := forward.NewHTTP(forward.HTTPConfig{URL: url, ResponseHeaderTimeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(proxy.Close)
		return proxy
	}
	for _, tc := range []struct {
		name     string
		upstream http.Handler
		want     int
		says     string
		secret   string
	}{
		{"refused", forwarder("http://"+nobody+"/mcp", 0), http.StatusBadGateway, "the MCP server cannot be reached", nobody},
		{"timeout", forwarder(hanging.URL, 50*time.Millisecond), http.StatusGatewayTimeout, "the MCP server did not answer in time", hanging.URL},
		{"cut before the header", forwarder(serve(t, http.HandlerFunc(cut)).URL, 0), http.StatusBadGateway, "the MCP server cannot be reached", "EOF"},
		{"in process, timeout", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.(interface{ Fail(error) }).Fail(context.DeadlineExceeded)
		}), http.StatusGatewayTimeout, "did not answer in time", "deadline"},
		{"in process, gives up", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.(interface{ Fail(error) }).Fail(errors.New("secret cause"))
		}), http.StatusBadGateway, "cannot be reached", "secret"},
		{"in process, cancelled by itself", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.(interface{ Fail(error) }).Fail(context.Canceled)
		}), http.StatusBadGateway, "cannot be reached", "canceled"},
		{"in process, aborts", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
			http.StatusBadGateway, "cannot be reached", "abort"},
		{"in process, panics", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret panic") }),
			http.StatusInternalServerError, "internal error", "secret"},
		{"in process, panics behind its header", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Half", "1")
			w.WriteHeader(http.StatusOK)
			panic("secret panic")
		}), http.StatusInternalServerError, "internal error", "secret"},
	} {
		for _, era := range []string{era2025, era2026} {
			t.Run(tc.name+" "+era, func(t *testing.T) {
				f := newFixture(t, notesPolicy, answerTool, direct(tc.upstream))
				res := send(t, serve(t, f.gateway), tool(era, f.token("notes:read"), "list_notes", `{}`))
				body, err := io.ReadAll(res.Body)
				if err != nil {
					t.Fatal(err)
				}
				checkRefusal(t, res.StatusCode, res.Header, body, tc.want, "7")
				if got := readError(t, body).Error.Message; !strings.Contains(got, tc.says) {
					t.Errorf("says %q, want %q in it", got, tc.says)
				}
				if strings.Contains(string(body), tc.secret) {
					t.Errorf("tells the cause: %s", body)
				}
				if !strings.Contains(f.log.String(), "request_id="+res.Header.Get("X-Request-Id")) {
					t.Errorf("the log does not know the request: %s", f.log)
				}
				if res.Header.Get("X-Half") != "" {
					t.Error("the header of the broken answer is there")
				}
			})
		}
	}
}

// progress is an event that is no answer.
const progress = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`

// An answer that breaks off must not look complete: a stream ends with a JSON-RPC
// error, a body is cut off with the connection.
func TestUpstreamThatBreaksOff(t *testing.T) {
	long := `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"` + strings.Repeat("x", 200<<10)
	end := map[string]func(){
		"abort": func() { panic(http.ErrAbortHandler) },
		"panic": func() { panic("upstream panic") },
	}
	for name, end := range end {
		stream := func(w http.ResponseWriter, r *http.Request) {
			stiletest.AnswerSSE("data: "+progress+"\n\n", "data: {\"half")(w, r)
			end()
		}
		body := func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, long)
			http.NewResponseController(w).Flush()
			end()
		}
		for _, remote := range []bool{true, false} {
			where := " in process"
			if remote {
				where = " over the network"
			}
			t.Run("stream "+name+where, func(t *testing.T) {
				res, body, err := brokenAnswer(t, stream, remote)
				if res.StatusCode != http.StatusOK {
					t.Fatalf("status %d", res.StatusCode)
				}
				// A panic in this process cuts the connection besides.
				if remote && err != nil {
					t.Errorf("the stream ended with %v", err)
				}
				data, _ := events(t, strings.NewReader(string(body)), nil)
				if len(data) != 2 || data[0] != progress {
					t.Fatalf("events %q, want the one that was whole and an error", data)
				}
				e := readError(t, []byte(data[1]))
				if string(e.ID) != "7" || e.Error.Code != http.StatusBadGateway || e.Error.Data.RequestID != res.Header.Get("X-Request-Id") {
					t.Errorf("last event %s", data[1])
				}
			})
			t.Run("body "+name+where, func(t *testing.T) {
				res, body, err := brokenAnswer(t, body, remote)
				if res.StatusCode != http.StatusOK || !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%d, %d bytes, %v; want the connection cut", res.StatusCode, len(body), err)
				}
			})
		}
	}
}

// brokenAnswer calls a tool of an upstream whose answer breaks off.
func brokenAnswer(t *testing.T, upstream http.HandlerFunc, remote bool) (*http.Response, []byte, error) {
	t.Helper()
	f := newFixture(t, notesPolicy, upstream)
	if !remote {
		direct(upstream)(&f.config)
		var err error
		if f.gateway, err = stile.New(f.config); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewUnstartedServer(f.gateway)
	server.Start()
	t.Cleanup(server.Close)
	res := send(t, server, tool(era2025, f.token("notes:read"), "list_notes", `{}`))
	body, err := io.ReadAll(res.Body)
	return res, body, err
}

// A client that hangs up ends the call upstream, be it waiting for the header or
// in the middle of a stream (DES-52, REQ-38).
func TestClientThatLeavesEndsTheCall(t *testing.T) {
	for _, streaming := range []bool{false, true} {
		for _, remote := range []bool{false, true} {
			arrived, ended := make(chan struct{}), make(chan struct{})
			upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if streaming {
					stiletest.AnswerSSE("data: "+progress+"\n\n")(w, r)
				}
				close(arrived)
				<-r.Context().Done()
				close(ended)
			})
			f := newFixture(t, notesPolicy, upstream)
			if !remote {
				f = newFixture(t, notesPolicy, upstream, direct(upstream))
			}
			server := serve(t, f.gateway)
			ctx, cancel := context.WithCancel(t.Context())
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				r := tool(era2026, f.token("notes:read"), "list_notes", `{}`).request(t, server.URL).WithContext(ctx)
				if res, err := server.Client().Do(r); err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			}()
			<-arrived
			cancel()
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Fatalf("streaming %t, remote %t: the call upstream goes on", streaming, remote)
			}
			<-gone
		}
	}
}
