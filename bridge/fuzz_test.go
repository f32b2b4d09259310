package bridge_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile/bridge"
	"github.com/stile-mcp/stile/internal/envelope"
)

// babble is a server that says anything, by some status and media type.
type babble struct {
	says  string
	style byte
	turn  int
	mu    sync.Mutex
}

func (b *babble) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.WroteRequest != nil {
		trace.WroteRequest(httptrace.WroteRequestInfo{})
	}
	b.mu.Lock()
	b.turn++
	style := int(b.style) + b.turn*int(b.style>>4)
	b.mu.Unlock()
	statuses := []int{200, 200, 200, 404, 400, 405, 202, 403, 401, 500, 302, 429}
	medias := []string{"application/json", "text/event-stream", "text/html", ""}
	if style%17 == 16 {
		return nil, errors.New("connection refused")
	}
	says := b.says
	media := medias[style%len(medias)]
	if media == "text/event-stream" && !strings.Contains(says, "data:") {
		says = "id: 1\nretry: 1\ndata: " + strings.ReplaceAll(says, "\n", "\ndata: ") + "\n\n"
	}
	h := http.Header{"Content-Type": {media}, "Mcp-Session-Id": {"s"}, "Location": {"/\x01"}, "Www-Authenticate": {says}}
	return &http.Response{StatusCode: statuses[style%len(statuses)], Header: h, Body: io.NopCloser(strings.NewReader(says))}, nil
}

// FuzzBridge: whatever client and server say, every request that went in is answered
// once, unless it was cancelled, and nothing but lines of JSON-RPC comes out.
func FuzzBridge(f *testing.F) {
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	for _, seed := range []struct{ client, server string }{
		{`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{"logging":{}}}}`},
		{`{"id":1,"method":"a"}` + "\n" + `{"id":1,"method":"b"}` + "\n" + `{"method":"notifications/cancelled","params":{"requestId":1}}`, `{"id":1,"result":{}}`},
		{`{"id":"x","method":"tools/call","params":{"name":"n",` + meta + `}}`, `{"id":"x","error":{"code":-32020}}`},
		{`{"id":"x","method":"subscriptions/listen","params":{` + meta + `}}`, `{"method":"notifications/subscriptions/acknowledged","params":{"notifications":{"toolsListChanged":true,"resourceSubscriptions":[1]}}}`},
		{`[{"id":1,"method":"a"},{"id":2,"method":"b"}]`, `[{"id":1,"result":1},{"id":1,"result":2}]`},
		{`{"id":1,"method":"initialize"}` + "\n" + `{"method":"notifications/initialized"}` + "\n" + `{"id":9,"result":{}}`, `{"id":9,"method":"roots/list"}`},
		{`{"id":1,"method":"initialize"}`, "event: endpoint\ndata: /m\n\ndata: {\"id\":1,\"result\":{\"protocolVersion\":\"2024-11-05\"}}\n\n"},
		{`{"id":1,"method":"a"}`, `{"id":null,"error":{"code":1,"message":"m"}}`},
		{`{"id":1,"method":"a"}`, "{\"id\":1,\n\"result\":{}}"},
		{`{"id":2,"method":"x"`, `Bearer error="insufficient_scope", scope="a b"`},
		{`{"method":"server/discover","id":3,"params":{` + meta + `}}`, `{"id":"stile-probe","result":{"supportedVersions":["2026-07-28"]}}`},
	} {
		for _, style := range []byte{0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 16, 0x15, 0x31, 0xf7} {
			f.Add(seed.client, seed.server, style)
		}
	}
	f.Fuzz(func(t *testing.T, client, server string, style byte) {
		synctest.Test(t, func(t *testing.T) { babbles(t, client, server, style) })
	})
}

func babbles(t *testing.T, client, server string, style byte) {
	in, toBridge := io.Pipe()
	var out lines
	ended := make(chan error, 1)
	go func() {
		ended <- bridge.Run(context.Background(), bridge.Config{URL: "https://far.example/mcp", Transport: &babble{says: server, style: style},
			In: in, Out: &out, Log: slog.New(slog.DiscardHandler), MaxMessage: 10_000, Grace: 10 * time.Minute})
	}()
	wanted, cancelled := requestsIn(client)
	for line := range strings.SplitSeq(client, "\n") {
		_, _ = io.WriteString(toBridge, line+"\n")
	}
	_ = toBridge.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, line := range out.all {
		m, err := envelope.Read([]byte(strings.TrimSuffix(line, "\n")))
		if err != nil || strings.Count(line, "\n") != 1 || !json.Valid([]byte(line)) {
			t.Fatalf("the client hears %q: %v", line, err)
		}
		if m.Kind == envelope.Response {
			got[envelope.Key(m.At(m.ID))]++
		}
	}
	for key, n := range wanted {
		if got[key] != n && !(cancelled && got[key] < n) {
			t.Errorf("%d answers to %d requests %s: %q", got[key], n, key, out.all)
		}
	}
	for key, n := range got {
		if n > wanted[key] && wanted[key] > 0 {
			t.Errorf("%d answers to %d requests %s", n, wanted[key], key)
		}
	}
}

// requestsIn counts the requests that a client's lines hold, by the key of their id.
func requestsIn(client string) (wanted map[string]int, cancelled bool) {
	wanted = map[string]int{}
	count := func(line []byte) {
		m, err := envelope.Read(line)
		switch {
		case err != nil || !json.Valid(line):
		case m.Kind == envelope.Request:
			wanted[envelope.Key(m.At(m.ID))]++
		case m.Method == "notifications/cancelled":
			cancelled = true
		}
	}
	for line := range strings.SplitSeq(client, "\n") {
		line = strings.TrimSpace(line)
		if parts, err := envelope.Split([]byte(line)); err == nil {
			for _, part := range parts {
				count(part)
			}
		} else if len(line) <= 10_000 {
			count([]byte(line))
		}
	}
	return wanted, cancelled
}
