package era

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/remote"
	"github.com/stile-mcp/stile/message"
)

// farSession is one session with a server of the 2025 revisions.
type farSession struct {
	m   *Modern
	key string
	w   wrapping // whom the server thinks it talks to
	ctx context.Context
	cut context.CancelFunc

	// ready is closed when the session has begun, or could not; the rest of this
	// group is set before.
	ready        chan struct{}
	err          error
	id           string
	version      string
	offers       object // the server's capabilities
	server       jsontext.Value
	instructions jsontext.Value
	begun        time.Time

	opened chan struct{} // closed once the server can speak unasked, or will not

	levels sync.Mutex // held while the log level is changed
	level  int

	watching  sync.Mutex // held while subscriptions are changed
	forgotten atomic.Bool

	mu        sync.Mutex
	over      bool
	calls     map[string]*farCall // by the id that the server knows
	listeners map[*listener]struct{}
	watched   map[string]int // listeners of a resource
}

// streamTime is how long the server may take to open the stream on which it speaks
// unasked, before calls that may need it begin without it.
const streamTime = time.Second

func newFarSession(m *Modern, key string, w wrapping) *farSession {
	s := &farSession{m: m, key: key, w: w, ready: make(chan struct{}), opened: make(chan struct{}), calls: map[string]*farCall{},
		listeners: map[*listener]struct{}{}, watched: map[string]int{}}
	s.ctx, s.cut = context.WithCancel(context.Background())
	return s
}

// run begins the session and hears what the server says unasked, until the end.
func (s *farSession) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if s.err = s.greet(ctx); s.err != nil {
		s.m.drop(s)
		s.cut()
		close(s.ready)
		return
	}
	s.begun = time.Now()
	close(s.ready)
	s.overhear(ctx)
	<-s.ctx.Done()
	s.farewell(ctx)
}

// awaitStream waits until the stream is open on which the server speaks unasked, or has
// had its time: what is said on it before is lost.
func (s *farSession) awaitStream(ctx context.Context) {
	left := time.Until(s.begun.Add(streamTime))
	if left <= 0 {
		return
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-s.opened:
	case <-t.C:
	case <-ctx.Done():
	}
}

// greet is the handshake (2025-11-25 basic/lifecycle).
func (s *farSession) greet(ctx context.Context) error {
	client := s.w.client
	if client == nil {
		client = jsontext.Value(`{"name":"unknown","version":"0"}`)
	}
	params := object{}.with("protocolVersion", quote(Latest2025)).with("capabilities", s.w.capabilities).with("clientInfo", client)
	answer, reply, err := s.m.server.ask(ctx, header(ctx), requestLine(jsontext.Value(`"stile-initialize"`), "initialize", params.bytes()))
	if err != nil {
		return unreachable(err)
	}
	if answer.failed != nil {
		return &failure{code: codeOf(answer.failed), text: "the MCP server refused the session: " + lenient(answer.failed).text("message")}
	}
	said := lenient(answer.result)
	s.id, s.version, s.offers = reply.Header.Get(headerSession), said.text("protocolVersion"), lenient(said.get("capabilities"))
	s.server, s.instructions = said.get("serverInfo"), said.get("instructions")
	if !message.IsLegacy(s.version) {
		return &failure{code: codeInternal, text: "the MCP server speaks no revision that is known here"}
	}
	return s.tell(ctx, notificationLine("notifications/initialized", nil))
}

// unreachable is an upstream that could not be asked, in words for a client.
func unreachable(err error) error {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return &unreached{failure{code: http.StatusBadGateway, text: "the MCP server cannot be reached"}, err}
}

// unreached is a failure with a cause for the log.
type unreached struct {
	failure
	cause error
}

func (e *unreached) Error() string { return e.text + ": " + e.cause.Error() }

// As lets the failure be found.
func (e *unreached) As(target any) bool {
	if f, ok := target.(**failure); ok {
		*f = &e.failure
		return true
	}
	return false
}

// header is that of a request within the session.
func (s *farSession) header(ctx context.Context) http.Header {
	h := header(ctx)
	if s.id != "" {
		h.Set(headerSession, s.id)
	}
	if s.version != "" {
		h.Set(headerVersion, s.version)
	}
	return h
}

// tell sends a notification or an answer.
func (s *farSession) tell(ctx context.Context, line []byte) error {
	a, err := s.m.server.Post(ctx, s.header(ctx), line)
	if err != nil {
		return unreachable(err)
	}
	defer a.Close()
	if a.Status >= 300 {
		return fmt.Errorf("a message was answered with status %d", a.Status)
	}
	return nil
}

// overhear hears the stream on which the server speaks unasked, and opens it again
// when it breaks off.
func (s *farSession) overhear(ctx context.Context) {
	lastID, wait := "", remote.MinPause
	once := sync.OnceFunc(func() { close(s.opened) })
	defer once()
	for ctx.Err() == nil {
		h := s.header(ctx)
		h.Set("Accept", "text/event-stream")
		if lastID != "" {
			h.Set("Last-Event-Id", lastID)
		}
		a, err := s.m.server.Send(ctx, http.MethodGet, h, nil)
		switch {
		case err != nil:
		case a.Status == http.StatusNotFound && s.id != "":
			a.Close()
			s.lost()
			return
		case a.Status != http.StatusOK || !a.IsStream():
			a.Close()
			if a.Status >= 400 && a.Status < 500 && lastID == "" {
				return // it has none
			}
			lastID = ""
		default:
			once()
			started := time.Now()
			_ = a.Each(func(line []byte) bool { s.hear(ctx, line, nil); return true })
			if a.LastID != "" {
				lastID = a.LastID
			}
			if wait = max(remote.MinPause, a.Retry); time.Since(started) < wait {
				wait = min(2*wait, remote.MaxPause)
			}
		}
		if !remote.Pause(ctx, wait) {
			return
		}
	}
}

// lost says that the server has forgotten the session.
func (s *farSession) lost() {
	s.forgotten.Store(true)
	s.m.drop(s)
	s.end()
}

// end ends the session: its calls and listeners hear of it, and no other begins.
func (s *farSession) end() {
	s.mu.Lock()
	over := s.over
	s.over = true
	calls, listeners := s.calls, s.listeners
	s.calls, s.listeners = nil, nil
	s.mu.Unlock()
	if over {
		return
	}
	for _, c := range calls {
		c.fail(errOver)
	}
	for l := range listeners {
		l.finish()
	}
	s.cut()
}

// farewell tells the server, which may forget the session then.
func (s *farSession) farewell(ctx context.Context) {
	if s.id == "" || s.forgotten.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), streamTime)
	defer cancel()
	if a, err := s.m.server.Send(ctx, http.MethodDelete, s.header(ctx), nil); err == nil {
		a.Close()
	}
}

// quiet reports whether nothing is under way, so that the session may be ended.
func (s *farSession) quiet() bool {
	select {
	case <-s.ready:
	default:
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls) == 0 && len(s.listeners) == 0
}

// enter lets the session know a call; false when it is over.
func (s *farSession) enter(c *farCall) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.calls[c.id] = c
	return true
}

func (s *farSession) leave(c *farCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[c.id] == c {
		delete(s.calls, c.id)
	}
}

// lowerLevel sees to it that messages of a level are sent. The level is the whole
// session's, so it only ever sinks; each call takes what it asked for. A server that
// does not know the method sends what it likes.
func (s *farSession) lowerLevel(ctx context.Context, name string) {
	if s.offers.get("logging") == nil {
		return
	}
	s.levels.Lock()
	defer s.levels.Unlock()
	if level := levels[name]; s.level == 0 || level < s.level {
		params := object{}.with("level", quote(name))
		if s.ask(ctx, "logging/setLevel", params.bytes()) == nil {
			s.level = level
		}
	}
}

// ask sends a request of Stile's own, whose result says nothing.
func (s *farSession) ask(ctx context.Context, method string, params jsontext.Value) error {
	answer, _, err := s.m.server.ask(ctx, s.header(ctx), requestLine(s.m.nextID(), method, params))
	if err == nil && answer.failed != nil {
		err = &failure{code: codeOf(answer.failed), text: lenient(answer.failed).text("message")}
	}
	return err
}

// nextID is an id that no other request of this Modern has.
func (m *Modern) nextID() jsontext.Value {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last++
	return strconv.AppendUint(nil, m.last, 10)
}
