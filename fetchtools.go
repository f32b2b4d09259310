package stile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/stile-mcp/stile/internal/sse"
	"github.com/stile-mcp/stile/message"
)

const (
	// toolPages bounds how many pages of tools/list are fetched.
	toolPages = 50
	// toolsTimeout bounds the whole fetch.
	toolsTimeout = 10 * time.Second
	// toolsPause is how soon an unknown name may make us fetch again.
	toolsPause = 30 * time.Second
	// maxToolsAnswer bounds one page, in bytes.
	maxToolsAnswer = 16 << 20
)

// ensure learns the tools of the upstream when a call names one that is not
// known and the policy needs its annotations. It asks within the caller's own
// session, at most once in toolsPause. When it fails the condition that needed
// the annotations fails, and with it the call.
func (c *ToolCatalogue) ensure(x *exchange) error {
	if c == nil || x.call.Method != "tools/call" || !x.s.policy.NeedsTools() {
		return nil
	}
	if _, known := c.Annotations(x.call.Name); known {
		return nil
	}
	c.fetching.Lock()
	defer c.fetching.Unlock()
	if _, known := c.Annotations(x.call.Name); known || time.Since(c.fetched) < toolsPause {
		return nil
	}
	c.fetched = time.Now()
	ctx, cancel := context.WithTimeout(x.r.Context(), toolsTimeout)
	defer cancel()
	cursor := ""
	for range toolPages {
		answer, err := x.askTools(ctx, cursor)
		if err != nil {
			return err
		}
		c.learn("tools/list", answer)
		if cursor = nextCursor(answer); cursor == "" {
			return nil
		}
	}
	return nil
}

// askTools sends one tools/list of ours upstream and returns the JSON-RPC answer.
func (x *exchange) askTools(ctx context.Context, cursor string) ([]byte, error) {
	body, err := json.Marshal(x.toolsRequest(cursor))
	if err != nil {
		return nil, err
	}
	out := x.outgoing(ctx)
	for _, name := range []string{"Mcp-Name", "Last-Event-Id"} {
		out.Header.Del(name)
	}
	if x.call.Era == message.Era2026 {
		out.Header.Set("Mcp-Method", "tools/list")
	}
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	in := &collector{header: http.Header{}, status: http.StatusOK}
	x.s.upstream.ServeHTTP(in, out)
	if in.err != nil {
		return nil, in.err
	}
	if in.status != http.StatusOK {
		return nil, fmt.Errorf("tools/list was answered with status %d", in.status)
	}
	return in.response()
}

// toolsID is the id of our own requests. It must differ from those of the client
// in the same session.
const toolsID = "stile-tools-list"

func (x *exchange) toolsRequest(cursor string) map[string]any {
	params := map[string]any{}
	if cursor != "" {
		params["cursor"] = cursor
	}
	if x.call.Era == message.Era2026 {
		params["_meta"] = map[string]any{
			"io.modelcontextprotocol/protocolVersion":    x.call.Version,
			"io.modelcontextprotocol/clientInfo":         map[string]any{"name": "stile", "version": Version},
			"io.modelcontextprotocol/clientCapabilities": map[string]any{},
		}
	}
	return map[string]any{"jsonrpc": "2.0", "id": toolsID + "-" + strconv.Itoa(len(cursor)), "method": "tools/list", "params": params}
}

func nextCursor(answer []byte) string {
	var page struct {
		Result struct {
			NextCursor string `json:"nextCursor"`
		} `json:"result"`
	}
	_ = json.Unmarshal(answer, &page)
	return page.Result.NextCursor
}

// collector is a ResponseWriter that keeps one bounded answer in memory.
type collector struct {
	header http.Header
	status int
	body   bytes.Buffer
	err    error
}

func (c *collector) Header() http.Header    { return c.header }
func (c *collector) WriteHeader(status int) { c.status = status }
func (c *collector) Fail(err error)         { c.err = err }
func (c *collector) Flush()                 {}

var errToolsTooLong = errors.New("the answer to tools/list is too long")

func (c *collector) Write(p []byte) (int, error) {
	if c.body.Len()+len(p) > maxToolsAnswer {
		c.err = errToolsTooLong
		return 0, c.err
	}
	return c.body.Write(p)
}

// response is the JSON-RPC answer in the body, be it JSON or an event stream.
func (c *collector) response() ([]byte, error) {
	if !isEventStream(c.header.Get("Content-Type")) {
		return c.body.Bytes(), nil
	}
	var found []byte
	var scan sse.Scanner
	err := scan.Feed(c.body.Bytes(), func(e sse.Event) error {
		if found == nil && bytes.Contains(e.Data, []byte(toolsID)) {
			found = bytes.Clone(e.Data)
		}
		return nil
	})
	if found == nil && err == nil {
		err = errors.New("the stream ended without an answer to tools/list")
	}
	return found, err
}
