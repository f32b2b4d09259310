package stile_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stile-mcp/stile"
)

// dial opens a connection to a server.
func dial(t *testing.T, server *httptest.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// answerOn reads one answer, and whether the connection ends behind it.
func answerOn(t *testing.T, conn net.Conn) (res *http.Response, body []byte, closed bool) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err = io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	if !res.Close {
		return res, body, false
	}
	_, err = r.ReadByte()
	return res, body, err != nil
}

// head is the head of a POST of an authorised call, with what frames the body.
func (f *fixture) head(framing string) string {
	return "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n" +
		"Authorization: Bearer " + f.token("notes:read") + "\r\n" + framing + "\r\n\r\n"
}

// Bodies that are too long, come too late or break off, on a real connection:
// each refusal has a JSON-RPC body, closes the connection where bytes are left in
// it, and nothing reaches the upstream.
func TestBodiesThatAreNotTaken(t *testing.T) {
	const limit = 1000
	long := tool(era2025, "", "list_notes", `{"x":"`+strings.Repeat("y", 2*limit)+`"}`).body
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	for _, tc := range []struct {
		name    string
		framing string
		body    string
		hangUp  bool // the client closes its side behind the body
		want    int
		says    string
	}{
		{"declared over the limit", fmt.Sprintf("Content-Length: %d", len(long)), "", false, http.StatusRequestEntityTooLarge, "over 1000 bytes"},
		{"declared far over the limit", "Content-Length: 1000000000000", "", false, http.StatusRequestEntityTooLarge, "over 1000 bytes"},
		{"chunks over the limit", "Transfer-Encoding: chunked", chunk(long[:600]) + chunk(long[600:]), false, http.StatusRequestEntityTooLarge, "over 1000 bytes"},
		{"one chunk over the limit", "Transfer-Encoding: chunked", chunk(long), false, http.StatusRequestEntityTooLarge, "over 1000 bytes"},
		{"nothing comes", "Content-Length: 100", "", false, http.StatusRequestTimeout, "did not arrive within 200ms"},
		{"half of it comes", "Content-Length: 100", `{"jsonrpc":"2.0","id":1,`, false, http.StatusRequestTimeout, "did not arrive within 200ms"},
		{"chunks end in the middle", "Transfer-Encoding: chunked", chunk(long[:600]), false, http.StatusRequestTimeout, "did not arrive within 200ms"},
		{"cut off", "Content-Length: 100", `{"jsonrpc":"2.0","id":1,`, true, http.StatusBadRequest, "the body was cut off"},
		{"chunks cut off", "Transfer-Encoding: chunked", chunk(long[:600]), true, http.StatusBadRequest, "the body was cut off"},
		{"cut off inside a chunk", "Transfer-Encoding: chunked", chunk(long[:600])[:300], true, http.StatusBadRequest, "the body was cut off"},
		{"no chunks at all", "Transfer-Encoding: chunked", "hello\r\n\r\n", true, http.StatusBadRequest, "the body was cut off"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, notesPolicy, answerTool, func(c *stile.Config) { c.MaxBody, c.BodyTimeout = limit, 200*time.Millisecond })
			conn := dial(t, serve(t, f.gateway))
			if _, err := io.WriteString(conn, f.head(tc.framing)+tc.body); err != nil {
				t.Fatal(err)
			}
			if tc.hangUp {
				if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			res, body, closed := answerOn(t, conn)
			checkRefusal(t, res.StatusCode, res.Header, body, tc.want, "null")
			if got := readError(t, body).Error.Message; !strings.Contains(got, tc.says) {
				t.Errorf("says %q, want %q in it", got, tc.says)
			}
			if !closed {
				t.Error("the connection was kept, with part of a body to come")
			}
			if n := f.reached(); n != 0 {
				t.Errorf("%d requests reached the upstream", n)
			}
			if got := f.records(t); len(got) != 1 || got[0]["outcome"] != "malformed" || got[0]["status"] != float64(tc.want) {
				t.Errorf("audit %v", got)
			}
		})
	}
}

// A body that takes its time within the limit is taken, and the time limit does
// not last beyond the body: neither the answer nor the next request falls to it.
func TestSlowBodyIsTaken(t *testing.T) {
	gate := make(chan struct{})
	f := newFixture(t, notesPolicy, func(w http.ResponseWriter, r *http.Request) {
		<-gate
		answerTool(w, r)
	}, func(c *stile.Config) { c.BodyTimeout = 2 * time.Second })
	conn := dial(t, serve(t, f.gateway))
	body := tool(era2025, "", "list_notes", "{}").body
	for range 2 {
		for _, part := range []string{f.head(fmt.Sprintf("Content-Length: %d", len(body))), body[:10], body[10:]} {
			if _, err := io.WriteString(conn, part); err != nil {
				t.Fatal(err)
			}
		}
		go func() { gate <- struct{}{} }()
		res, got, closed := answerOn(t, conn)
		if res.StatusCode != http.StatusOK || closed {
			t.Fatalf("%d %s, connection closed: %t", res.StatusCode, got, closed)
		}
	}
}
