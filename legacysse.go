package stile

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/internal/relay"
	"github.com/stile-mcp/stile/internal/sse"
	"github.com/stile-mcp/stile/message"
)

// The legacy transport (2024-11-05 "HTTP with SSE") beside an endpoint, where
// Server.LegacySSE asks for it: a GET of path/sse opens an event stream, whose first
// event names path/messages?sessionId=ID, and each message is a POST to that. Every
// GET and POST takes the same way as one of the endpoint itself, and what the
// upstream answers to a POST is sent on the stream.

const (
	legacyStreamSuffix  = "/sse"
	legacyMessageSuffix = "/messages"
	legacyParameter     = "sessionId"
	// legacyCalls is how many messages of one stream may be under way.
	legacyCalls = 64
	// legacyHold is how long a POST waits for the upstream's first word, so that a
	// refusal can still be its status; then it is answered with 202. Clients may
	// send one message after the other, the answer to a question among them.
	legacyHold = 500 * time.Millisecond
	// legacyEndTime bounds the DELETE of the session when its stream has ended.
	legacyEndTime = 5 * time.Second
)

// legacyRoute is one of the two paths beside an endpoint.
type legacyRoute struct {
	s        *endpoint
	messages bool
}

// method is the one method of the path.
func (l legacyRoute) method() string {
	if l.messages {
		return http.MethodPost
	}
	return http.MethodGet
}

// addLegacy makes the two paths of a server.
func (g *Gateway) addLegacy(s *endpoint, at string, mistakes *problem.List) {
	base := strings.TrimSuffix(s.path, "/")
	for _, path := range []string{base + legacyStreamSuffix, base + legacyMessageSuffix} {
		if _, taken := g.legacy[path]; taken {
			mistakes.Add(at+".legacy_sse", "true", "false, or another path: "+path+" is taken already")
		}
		g.legacy[path] = legacyRoute{s, path == base+legacyMessageSuffix}
	}
}

// checkLegacy wants the paths of the legacy transport to be no endpoint's.
func (g *Gateway) checkLegacy(mistakes *problem.List) {
	for path, route := range g.legacy {
		if g.endpoints[path] != nil {
			mistakes.Add("servers", path, "a path that is not one of the legacy transport of server "+route.s.name)
		}
	}
}

// serveLegacy answers a request to one of the paths and reports whether it was.
func (g *Gateway) serveLegacy(w http.ResponseWriter, r *http.Request) bool {
	route, ok := g.legacy[r.URL.Path]
	if !ok {
		return false
	}
	if route.messages {
		g.takeLegacy(w, r, route)
		return true
	}
	x := &exchange{g: g, s: route.s, w: w, r: r, requestID: g.ids.next()}
	defer x.recoverPanic()
	err := x.identifyLegacy(route)
	if err == nil {
		err = x.authorize()
	}
	if err == nil {
		err = x.record()
	}
	if err == nil {
		err = x.listenLegacy()
	}
	if err != nil {
		x.refuse(err)
	}
	return true
}

// identifyLegacy is the first half of Gateway.run, for a path with one method.
func (x *exchange) identifyLegacy(route legacyRoute) error {
	if err := x.admit(); err != nil {
		return err
	}
	if err := x.authenticate(); err != nil {
		return err
	}
	if m := x.r.Method; m != route.method() && m != http.MethodHead {
		return &formError{status: http.StatusMethodNotAllowed, text: "not a method of the legacy transport here", allow: route.method() + ", OPTIONS"}
	}
	return x.readMessage()
}

// legacyStreams are the event streams that are open, by the id in their URL.
type legacyStreams struct {
	mu  sync.Mutex
	all map[string]*legacyStream
}

func (l *legacyStreams) add(st *legacyStream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[string]*legacyStream{}
	}
	l.all[st.id] = st
}

func (l *legacyStreams) remove(st *legacyStream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, st.id)
}

func (l *legacyStreams) find(id string) *legacyStream {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[id]
}

// legacyStream is one event stream and the session on it.
type legacyStream struct {
	id       string
	sealed   string // id as the client knows it, bound to its owner
	g        *Gateway
	s        *endpoint
	identity *authenticate.Identity // that opened it; it ends with the token (DES-43)
	decision authorize.Decision
	ctx      context.Context
	out      *relay.Writer
	running  sync.WaitGroup // messages under way, and the upstream's own stream

	mu       sync.Mutex
	session  string // the sealed session id, once there is one
	calls    int
	draining bool
	over     bool
	standing bool // the upstream's own stream was opened
}

// listenLegacy opens an event stream, and ends everything on it when it ends.
func (x *exchange) listenLegacy() error {
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	st := &legacyStream{id: rand.Text(), g: x.g, s: x.s, identity: x.identity, decision: x.decision, ctx: ctx}
	var err error
	if st.sealed, err = x.g.sessions.Seal(legacyEndpoint(x.s), x.owner(), st.id); err != nil {
		return err
	}
	leave, err := x.enterStream()
	if err != nil {
		return err
	}
	defer leave()
	options := relay.Options{Stream: true, Expire: x.streamEnd(), KeepAlive: x.g.config.KeepAlive, Cancel: cancel,
		Header: func(_ int, h http.Header) error {
			h.Set(requestIDHeader, x.requestID)
			return nil
		}}
	st.out = relay.New(x.w, options)
	defer context.AfterFunc(x.g.draining, st.drain)()
	defer x.watchToken(func() { st.out.End(nil) })()
	x.g.streams.add(st)
	defer st.end()
	defer x.g.streams.remove(st)
	return st.out.Serve(st, x.r.WithContext(ctx))
}

// legacyEndpoint names the ids of legacy streams apart from session ids: no name of
// a server has a slash.
func legacyEndpoint(s *endpoint) string { return s.name + legacyStreamSuffix }

// ServeHTTP is the stream: it names the URL for messages and waits for the end.
func (st *legacyStream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	to := strings.TrimSuffix(st.s.path, "/") + legacyMessageSuffix + "?" + legacyParameter + "=" + url.QueryEscape(st.sealed)
	if _, err := w.Write(sse.Format("", "endpoint", []byte(to))); err == nil && st.g.draining.Err() == nil {
		<-r.Context().Done()
	}
}

// send sends a message on the stream. It waits for a client that is slow.
func (st *legacyStream) send(msg []byte) {
	_, _ = st.out.Write(sse.Format("", "message", msg)) // a client that is gone misses nothing
}

// enter counts a message in.
func (st *legacyStream) enter() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.over || st.draining:
		return &sessionError{errorString("the event stream has ended")}
	case st.calls >= legacyCalls:
		return &formError{status: http.StatusTooManyRequests, text: "too many calls of this event stream are under way"}
	}
	st.calls++
	st.running.Add(1)
	return nil
}

func (st *legacyStream) leave() {
	st.mu.Lock()
	st.calls--
	last := st.draining && st.calls == 0
	st.mu.Unlock()
	st.running.Done()
	if last {
		st.out.End(nil)
	}
}

// drain ends the stream as soon as no call is under way.
func (st *legacyStream) drain() {
	st.mu.Lock()
	st.draining = true
	idle := st.calls == 0
	st.mu.Unlock()
	if idle {
		st.out.End(nil)
	}
}

// end ends the session when the stream has ended. It returns when nothing of it is
// left.
func (st *legacyStream) end() {
	st.mu.Lock()
	st.over = true
	session := st.session
	st.mu.Unlock()
	st.running.Wait() // all of it has st.ctx
	if session == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), legacyEndTime)
	defer cancel()
	if x := st.inner(ctx, http.MethodDelete, message.Close, newLegacySink(nil)); x != nil {
		_ = x.forward() // it ends by itself if it cannot be told
	}
}

// known remembers the session that initialize began.
func (st *legacyStream) known(session string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.session == "" {
		st.session = session
	}
}

// upstreamSession opens the sealed id of the session.
func (st *legacyStream) upstreamSession(x *exchange) error {
	st.mu.Lock()
	id := st.session
	st.mu.Unlock()
	if id == "" {
		return nil
	}
	upstream, err := x.g.sessions.Open(id, x.s.name, x.owner())
	if err != nil {
		return &sessionError{err}
	}
	x.session, x.upstream = id, upstream
	return nil
}

// inner is a request of the gateway's own on the session, under the identity that
// opened the stream; nil when the session is no more.
func (st *legacyStream) inner(ctx context.Context, method string, kind message.Kind, w *legacySink) *exchange {
	r, err := http.NewRequestWithContext(ctx, method, st.s.path, http.NoBody)
	if err != nil {
		return nil
	}
	r.Header.Set("Accept", "text/event-stream")
	x := &exchange{g: st.g, s: st.s, w: w, r: r, requestID: st.g.ids.next(), identity: st.identity,
		decision: st.decision, call: &message.Call{Kind: kind, Era: message.Era2025}}
	if st.upstreamSession(x) != nil {
		return nil
	}
	w.x, w.stream = x, st
	return x
}

// stand opens the upstream's own stream, once, and again when it was lost.
func (st *legacyStream) stand() {
	st.mu.Lock()
	again := st.standing || st.over
	st.standing = true
	if !again {
		st.running.Add(1)
	}
	st.mu.Unlock()
	if again {
		return
	}
	go func() {
		defer st.running.Done()
		last := ""
		for pause := time.Second; ; pause = min(2*pause, time.Minute) {
			w := newLegacySink(nil)
			x := st.inner(st.ctx, http.MethodGet, message.Stream, w)
			if x == nil {
				return
			}
			if last != "" {
				x.r.Header.Set(lastEventHeader, last)
				_ = x.openEvent() // an id that has expired resumes nothing
			}
			w.guard(func() { _ = x.forward() })
			if w.last != "" {
				last = w.last
			}
			if w.status != http.StatusOK || st.g.draining.Err() != nil || !sleep(st.ctx, pause) {
				return
			}
		}
	}()
}

// sleep waits, and reports whether ctx is still alive then.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
