package era

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/remote"
)

// farCall is one request on its way in a session. It outlives the client's request
// when the server has a question: the client's retry goes on with it.
type farCall struct {
	m      *Modern
	id     string // which the server knows it by, also as progress token
	number uint64
	method string
	params object
	digest [sha256.Size]byte
	w      wrapping // of the first request
	wake   chan struct{}
	cancel context.CancelFunc // stops waiting for the server

	mu       sync.Mutex
	session  *farSession
	level    int       // of log messages that are wanted, 0: none
	news     []*packet // not yet passed on
	size     int       // of the news and questions, in bytes
	asks     []*question
	asked    int // counts the questions
	round    int // how often the client was told to come back
	final    []byte
	finished bool
	given    *time.Timer // ends a call whose client does not come back
}

// question is a request of the server that waits for an answer.
type question struct {
	name   string // in inputRequests
	key    string // of the server's id
	id     jsontext.Value
	method string
	params jsontext.Value
	answer func(line []byte)
}

const (
	// maxQuestions is how many questions of one call may be open at once.
	maxQuestions = 16
	// maxNews is how many messages about a call are kept while its client is away.
	maxNews = 256
	// maxKept is how many bytes of news and questions are kept.
	maxKept = 1 << 20
	// maxReturns is how often a broken stream is come back to.
	maxReturns = 10
)

func (m *Modern) newCall(p *packet, w wrapping, params object) *farCall {
	id := string(m.nextID())
	number, _ := strconv.ParseUint(id, 10, 64)
	return &farCall{m: m, id: id, number: number, method: p.method, params: withToken(params, jsontext.Value(id)),
		digest: same(p.method, params), w: w, level: levels[w.level], wake: make(chan struct{}, 1)}
}

// run sends the call and hears what comes of it. A session that the server has
// forgotten has not had the call, so that it may be sent once more.
func (c *farCall) run(ctx context.Context, s *farSession) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.cancel = cancel
	stopped := c.finished
	c.mu.Unlock()
	if stopped {
		return
	}
	for again := false; ; again = true {
		lost, err := c.exchange(ctx, s)
		if lost && !again {
			s.lostBy(c)
			if s, err = c.m.session(ctx, c.w); err == nil {
				continue
			}
		}
		if err != nil {
			c.fail(asFailure(err))
		}
		return
	}
}

// lostBy is lost, said by a call that goes on.
func (s *farSession) lostBy(c *farCall) {
	s.leave(c)
	s.lost()
}

// exchange is one attempt. lost says that the server knows no such session.
func (c *farCall) exchange(ctx context.Context, s *farSession) (lost bool, err error) {
	c.mu.Lock()
	c.session = s
	c.mu.Unlock()
	if !s.enter(c) {
		return true, errOver
	}
	a, err := c.m.server.Post(ctx, s.header(ctx), requestLine(jsontext.Value(c.id), c.method, c.body()))
	if err != nil {
		return false, unreachable(err)
	}
	if a.Status == http.StatusNotFound && s.id != "" {
		a.Close()
		return true, &failure{code: http.StatusBadGateway, text: "the MCP server forgot the session"}
	}
	if a.Status != http.StatusOK {
		f := refusal(a)
		if a.Status == http.StatusBadRequest && s.id != "" && (f.code == codeOwn || f.code == codeInvalidRequest) {
			return true, f // many servers of the TypeScript SDK say so that they know no such session
		}
		if f.code == http.StatusBadGateway && a.Status == http.StatusBadRequest && !standard(c.method) {
			// So do servers say that they do not know it, the go-sdk's among them.
			f = &failure{code: codeNoMethod, text: "the MCP server does not know this method"}
		}
		return false, f
	}
	err = a.Each(func(line []byte) bool { s.hear(ctx, line, c); return !c.over() })
	for range maxReturns {
		if c.over() || ctx.Err() != nil || a.LastID == "" {
			break
		}
		if !remote.Pause(ctx, max(a.Retry, time.Millisecond)) {
			break
		}
		h := s.header(ctx)
		h.Set("Accept", "text/event-stream")
		h.Set("Last-Event-Id", a.LastID)
		next, e := c.m.server.Send(ctx, http.MethodGet, h, nil)
		if err = e; err != nil {
			a.Retry = max(remote.MinPause, min(2*a.Retry, remote.MaxPause))
			continue
		}
		if next.Status != http.StatusOK || !next.IsStream() {
			next.Close()
			break
		}
		next.LastID, next.Retry = a.LastID, a.Retry
		a = next
		err = a.Each(func(line []byte) bool { s.hear(ctx, line, c); return !c.over() })
	}
	if !c.over() {
		return false, &unreached{failure{code: http.StatusBadGateway, text: "the MCP server broke off before it answered"}, orEnd(err)}
	}
	return false, nil
}

var errOver = &failure{code: http.StatusBadGateway, text: "the session with the MCP server has ended; repeat the call if that is safe"}

var errEnded = errorString("the stream ended")

type errorString string

func (e errorString) Error() string { return string(e) }

func orEnd(err error) error {
	if err == nil {
		return errEnded
	}
	return err
}

// body is params, nil when there are none: some servers want no empty object.
func (c *farCall) body() jsontext.Value {
	if len(c.params) == 0 {
		return nil
	}
	return c.params.bytes()
}

func (c *farCall) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *farCall) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.finished
}

func (c *farCall) wantsLog() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.level > 0
}

// add keeps a notification for the client.
func (c *farCall) add(p *packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if size := c.size + len(p.params); len(c.news) < maxNews && size <= maxKept {
		c.news, c.size = append(c.news, p), size
	}
	c.signal()
}

// finish takes the answer: it is kept for the client's request, under whichever id
// that has then.
func (c *farCall) finish(p *packet) {
	if p.failed != nil {
		c.settle(p.failed, nil)
	} else {
		c.settle(nil, p.result)
	}
}

// fail ends the call with an error of Stile's.
func (c *farCall) fail(f *failure) { c.settle(lenient(f.line(nil)).get("error"), nil) }

// settle is the end of the call: one of an error and a result.
func (c *farCall) settle(failed, result jsontext.Value) {
	c.mu.Lock()
	s := c.session
	if c.finished {
		c.mu.Unlock()
		return
	}
	c.finished, c.asks = true, nil
	if failed != nil {
		c.final = object{}.with("error", failed).bytes()
	} else {
		c.final = object{}.with("result", result).bytes()
	}
	c.signal()
	c.mu.Unlock()
	if s != nil {
		s.leave(c)
	}
}

// mayBeAsked reports whether a request of the server can become a question to this
// call's client.
func (c *farCall) mayBeAsked(p *packet) bool {
	return mayAsk(c.method) && capability(c.w.capabilities, p.method, p.params)
}

// ask keeps a question for the client; false when there are too many.
func (c *farCall) ask(p *packet, answer func([]byte)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := c.size + len(p.params)
	if c.finished || len(c.asks) >= maxQuestions || size > maxKept {
		return false
	}
	c.size = size
	c.asked++
	c.asks = append(c.asks, &question{name: "q" + strconv.Itoa(c.asked), key: p.key(), id: p.id, method: p.method, params: p.params, answer: answer})
	c.signal()
	return true
}

// withdraw takes a question back.
func (c *farCall) withdraw(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, q := range c.asks {
		if q.key == key {
			c.size -= len(q.params)
			c.asks = append(c.asks[:i:i], c.asks[i+1:]...)
			return
		}
	}
}

// abort gives the call up: its client is gone. The server is told (2025-11-25
// basic/utilities/cancellation).
func (c *farCall) abort(ctx context.Context, why string) {
	c.mu.Lock()
	s, cancel, finished := c.session, c.cancel, c.finished
	c.finished = true
	asks := c.asks
	c.asks = nil
	c.mu.Unlock()
	switch {
	case finished:
		return
	case s == nil:
		if cancel != nil {
			cancel()
		}
		return
	}
	s.leave(c)
	for _, q := range asks {
		q.answer((&failure{code: codeInternal, text: why}).line(q.id))
	}
	params := object{}.with("requestId", []byte(c.id)).with("reason", quote(why))
	c.m.desk.do(ctx, func(ctx context.Context) {
		_ = s.tell(ctx, notificationLine("notifications/cancelled", params.bytes()))
		if cancel != nil {
			cancel()
		}
	})
}
