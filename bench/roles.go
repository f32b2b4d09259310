package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
)

const (
	roleVariable     = "STILE_BENCH_ROLE"
	argumentVariable = "STILE_BENCH_ARGUMENT"
)

// play is a child: it prints where it listens and serves until its stdin ends.
func play(role string) error {
	var h http.Handler
	switch role {
	case "upstream":
		h = http.HandlerFunc(serveUpstream)
	case "proxy":
		h = bareProxy(os.Getenv(argumentVariable))
	case "mcp":
		return serveLines(os.Stdin, os.Stdout)
	case "pipehttp":
		pipe, err := startPipe()
		if err != nil {
			return err
		}
		h = pipe
	default:
		return fmt.Errorf("not a role: %q", role)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	return s.Serve(l)
}

// bareProxy is what the standard library offers, with enough idle connections
// not to dial for each call.
func bareProxy(upstream string) http.Handler {
	target := &url.URL{Scheme: "http", Host: upstream}
	return &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
}

// serveUpstream answers a call as its tool says, after it has compared the body
// with what the client must have sent.
func serveUpstream(w http.ResponseWriter, r *http.Request) {
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		http.Error(w, "the body was cut off", http.StatusBadRequest)
		return
	}
	if r.Header.Get("Mcp-Method") == "server/discover" {
		serveDiscover(w, body)
		return
	}
	c := callsByTool[r.Header.Get("Mcp-Name")]
	if c == nil || len(body) != len(c.body) || !bytes.Equal(body[idAt+idDigits:], c.body[idAt+idDigits:]) {
		http.Error(w, "not what the client sent", http.StatusBadRequest)
		return
	}
	id := body[idAt : idAt+idDigits]
	if c.rows >= 0 {
		serveEvents(w, r, c, id)
		return
	}
	answer := c.answer(make([]byte, 0, c.back+256), id)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	_, _ = w.Write(answer)
}

// serveDiscover says that the upstream speaks 2026-07-28: a gateway asks once.
func serveDiscover(w http.ResponseWriter, body []byte) {
	var asked struct {
		ID json.RawMessage `json:"id"`
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],`+
		`"capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"},"ttlMs":0,"cacheScope":"private"}}`, asked.ID)
}

// serveEvents sends each event on its own, as servers do.
func serveEvents(w http.ResponseWriter, r *http.Request, c *call, id []byte) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	flusher := http.NewResponseController(w)
	buf := make([]byte, 0, 256)
	for i := range c.rows {
		buf = event(buf[:0], i)
		if _, err := w.Write(buf); err != nil {
			return
		}
		_ = flusher.Flush()
	}
	if c.tool == "wait" {
		<-r.Context().Done()
		return
	}
	buf = append(buf[:0], eventHead...)
	_, _ = w.Write(append(c.result(buf, id), eventTail...))
}
