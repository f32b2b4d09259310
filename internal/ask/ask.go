// Package ask asks an MCP server what it offers, as a client that can do everything
// and does nothing: it opens a connection, reads every page of the lists, and
// leaves. Messages are read leniently, since nothing is passed on.
package ask

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/stile-mcp/stile/propose"
)

// Bounds of what is read from a server. Whatever goes beyond is an error, never a
// list that is cut short: a policy made from half a list would refuse the rest.
const (
	// MaxItems is how much of one kind is taken.
	MaxItems = 5_000
	// maxPages bounds the pages of one list.
	maxPages = 500
	// maxBytes bounds everything that is read together.
	maxBytes = 32 << 20
)

// Target is a server: a URL, or a command that speaks stdio.
type Target struct {
	URL    string
	Header http.Header // sent with every request to URL

	Command []string
	Env     map[string]string // of the command, beside stdio.Inherited
	Dir     string            // of the command; default: that of this process
}

// The revisions that are spoken.
const (
	legacyVersion = "2025-11-25"
	modernVersion = "2026-07-28"
)

// conn carries messages to one server. It is used by one goroutine.
type conn interface {
	// call sends a request and returns the answer to it.
	call(ctx context.Context, r *request) (*reply, error)
	// notify sends a notification.
	notify(ctx context.Context, r *request) error
	// close says goodbye and gives everything back.
	close()
}

// request is a message of ours.
type request struct {
	ID      int    `json:"id,omitempty"` // 0: a notification
	JSONRPC string `json:"jsonrpc"`
	Method  string `json:"method"`
	Params  any    `json:"params,omitempty"`

	version string // of the protocol, as far as that is settled
}

// reply is any message of a server.
type reply struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  *rpcError       `json:"error"`
}

// answers reports whether it is the response to a request of ours.
func (m *reply) answers(r *request) bool {
	return m.Method == "" && string(m.ID) == fmt.Sprint(r.ID) && (m.Result != nil || m.Error != nil)
}

// rpcError is a JSON-RPC error.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Error is the server's text; whoever shows it makes it printable.
func (e *rpcError) Error() string { return fmt.Sprintf("%s (error %d)", e.Message, e.Code) }

const methodNotFound = -32601

// capabilities are those of a client that can do everything, because servers offer
// some tools only to clients that can do what these need.
var capabilities = map[string]any{
	"roots": map[string]any{"listChanged": true}, "sampling": map[string]any{}, "elicitation": map[string]any{},
}

var clientInfo = map[string]any{"name": "stile-init", "version": "1"}

// asker is one conversation.
type asker struct {
	conn    conn
	id      int
	version string
}

// Inventory asks a server of either era for everything it lists. ctx bounds the
// time of all of it. The process of a command has ended when it returns.
func Inventory(ctx context.Context, t Target) (propose.Inventory, error) {
	var c conn
	if len(t.Command) > 0 {
		child, err := startChild(t)
		if err != nil {
			return propose.Inventory{}, err
		}
		c = child
	} else {
		c = newHTTP(t)
	}
	defer c.close()
	a := &asker{conn: c}
	hello, err := a.open(ctx)
	if err != nil {
		return propose.Inventory{}, timely(ctx, err)
	}
	in, err := a.lists(ctx, hello)
	return in, timely(ctx, err)
}

// timely says that time ran out, where that is what happened.
func timely(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errors.New("the server did not answer in time")
	}
	return err
}

// call sends one request and decodes the result.
func (a *asker) call(ctx context.Context, method string, params map[string]any, result any) error {
	a.id++
	r := &request{ID: a.id, JSONRPC: "2.0", Method: method, Params: a.params(params), version: a.version}
	answer, err := a.conn.call(ctx, r)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", method, err)
	case answer.Error != nil:
		return fmt.Errorf("%s: %w", method, answer.Error)
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		return fmt.Errorf("%s: the answer is not what the protocol has: %w", method, err)
	}
	return nil
}

// params adds what every request of 2026-07-28 says of itself.
func (a *asker) params(params map[string]any) map[string]any {
	if params == nil {
		params = map[string]any{}
	}
	if a.version == modernVersion {
		params["_meta"] = map[string]any{
			"io.modelcontextprotocol/protocolVersion":    modernVersion,
			"io.modelcontextprotocol/clientInfo":         clientInfo,
			"io.modelcontextprotocol/clientCapabilities": capabilities,
		}
	}
	return params
}

// hello is the answer to initialize or server/discover.
type hello struct {
	ProtocolVersion string                     `json:"protocolVersion"`
	Capabilities    map[string]json.RawMessage `json:"capabilities"`
	ServerInfo      implementation             `json:"serverInfo"`
	Meta            struct {
		ServerInfo implementation `json:"io.modelcontextprotocol/serverInfo"`
	} `json:"_meta"`
}

type implementation struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// open greets the server in the words of 2025-11-25, which nearly all understand,
// and in those of 2026-07-28 when it does not: a server has to answer a request
// that it does not know with an error, so neither costs a wait.
func (a *asker) open(ctx context.Context) (*hello, error) {
	var h hello
	old := a.call(ctx, "initialize", map[string]any{
		"protocolVersion": legacyVersion, "capabilities": capabilities, "clientInfo": clientInfo,
	}, &h)
	if old == nil {
		a.version = h.ProtocolVersion
		return &h, a.conn.notify(ctx, &request{JSONRPC: "2.0", Method: "notifications/initialized", version: a.version})
	}
	var code *rpcError
	var status *statusError
	if !errors.As(old, &code) && !(errors.As(old, &status) && status.mayBeEra()) {
		return nil, old
	}
	a.version = modernVersion
	h = hello{}
	if err := a.call(ctx, "server/discover", nil, &h); err != nil {
		return nil, fmt.Errorf("the server knows neither way to begin: %w; %w", old, err)
	}
	h.ServerInfo = h.Meta.ServerInfo
	return &h, nil
}
