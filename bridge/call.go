package bridge

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
)

// call is one request of the client. It is answered once, or cancelled.
type call struct {
	b   *bridge
	m   *envelope.Message
	id  jsontext.Value
	key string
	ctx context.Context // ends when nobody waits for an answer any more
	cut context.CancelFunc

	wrote chan struct{} // closed once the request has been on the wire
	write sync.Once
	done  chan struct{} // closed when it was answered or cancelled

	mu        sync.Mutex
	cancelled bool
	release   func() // gives its turn to another; nil before it has one
}

func (b *bridge) newCall(m *envelope.Message) *call {
	c := &call{b: b, m: m, id: m.At(m.ID), wrote: make(chan struct{}), done: make(chan struct{})}
	c.key = envelope.Key(c.id)
	c.ctx, c.cut = context.WithCancel(b.ctx)
	return c
}

// takeTurn waits until fewer than Config.MaxCalls others are under way; false when
// the call is over before.
func (c *call) takeTurn() bool {
	if c.isListen() {
		return true
	}
	select {
	case c.b.turns <- struct{}{}:
	case <-c.ctx.Done():
		return false
	case <-c.done:
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over() {
		<-c.b.turns
		return false
	}
	c.release = func() { <-c.b.turns }
	return true
}

// end is what follows the answer, or takes its place. The answer may be followed by
// the end of the server's stream, which is worth a short wait: the connection can be
// used again then.
func (c *call) end(cancelled bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancelled = cancelled
	close(c.done)
	if c.release != nil {
		c.release()
	}
	if !cancelled {
		time.AfterFunc(drainTime, c.cut)
	}
}

// drainTime is how long a stream may go on after the answer.
const drainTime = 2 * time.Second

// isCancelled reports whether nobody wants to hear of it.
func (c *call) isCancelled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cancelled
}

// over reports whether it was answered or cancelled.
func (c *call) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *call) isModern() bool { return isModern(c.m) }

// isModern reports whether a message is of 2026-07-28 or later: it says so itself, or
// by a method that no older revision has.
func isModern(m *envelope.Message) bool {
	return m.Revision.Exists() || m.Method == "server/discover" || m.Method == "subscriptions/listen"
}

// isListen reports whether it is a subscription, which has no end of its own.
func (c *call) isListen() bool { return c.m.Method == "subscriptions/listen" }

// answer answers with a response of the server, under the id as the client wrote it.
// What is no response becomes an error.
func (c *call) answer(raw []byte) {
	line, err := oneLine(raw)
	if err == nil {
		line, err = c.withID(line)
	}
	if err != nil {
		c.b.log.Warn("answer of the MCP server not understood", "method", c.m.Method, "error", err)
		c.fail(http.StatusBadGateway, "the MCP server answered with what is no JSON-RPC response: it may not be an MCP server, or the wrong URL")
		return
	}
	c.finish(line)
}

// withID gives a response the id of the request where it is written in another way or,
// as in errors of servers that could not read it, missing.
func (c *call) withID(line []byte) ([]byte, error) {
	m, err := envelope.Read(line)
	if err != nil {
		return nil, err
	}
	if m.Kind != envelope.Response {
		return nil, errNoResponse
	}
	switch {
	case !m.ID.Exists():
		var said struct {
			Error jsontext.Value `json:"error"`
		}
		if err := json.Unmarshal(line, &said, lenient); err != nil {
			return nil, err
		}
		return responseLine(c.id, "error", said.Error), nil
	case string(m.At(m.ID)) == string(c.id):
		return line, nil
	}
	return m.Replace(envelope.Edit{At: m.ID, With: c.id}), nil
}

// lenient reads what others say: the last of several members counts.
var lenient = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// fail answers with an error of the bridge's own.
func (c *call) fail(code int, text string) { c.finish(errorLine(c.id, code, text)) }

// finish answers with a whole line, unless somebody did already.
func (c *call) finish(line []byte) {
	if !c.b.desk.remove(c) {
		return
	}
	c.b.out.print(line)
	if c.m.Method == "initialize" {
		c.b.greeted(line)
	}
	c.end(false)
}

// cancel ends a call without an answer; false when it was over.
func (c *call) cancel() bool {
	if !c.b.desk.remove(c) {
		return false
	}
	c.end(true)
	return true
}

// sent says that the request is on the wire.
func (c *call) sent() { c.write.Do(func() { close(c.wrote) }) }

func (c *call) wasSent() bool {
	select {
	case <-c.wrote:
		return true
	default:
		return false
	}
}

// desk is the requests of the client that are under way.
type desk struct {
	mu    sync.Mutex
	calls map[string]*call
	bytes int           // of their messages
	quiet chan struct{} // closed and exchanged whenever the last one is over
}

const (
	// maxPending is how many requests may be under way or wait for their turn, and
	// maxPendingBytes how long they may be together.
	maxPending      = 1024
	maxPendingBytes = 64 << 20
)

// enter registers a request, or says why not.
func (d *desk) enter(c *call) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.calls[c.key] != nil:
		return "a request with this id is still under way"
	case len(d.calls) >= maxPending || len(d.calls) > 0 && d.bytes+len(c.m.Raw) > maxPendingBytes:
		return "too many requests are under way; wait for some and try again"
	}
	d.calls[c.key] = c
	d.bytes += len(c.m.Raw)
	return ""
}

// remove takes a request out; false when it was not there any more.
func (d *desk) remove(c *call) bool {
	if !d.take(c) {
		return false
	}
	c.b.config.Voice.end(c.key)
	return true
}

func (d *desk) take(c *call) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.calls[c.key] != c {
		return false
	}
	delete(d.calls, c.key)
	d.bytes -= len(c.m.Raw)
	if len(d.calls) == 0 {
		close(d.quiet)
		d.quiet = make(chan struct{})
	}
	return true
}

func (d *desk) find(key string) *call {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls[key]
}

// all returns the requests under way, and what is closed when none is; nil when none
// is now.
func (d *desk) all() ([]*call, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.calls) == 0 {
		return nil, nil
	}
	list := make([]*call, 0, len(d.calls))
	for _, c := range d.calls {
		list = append(list, c)
	}
	return list, d.quiet
}
