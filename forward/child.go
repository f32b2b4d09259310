package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/stdio"
	"github.com/stile-mcp/stile/session"
)

// connection is what a child is reached by: the pipes of a process, or the event
// stream of a server of the legacy transport. Its methods may be called
// concurrently.
type connection interface {
	// Send takes one message; line ends with the only line feed in it, and must not
	// be kept. The error is stdio.ErrGone when it ends or has ended.
	Send(ctx context.Context, line []byte) error
	// Stop ends it and returns when it is gone, at once when ctx ends.
	Stop(ctx context.Context)
	// Done is closed when it is gone and all it said has been received.
	Done() <-chan struct{}
	// Err is why it is gone: stdio.ErrStopped after Stop.
	Err() error
}

// child is one connection to the server, mostly a process, and who waits for what
// from it.
type child struct {
	c      *Command
	owner  session.Owner // whom it counts for; the zero Owner with IsolateShared
	key    poolKey       // where it is found, if it is shared
	shared bool          // several requests have it, so ids are exchanged
	log    *slog.Logger

	// opened is closed when the handshake of a shared child is over; openErr and
	// welcome, what the server said to it, are set before.
	opened  chan struct{}
	openErr error
	welcome *envelope.Message

	released chan struct{} // closed when it no longer counts

	answered atomic.Bool // it has spoken: a start that worked
	replies  atomic.Int32

	mu       sync.Mutex
	process  connection
	gone     bool
	calls    map[string]*call // by envelope.Key of the id that the child knows
	tokens   map[string]*call // by that of the progress token
	sessions map[*clientSession]struct{}
	last     uint64                        // the last id given to a call, or number of one
	level    int                           // the log level last set, of a shared child
	mirrored map[string][]mirroredArgument // by tool
	idle     *time.Timer
	used     time.Time
}

// call is one request that a child has not answered.
type call struct {
	number  uint64 // in the order they were sent
	key     string
	id      jsontext.Value // the client's
	token   jsontext.Value // the client's progress token, nil: none
	tokenAs string         // envelope.Key of what the child knows it by
	stream  *stream
	session *clientSession // nil: a request of 2026-07-28, or Stile's own
	wantLog bool           // asks for log messages, as a request of 2026-07-28
	listen  bool
	tools   bool // a tools/list of 2026-07-28
}

// errGone says that a call cannot be answered any more.
var errGone = errors.New("the MCP server ended before it answered; repeat the call if that is safe")

// errEnded says that a message was not sent, since the child is gone or going.
var errEnded = &refusal{status: http.StatusBadGateway, text: "the MCP server has ended; send this again"}

// launch starts a child for an owner, within the limits.
func (c *Command) launch(owner session.Owner, key poolKey, shared bool) (*child, error) {
	now := time.Now()
	if wait := c.backoff.wait(owner, now); wait > 0 {
		return nil, &refusal{status: http.StatusServiceUnavailable, text: "the MCP server does not start; try again later", retry: wait}
	}
	k := &child{c: c, owner: owner, key: key, shared: shared, log: c.log, opened: make(chan struct{}), released: make(chan struct{}),
		calls: map[string]*call{}, tokens: map[string]*call{}, sessions: map[*clientSession]struct{}{}, level: unsetLevel, used: now}
	k.mu.Lock() // what it says at once has to wait, and so has stop
	if err := c.register(k); err != nil {
		k.mu.Unlock()
		return nil, err
	}
	var err error
	if c.peer != nil {
		k.process, err = c.peer(k)
	} else {
		k.process, err = c.start(k)
	}
	k.gone = err != nil
	k.mu.Unlock()
	if err != nil {
		c.backoff.failed(owner, now, err)
		c.log.Error("child not started", "error", err)
		k.release()
		return nil, &refusal{status: http.StatusBadGateway, text: "the MCP server cannot be started", cause: err}
	}
	go k.watch(now)
	return k, nil
}

// register counts a child in, within the limits.
func (c *Command) register(k *child) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.admit(k.owner); err != nil {
		return err
	}
	c.children[k] = struct{}{}
	c.owned[k.owner]++
	c.running.Add(1)
	if k.shared {
		c.pools[k.key] = k
	}
	return nil
}

// admit holds one more child of an owner against the limits.
func (c *Command) admit(owner session.Owner) error {
	switch {
	case c.closed:
		return errClosed
	case len(c.children) >= c.config.MaxChildren:
		return &refusal{status: http.StatusServiceUnavailable, text: "too many MCP servers are running; try again later", retry: limitRetry}
	case c.config.Isolation != IsolateShared && c.owned[owner] >= c.config.MaxPerCaller:
		return errTooMany
	default:
		return nil
	}
}

// limitRetry is told where a limit was met.
const limitRetry = 10 * time.Second

var errTooMany = &refusal{status: http.StatusTooManyRequests, text: "too many open sessions of this caller; end some and try again", retry: limitRetry}

// watch waits for the end of the process and tells everyone who waits for it.
func (k *child) watch(started time.Time) {
	<-k.process.Done()
	err := k.process.Err()
	switch {
	case errors.Is(err, stdio.ErrStopped):
	case !k.answered.Load():
		k.c.backoff.failed(k.owner, time.Now(), err)
		k.log.Error("child ended before it answered", "error", err)
	default:
		k.log.Error("child ended by itself", "error", err, "after", time.Since(started).Round(time.Millisecond))
		free := freeCrashes
		if k.c.config.Isolation == IsolateShared {
			free = 0 // nobody would notice otherwise
		}
		k.c.backoff.crashed(k.owner, time.Now(), err, free)
	}
	k.release()
}

// release ends everything that needs the child, which is gone.
func (k *child) release() {
	c := k.c
	c.mu.Lock() // first of all: nobody else may find it
	if c.pools[k.key] == k {
		delete(c.pools, k.key)
	}
	c.mu.Unlock()
	k.mu.Lock()
	k.gone = true
	calls, sessions := k.calls, k.sessions
	k.calls, k.tokens, k.sessions = nil, nil, nil
	if k.idle != nil {
		k.idle.Stop()
	}
	k.mu.Unlock()
	for _, x := range calls {
		x.fail(http.StatusBadGateway, errGone.Error())
	}
	for s := range sessions {
		s.end(errGone.Error())
	}
	c.mu.Lock()
	delete(c.children, k)
	if c.owned[k.owner]--; c.owned[k.owner] == 0 {
		delete(c.owned, k.owner)
	}
	c.mu.Unlock()
	close(k.released)
	c.running.Done()
}

// fail answers a call with a JSON-RPC error. The HTTP status stays 200: with
// another one some clients would send the call again, which may have been carried
// out.
func (x *call) fail(code int, text string) {
	x.stream.add(event{data: errorLine(x.id, code, text), status: http.StatusOK, final: true, lost: true})
}

// stop lets the child end, in the background.
func (k *child) stop() {
	k.mu.Lock()
	p, gone := k.process, k.gone
	k.mu.Unlock()
	if !gone {
		go p.Stop(context.Background())
	}
}

// send writes a line to the child.
func (k *child) send(ctx context.Context, line []byte) error {
	if err := k.process.Send(ctx, line); err != nil {
		if errors.Is(err, stdio.ErrGone) {
			return errEnded
		}
		return err
	}
	return nil
}

// reply writes a line to the child from its reader, which must not wait for it.
func (k *child) reply(line []byte) {
	const most = 32
	if k.replies.Add(1) > most {
		k.replies.Add(-1) // it asks faster than it reads
		return
	}
	go func() {
		defer k.replies.Add(-1)
		_ = k.process.Send(context.Background(), append(line, '\n'))
	}()
}

// expect registers a request under the id that the child will know it by, and
// returns the line to send.
func (k *child) expect(x *call, m *envelope.Message) ([]byte, error) {
	// Copies: a call may be under way for long, and must not hold the whole body.
	x.id = bytes.Clone(m.At(m.ID))
	if m.Token.Exists() {
		x.token = bytes.Clone(m.At(m.Token))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.gone:
		return nil, errEnded
	case len(k.calls) >= maxCalls:
		return nil, errTooManyCalls
	}
	k.last++
	x.number, k.used = k.last, time.Now()
	line := m.Raw
	if k.shared {
		own := strconv.FormatUint(x.number, 10)
		x.key, x.tokenAs = own, own
		line = m.Replace(envelope.Edit{At: m.ID, With: []byte(own)}, envelope.Edit{At: m.Token, With: []byte(own)})
	} else {
		x.key, x.tokenAs = envelope.Key(x.id), envelope.Key(x.token)
		if k.calls[x.key] != nil {
			return nil, &refusal{status: http.StatusBadRequest, code: codeInvalidRequest, text: "a request with this id is still under way"}
		}
	}
	k.calls[x.key] = x
	if x.token != nil {
		k.tokens[x.tokenAs] = x
	}
	return append(line, '\n'), nil
}

// maxCalls is how many calls one child may have under way. In the 2025 revisions a
// call goes on when its client is gone, so the connections do not bound them.
const maxCalls = 100_000

var errTooManyCalls = &refusal{status: http.StatusServiceUnavailable, text: "too many calls are under way; try again later", retry: limitRetry}

// forget takes a call out and reports whether it was still waiting.
func (k *child) forget(x *call) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.calls[x.key] != x {
		return false
	}
	k.remove(x)
	return true
}

func (k *child) remove(x *call) {
	delete(k.calls, x.key)
	if x.token != nil && k.tokens[x.tokenAs] == x {
		delete(k.tokens, x.tokenAs)
	}
}

// cancel tells the child that nobody waits for a call any more. It is the sender's
// duty on stdio, whatever ended the call (2026-07-28 stdio "Cancellation"). It waits
// until the child has taken it, and must not be called by the child's reader.
func (k *child) cancel(x *call) {
	if !k.forget(x) {
		return
	}
	id := x.id
	if k.shared {
		id = jsontext.Value(x.key)
	}
	line := fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`+"\n", id)
	_ = k.process.Send(context.Background(), line) // a child that is gone need not be told
}
