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

	"github.com/stile-mcp/stile/authorize"
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
// session, once for all calls that wait, and after a success not again within
// toolsPause. When it fails the condition that needed the annotations fails, and
// with it these calls; the same caller makes us ask anew after a pause that grows,
// others at once, since what failed may have been the session of one caller. Who lacks
// the baseline makes us ask nothing (DES-22), and what is asked has its record first.
func (c *ToolCatalogue) ensure(x *exchange) error {
	if c == nil || x.call.Method != "tools/call" || !x.s.policy.NeedsTools() {
		return nil
	}
	if _, known := c.Annotations(x.call.Name); known || !x.mayList() {
		return nil
	}
	if !c.failures.mayTry(x.owner(), time.Now()) {
		return errToolsPause
	}
	// The fetch does not end with the request that began it: others wait for it.
	flight := c.fetches.DoChan("", func() (any, error) {
		err := c.fetch(x)
		c.failures.done(x.owner(), err == nil, time.Now())
		return nil, err
	})
	select {
	case done := <-flight:
		return done.Err
	case <-x.r.Context().Done():
		return x.r.Context().Err()
	}
}

var errToolsPause = errors.New("tools/list has just failed for this caller")

// asToolsList is the exchange as if it were a tools/list, which is what we ask in its
// name.
func (x *exchange) asToolsList() *exchange {
	y := *x
	y.call = &message.Call{Kind: message.Request, Era: x.call.Era, Method: "tools/list"}
	y.decision = x.s.policy.Decide(x.identity, y.call)
	return &y
}

// mayList reports whether the caller could ask for the tools itself.
func (x *exchange) mayList() bool {
	return x.asToolsList().decision.Outcome == authorize.Allow
}

// fetch asks for every page of the list.
func (c *ToolCatalogue) fetch(x *exchange) error {
	if last := c.fetched.Load(); last != nil && time.Since(*last) < toolsPause {
		return nil
	}
	if err := x.asToolsList().record(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), toolsTimeout)
	defer cancel()
	cursor := ""
	for range toolPages {
		answer, err := x.askTools(ctx, cursor)
		if err != nil {
			return err
		}
		page, err := readToolsPage(answer)
		if err != nil {
			return err
		}
		c.learn("tools/list", answer)
		if cursor = page; cursor == "" {
			break
		}
	}
	now := time.Now()
	c.fetched.Store(&now)
	return nil
}

// askTools sends one tools/list of ours upstream and returns the JSON-RPC answer.
func (x *exchange) askTools(ctx context.Context, cursor string) ([]byte, error) {
	body, err := json.Marshal(x.toolsRequest(cursor))
	if err != nil {
		return nil, err
	}
	out := x.outgoing(ctx)
	for _, name := range []string{"Mcp-Name", lastEventHeader} {
		out.Header.Del(name)
	}
	if x.call.Era == message.Era2026 {
		out.Header.Set("Mcp-Method", "tools/list")
	}
	// All three: what still led to the body of the call would send a call that
	// nobody has judged yet.
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	out.Body, _ = out.GetBody()
	out.ContentLength = int64(len(body))
	in := &collector{header: http.Header{}, status: http.StatusOK}
	if err := in.collect(x.s.upstream, out); err != nil {
		return nil, err
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

// readToolsPage returns the cursor of the next page, empty after the last one. An
// answer without a result is an error.
func readToolsPage(answer []byte) (cursor string, err error) {
	var page struct {
		Result *struct {
			NextCursor string `json:"nextCursor"`
		} `json:"result"`
	}
	switch err := json.Unmarshal(answer, &page); {
	case err != nil:
		return "", fmt.Errorf("the answer to tools/list cannot be read: %w", err)
	case page.Result == nil:
		return "", errors.New("tools/list was answered without a result")
	}
	return page.Result.NextCursor, nil
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

// collect lets the upstream answer. A panic is an error here: http.ErrAbortHandler
// says that an answer broke off, of which nothing was sent on, and nobody above
// could catch another one.
func (c *collector) collect(upstream http.Handler, r *http.Request) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			err = errors.New("the answer to tools/list broke off")
		default:
			err = fmt.Errorf("panic while tools/list was answered: %v", p)
		}
	}()
	upstream.ServeHTTP(c, r)
	return c.err
}

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
