package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestCallsAreJSON holds that every body and answer is what it pretends to be.
func TestCallsAreJSON(t *testing.T) {
	for tool, c := range callsByTool {
		if !json.Valid(c.body) {
			t.Errorf("%s: the body is not JSON", tool)
		}
		for event := range bytes.SplitSeq(c.answer(nil, []byte("000000000007")), []byte("\n\n")) {
			event = bytes.TrimPrefix(event, []byte(eventHead))
			if len(event) > 0 && !json.Valid(event) {
				t.Errorf("%s: %.80q in the answer is not JSON", tool, event)
			}
		}
	}
}

// TestTheClientJudges holds that the client takes the upstream's own answers, and
// no other: a benchmark that counts broken answers must see them.
func TestTheClientJudges(t *testing.T) {
	good := callsByTool["small"].answer(nil, []byte("000000000007"))
	tests := []struct {
		name, tool string
		answer     http.HandlerFunc
		ok         bool
	}{
		{"json", "small", serveUpstream, true},
		{"64 KiB", "both64k", serveUpstream, true},
		{"1 MiB request", "put1m", serveUpstream, true},
		{"1 MiB answer", "get1m", serveUpstream, true},
		{"one event", "event", serveUpstream, true},
		{"1,000 events", "events1000", serveUpstream, true},
		{"another id", "small", reply(200, bytes.Replace(good, []byte("7"), []byte("8"), 1)), false},
		{"another text", "small", reply(200, bytes.Replace(good, []byte("fox"), []byte("cat"), 1)), false},
		{"another status", "small", reply(201, good), false},
		{"too short", "small", reply(200, good[:len(good)-1]), false},
		{"cut off", "small", cut("Content-Length: 9999\r\n\r\n{"), false},
		{"cut between chunks", "small", cut("Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"), false},
		{"no end told", "small", cut("\r\n{}"), false},
		{"refused", "small", reply(401, nil), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(tt.answer)
			defer server.Close()
			addr := strings.TrimPrefix(server.URL, "http://")
			c := newClient(addr, callsByTool[tt.tool])
			defer c.close()
			if err := c.do(c.call.head(addr, "token"), 7); (err == nil) != tt.ok {
				t.Errorf("error %v, taken: %t", err, tt.ok)
			}
		})
	}
}

func reply(status int, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}
}

func cut(rest string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, _ := http.NewResponseController(w).Hijack()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+rest)
		_ = conn.Close()
	}
}

// TestTheUpstreamJudges holds that a body that was changed on its way is refused.
func TestTheUpstreamJudges(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(serveUpstream))
	defer server.Close()
	addr := strings.TrimPrefix(server.URL, "http://")
	c := newClient(addr, callsByTool["small"])
	defer c.close()
	c.body[len(c.body)/2] ^= 1
	if err := c.do(c.call.head(addr, ""), 7); err == nil {
		t.Error("a body that was changed was answered")
	}
}

func TestReadStatus(t *testing.T) {
	s, err := readStatus(bufio.NewReader(strings.NewReader("HTTP/1.1 200 OK\r\ncontent-length: 7\r\nConnection: close\r\n\r\n")))
	if err != nil || s.code != 200 || s.length != 7 || !s.close || s.chunked {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := readStatus(bufio.NewReader(strings.NewReader("SSH-2.0\r\n"))); err == nil {
		t.Error("another protocol was taken for HTTP")
	}
}

// TestRounds holds that a ratio is taken within each round.
func TestRounds(t *testing.T) {
	a, b := &side{}, &side{}
	got := rounds{
		a: {{requests: 10, wall: time.Second}, {requests: 1, wall: time.Second}, {requests: 30, wall: time.Second}},
		b: {{requests: 20, wall: time.Second}, {requests: 2, wall: time.Second}, {requests: 10, wall: time.Second}},
	}
	if r := got.ratio(a, b, sample.rate); r != 0.5 {
		t.Errorf("ratio %v, want the median of 0.5, 0.5 and 3", r)
	}
	s := sample{latencies: []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second}}
	if s.at(0.5) != 3 || s.at(0.99) != 4 || s.at(1) != 4 {
		t.Errorf("quantiles %v %v %v", s.at(0.5), s.at(0.99), s.at(1))
	}
}

func TestTable(t *testing.T) {
	tests := []struct {
		row  row
		want string
	}{
		{row{value: 1, must: 0.85, aim: 1}, "reached"},
		{row{value: 0.9, must: 0.85, aim: 1}, "passed"},
		{row{value: 0.8, must: 0.85, aim: 1}, "MISSED"},
		{row{value: 1, must: 1.15, aim: 1, most: true}, "reached"},
		{row{value: 1.1, must: 1.15, aim: 1, most: true}, "passed"},
		{row{value: 1.2, must: 1.15, aim: 1, most: true}, "MISSED"},
		{row{value: math.NaN(), must: 1, aim: 1, most: true}, "MISSED"},
		{row{value: 5, plain: true}, ""},
	}
	var all table
	for _, tt := range tests {
		if got := tt.row.verdict(); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.row, got, tt.want)
		}
		all.add(tt.row)
	}
	if all.missed() != 3 {
		t.Errorf("%d missed, want 3", all.missed())
	}
	if m := median([]float64{3, 1, 2, 10}); m != 2.5 {
		t.Errorf("median %v, want 2.5", m)
	}
	if !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

// TestAnsweringInTime holds that a connection that says nothing does not hold a
// run up for ever.
func TestAnsweringInTime(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	c := newClient("", callsByTool["small"])
	c.nc = client
	c.r.Reset(client)
	_ = server.Close()
	if err := c.do(c.call.head("", ""), 1); err == nil || c.nc != nil {
		t.Errorf("error %v; the connection is kept: %t", err, c.nc != nil)
	}
}
