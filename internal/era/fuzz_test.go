package era_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/era"
)

// babble is a server that begins well and then says anything.
type babble struct{ says string }

func (b babble) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	answer := "data: " + strings.ReplaceAll(b.says, "\n", "\ndata: ") + "\n\n"
	switch {
	case r.Method != http.MethodPost:
		return &http.Response{StatusCode: http.StatusMethodNotAllowed, Body: http.NoBody}, nil
	case strings.Contains(string(body), `"stile-initialize"`):
		answer = `data: {"id":"stile-initialize","result":{"protocolVersion":"2025-11-25","capabilities":{"logging":{}}}}` + "\n\n"
	case strings.Contains(string(body), `"stile-discover"`):
		answer = `data: {"id":"stile-discover","result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}}}}` + "\n\n"
	case strings.Contains(string(body), `"notifications/`):
		return &http.Response{StatusCode: http.StatusAccepted, Body: http.NoBody}, nil
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}},
		Body: io.NopCloser(strings.NewReader(answer))}, nil
}

// FuzzConversation: whatever a client and a server say, every request of the client
// is answered once, with JSON that has its id.
func FuzzConversation(f *testing.F) {
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}`
	f.Add(`"tools/call"`, `{"name":"x",`+meta+`}`, `{"id":1,"result":{}}`)
	f.Add(`"tools/call"`, `{"name":"x",`+meta+`}`, `{"id":"s","method":"elicitation/create","params":{}}`)
	f.Add(`"tools/call"`, `{"name":"x",`+meta+`,"requestState":"x"}`, `[{"id":1,"error":{"code":-32042,"data":{"elicitations":[{}]}}}]`)
	f.Add(`"prompts/get"`, `{"name":"x"}`, `{"id":7,"result":{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list"}}}}`)
	f.Add(`"subscriptions/listen"`, `{"notifications":{"resourceSubscriptions":["a"]},`+meta+`}`, `{"method":"notifications/tools/list_changed"}`)
	f.Add(`"initialize"`, `{"protocolVersion":"2025-11-25"}`, `{`)
	f.Fuzz(func(t *testing.T, method, params, server string) {
		line := `{"jsonrpc":"2.0","id":7,"method":` + method + `,"params":` + params + `}`
		if v := jsontext.Value(line); !v.IsValid() {
			return
		}
		for _, modern := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) { converse(t, modern, line, server) })
		}
	})
}

// converse is one conversation, which has as long as anything may take.
func converse(t *testing.T, modern bool, line, server string) {
	heard := make(chan string, 100)
	o := era.Options{Name: "f", Upstream: babble{server}, Owner: ada, Log: slog.New(slog.DiscardHandler),
		Emit: func(line []byte, _ string) {
			select {
			case heard <- string(line):
			default:
			}
		}}
	var peer translator = era.NewLegacy(o)
	if modern {
		m, err := era.NewModern(o)
		if err != nil {
			t.Fatal(err)
		}
		peer = m
	}
	peer.Receive(context.Background(), []byte(line))
	time.Sleep(era.DefaultAskTime + time.Minute)
	peer.Close()
	answers := 0
	for len(heard) > 0 {
		text := <-heard
		v := jsontext.Value(text)
		if !v.IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
			t.Errorf("no JSON: %s", text)
		}
		if strings.Contains(text, `"id":7,"result"`) || strings.Contains(text, `"id":7,"error"`) {
			answers++
		}
	}
	if p, err := envelope.Read([]byte(line)); err == nil && answers != 1 && p.Kind == envelope.Request && p.Method != "subscriptions/listen" {
		t.Errorf("%d answers to %s", answers, line)
	}
}
