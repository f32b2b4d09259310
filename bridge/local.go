package bridge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/stdio"
)

// bridge is one Run.
type bridge struct {
	config     *Config
	log        *slog.Logger
	out        *printer
	desk       desk
	far        *far
	old        *oldDoor
	young      *newDoor
	turns      chan struct{} // taken by the requests under way
	noise      atomic.Int32  // complaints about what the server says
	deliveries atomic.Int32

	ctx  context.Context
	stop context.CancelFunc

	mu     sync.Mutex
	closed bool
	work   sync.WaitGroup
	posts  sync.WaitGroup // of messages that have no answer
}

// door is who serves the messages of one generation of clients.
type door interface {
	// serve has a request answered. It returns when nothing is to be done for it any
	// more.
	serve(c *call)
	// cancel gives up a request that was taken out already; m is what the client
	// said.
	cancel(c *call, m *envelope.Message)
	// notify passes a notification on. It returns at once, and is called in order.
	notify(m *envelope.Message)
	// close ends everything, while ctx lasts.
	close(ctx context.Context)
}

func newBridge(c *Config) *bridge {
	b := &bridge{config: c, log: c.Log, turns: make(chan struct{}, c.MaxCalls),
		desk: desk{calls: map[string]*call{}, quiet: make(chan struct{})}}
	b.ctx, b.stop = context.WithCancel(context.Background())
	b.far = newFar(b)
	b.old, b.young = newOldDoor(b), &newDoor{b: b}
	return b
}

const (
	// byeTime is how long the end of a session may take, and endTime how long what is
	// under way may take to notice.
	byeTime = 2 * time.Second
	endTime = time.Second
)

func (b *bridge) run(ctx context.Context) error {
	b.out = newPrinter(b.config.Out)
	b.config.Voice.attach(b.out.print, b.log)
	defer b.config.Voice.detach()
	ended := make(chan struct{})
	go b.read(ended) // it may stay in a Read for ever
	select {
	case <-ended:
		b.finishCalls(ctx)
	case <-ctx.Done():
	case <-b.out.done:
	}
	return b.end()
}

// finishCalls lets what is under way finish, for a while. Subscriptions end at once.
func (b *bridge) finishCalls(ctx context.Context) {
	limit := time.NewTimer(b.config.Grace)
	defer limit.Stop()
	told := make(chan struct{})
	go func() {
		b.posts.Wait()
		close(told)
	}()
	for {
		list, quiet := b.desk.all()
		for _, c := range list {
			if c.isListen() {
				c.finish(responseLine(c.id, "result", []byte(`{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":`+string(c.id)+`}}`)))
			}
		}
		if list == nil && told == nil {
			return
		}
		select {
		case <-quiet: // for ever where there is none
		case <-told:
			told = nil
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		case <-b.out.done:
			return
		}
	}
}

// end answers what is still under way, ends the session, and lets nothing behind.
func (b *bridge) end() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	unread := time.AfterFunc(endTime, b.out.shut) // by a client that does not read
	list, _ := b.desk.all()
	for _, c := range list {
		c.fail(http.StatusServiceUnavailable, "the bridge to the MCP server is ending; the call was given up and may have been carried out")
	}
	unread.Stop()
	b.stop()
	ctx, cancel := context.WithTimeout(context.Background(), byeTime)
	defer cancel()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		b.old.close(ctx)
		b.young.close(ctx)
		b.far.close()
		b.work.Wait()
	}()
	select {
	case <-gone:
	case <-time.After(byeTime + endTime):
		b.log.Warn("something is still under way at the end")
	}
	return b.out.close(endTime)
}

// spawn runs f in the background unless the end has come.
func (b *bridge) spawn(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.work.Go(f)
	return true
}

// read takes the client's messages until they end.
func (b *bridge) read(ended chan<- struct{}) {
	defer close(ended)
	lines := stdio.NewLines(b.config.In, b.config.MaxMessage)
	for {
		line, skipped, err := lines.Next()
		switch {
		case err != nil:
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) && b.ctx.Err() == nil {
				b.log.Warn("input not read", "error", err)
			}
			return
		case b.ctx.Err() != nil:
			return
		case skipped > 0:
			b.tooLong(skipped, lines)
		default:
			if line = bytes.TrimSpace(line); len(line) > 0 {
				b.take(bytes.Clone(line))
			}
		}
	}
}

// tooLong answers a request that is over the limit, where it shows which it is.
func (b *bridge) tooLong(size int64, lines *stdio.Lines) {
	b.log.Warn("message of the client skipped: too long", "bytes", size, "limit", b.config.MaxMessage)
	head, tail := lines.Ends()
	b.unreadable(head, tail, codeInvalidRequest, "the request is longer than this bridge takes")
}

// unreadable answers a line that cannot be taken, where its ends show that it is a
// request, and which.
func (b *bridge) unreadable(head, tail []byte, code int, why string) {
	id, response := envelope.Glimpse(head, tail)
	if id == nil || response || !utf8.Valid(id) || !id.IsValid(jsontext.AllowInvalidUTF8(true)) || b.desk.find(envelope.Key(id)) != nil {
		return
	}
	b.out.print(errorLine(bytes.Clone(id), code, why))
}

// glimpse is how much of the end of a line is looked at for an id.
const glimpse = 512

// take takes one message, or a batch of them as clients of 2025-03-26 may send.
func (b *bridge) take(line []byte) {
	if line[0] == '[' {
		parts, err := envelope.Split(line)
		if err != nil {
			b.log.Warn("line of the client skipped: no message", "error", err)
			return
		}
		for _, part := range parts {
			b.takeOne(part)
		}
		return
	}
	b.takeOne(line)
}

func (b *bridge) takeOne(line []byte) {
	m, err := envelope.Read(line)
	if err == nil {
		_, err = oneLine(line)
	}
	if err != nil {
		b.log.Warn("line of the client skipped: no message", "error", err)
		b.unreadable(line, line[max(0, len(line)-glimpse):], codeParse, "the request is not valid JSON-RPC in UTF-8")
		return
	}
	switch {
	case m.Kind == envelope.Request:
		b.request(m)
	case m.Kind == envelope.Response:
		b.old.respond(m)
	case m.Method == "notifications/cancelled":
		b.cancelled(m)
	default:
		b.doorOf(m).notify(m)
	}
}

// doorOf says who serves a message.
func (b *bridge) doorOf(m *envelope.Message) door {
	if isModern(m) || m.Kind == envelope.Notification && !b.old.isOpen() && b.young.isOpen() {
		return b.young
	}
	return b.old
}

// request has a request served.
func (b *bridge) request(m *envelope.Message) {
	c := b.newCall(m)
	if why := b.desk.enter(c); why != "" {
		c.cut()
		b.out.print(errorLine(c.id, codeInvalidRequest, why))
		return
	}
	if m.LogLevel {
		b.config.Voice.begin(c.key, levelOf(m.Raw))
	}
	if m.Method == "logging/setLevel" {
		b.config.Voice.setLevel(m.Level)
	}
	d := b.doorOf(m)
	before := b.old.order(c)
	ok := b.spawn(func() {
		defer c.cut()
		if !c.isModern() && !wait(c, before) || !c.takeTurn() {
			return
		}
		d.serve(c)
		if !c.over() && b.ctx.Err() == nil {
			c.fail(codeInternal, "the call ended without an answer")
		}
	})
	if !ok {
		c.fail(http.StatusServiceUnavailable, "the bridge is ending")
		c.cut()
	}
}

// wait waits for what has to come before a call; false when it is over before that.
func wait(c *call, before <-chan struct{}) bool {
	select {
	case <-before:
		return true
	case <-c.ctx.Done():
	case <-c.done:
	}
	return false
}

// cancelled takes the client's word that it does not wait for an answer any more.
func (b *bridge) cancelled(m *envelope.Message) {
	c := b.desk.find(envelope.Key(m.At(m.RequestID)))
	if c == nil || c.m.Method == "initialize" { // it is over, or must not be cancelled
		return
	}
	if c.cancel() {
		b.doorOf(c.m).cancel(c, m)
	}
}

// greeted takes note of what the client was told by the answer to initialize.
func (b *bridge) greeted(line []byte) {
	var said struct {
		Result struct {
			Capabilities struct {
				Logging jsontext.Value `json:"logging"`
			} `json:"capabilities"`
		} `json:"result"`
	}
	err := json.Unmarshal(line, &said, lenient)
	b.config.Voice.greeted(err == nil && said.Result.Capabilities.Logging.Kind() == '{')
}

// levelOf is the log level that a request of 2026-07-28 asks for.
func levelOf(raw []byte) string {
	var said struct {
		Params struct {
			Meta struct {
				Level string `json:"io.modelcontextprotocol/logLevel"`
			} `json:"_meta"`
		} `json:"params"`
	}
	_ = json.Unmarshal(raw, &said, lenient) // what cannot be read is no level
	return said.Params.Meta.Level
}

// maxNoise is how often the log hears of what a server says that is no message.
const maxNoise = 50

// complain logs what was wrong with a message of the server.
func (b *bridge) complain(text string, args ...any) {
	switch n := b.noise.Add(1); {
	case n < maxNoise:
		b.log.Warn(text, args...)
	case n == maxNoise:
		b.log.Warn("further complaints about the MCP server are left out")
	}
}

// pass hands a message of the server to the client as it is.
func (b *bridge) pass(raw []byte) {
	line, err := oneLine(raw)
	if err != nil {
		b.complain("message of the MCP server skipped", "error", err)
		return
	}
	b.out.print(line)
}
