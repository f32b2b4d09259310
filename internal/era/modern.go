package era

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/remote"
	"github.com/stile-mcp/stile/session"
)

// Defaults of Options.
const (
	DefaultAskTime     = 10 * time.Minute
	DefaultMaxAsking   = 16
	DefaultMaxSessions = 8
)

// Options are what a Modern or a Legacy is made of.
type Options struct {
	// Name is what the log calls the server.
	Name string
	// Upstream reaches the server. Where a request goes is its own business: URLs
	// are not to be looked at. Required.
	Upstream http.RoundTripper
	// Owner is whom all that is done here is done for.
	Owner session.Owner
	// Emit takes each message for the client. about is the envelope.Key of the id of
	// the client's request that it relates to, empty when there is none; also for
	// the answer. It is called by several goroutines, one message of a request after
	// the other. Required.
	Emit func(line []byte, about string)
	// AskTime is how long a call waits for what its client was asked for. Default
	// 10 min.
	AskTime time.Duration
	// MaxAsking is how many calls may wait so at once. Default 16.
	MaxAsking int
	// MaxSessions is how many sessions with the server a Modern has at once, one for
	// each set of capabilities and name of a client. Default 8.
	MaxSessions int
	// MaxMessage is the longest message taken from the server, in bytes. Default
	// DefaultMaxMessage.
	MaxMessage int
	// Log receives what goes wrong. Default slog.Default().
	Log *slog.Logger
}

func (o *Options) setDefaults() {
	setDefault(&o.AskTime, DefaultAskTime)
	setDefault(&o.MaxAsking, DefaultMaxAsking)
	setDefault(&o.MaxSessions, DefaultMaxSessions)
	setDefault(&o.MaxMessage, DefaultMaxMessage)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	o.Log = o.Log.With("server", o.Name)
}

func setDefault[T comparable](value *T, to T) {
	var zero T
	if *value == zero {
		*value = to
	}
}

// Modern is a server of 2026-07-28 to its client, and a client to a server of the
// 2025 revisions. It serves one owner. It is safe for concurrent use.
//
// It opens a session with the server for each set of capabilities that requests
// declare, and name of a client, and keeps it for those that follow. What the server
// asks for during a call becomes an input_required result; the call itself goes on,
// and the client's retry, which has to be the same call, finds it again.
type Modern struct {
	o      Options
	server server
	sealer *session.Sealer
	desk   desk

	mu       sync.Mutex
	sessions []*farSession // the most recently used last
	waiting  map[string]*farCall
	last     uint64
}

// NewModern returns a Modern. Nothing is sent before the first message.
func NewModern(o Options) (*Modern, error) {
	o.setDefaults()
	sealer, err := newSealer(o.AskTime)
	if err != nil {
		return nil, err
	}
	m := &Modern{o: o, server: server{remote.Server{Transport: o.Upstream, Max: o.MaxMessage}}, sealer: sealer, waiting: map[string]*farCall{}}
	m.desk.open()
	return m, nil
}

// Receive takes one message of the client and returns at once; line must not be
// changed afterwards. The values of ctx go with what is sent to the server, its end
// does not matter.
func (m *Modern) Receive(ctx context.Context, line []byte) {
	p, err := readPacket(line)
	if err != nil {
		m.o.Log.Warn("message of a client not understood", "error", err)
		return
	}
	switch {
	case p.kind == envelope.Request:
		m.desk.begin(ctx, p, m.o.Emit, m.serve)
	case p.method == "notifications/cancelled":
		m.desk.cancel(envelope.Key(lenient(p.params).get("requestId")))
	case p.kind == envelope.Notification:
		m.desk.do(ctx, func(ctx context.Context) { m.notify(ctx, p) })
	}
}

// Busy reports whether a call waits for its client.
func (m *Modern) Busy() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.waiting) > 0
}

// Close ends what is under way and every session. It returns when all is done.
func (m *Modern) Close() {
	m.desk.close()
	m.mu.Lock()
	all := m.sessions
	m.sessions = nil
	for _, c := range m.waiting {
		c.forgive()
	}
	clear(m.waiting)
	m.mu.Unlock()
	for _, s := range all {
		s.end()
	}
	m.desk.wait()
}

// serve answers one request; nil when nobody waits for the answer any more.
func (m *Modern) serve(ctx context.Context, p *packet) []byte {
	w, params := unwrap(p.params)
	if f := w.check(); f != nil {
		return f.line(p.id)
	}
	var (
		answer []byte
		err    error
	)
	switch {
	case p.method == "server/discover":
		answer, err = m.discover(ctx, p, w)
	case p.method == "subscriptions/listen":
		answer, err = m.listen(ctx, p, w, params)
	case removed(p.method):
		err = &failure{code: codeNoMethod, text: p.method + " is not a method of 2026-07-28"}
	case mayAsk(p.method) && lenient(p.params).get("requestState") != nil:
		answer, err = m.resume(ctx, p, w)
	default:
		answer, err = m.call(ctx, p, w, params)
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		f := asFailure(err)
		if f.code == codeInternal {
			m.o.Log.Warn("call not carried over", "method", p.method, "error", err)
		}
		return f.line(p.id)
	}
	return answer
}

// check holds the wrapping against what every request must have.
func (w wrapping) check() *failure {
	switch {
	case w.version == "":
		return &failure{code: codeInvalidParams, text: "params._meta lacks " + metaVersion}
	case w.version != Modern2026:
		return &failure{code: codeVersion, text: "unsupported protocol version", data: object{}.
			with("supported", []byte(`["`+Modern2026+`"]`)).with("requested", quote(w.version)).bytes()}
	case !isObject(w.capabilities):
		return &failure{code: codeInvalidParams, text: "params._meta lacks " + metaCapabilities}
	case w.level != "" && levels[w.level] == 0:
		return &failure{code: codeInvalidParams, text: metaLevel + " is no log level"}
	}
	return nil
}

// discover says what the server said when the session began.
func (m *Modern) discover(ctx context.Context, p *packet, w wrapping) ([]byte, error) {
	s, err := m.session(ctx, w)
	if err != nil {
		return nil, err
	}
	result := object{}.with("supportedVersions", []byte(`["`+Modern2026+`","`+s.version+`"]`)).
		with("capabilities", s.offers.without("tasks").bytes())
	if s.instructions != nil {
		result = result.with("instructions", s.instructions)
	}
	full, _ := resultToModern(p.method, result.bytes(), s.server)
	return resultLine(p.id, full), nil
}

// call carries a new call over.
func (m *Modern) call(ctx context.Context, p *packet, w wrapping, params object) ([]byte, error) {
	s, err := m.session(ctx, w)
	if err != nil {
		return nil, err
	}
	if w.level != "" {
		s.lowerLevel(ctx, w.level)
	}
	if w.level != "" || mayAsk(p.method) && len(lenient(w.capabilities)) > 0 {
		s.awaitStream(ctx)
	}
	c := m.newCall(p, w, params)
	if !m.desk.do(ctx, func(ctx context.Context) { c.run(ctx, s) }) {
		return nil, errStopping
	}
	return m.follow(ctx, p, w, c)
}

// notify passes a notification on. The core protocol has none on HTTP.
func (m *Modern) notify(ctx context.Context, p *packet) {
	w, params := unwrap(p.params)
	if w.capabilities == nil {
		w.capabilities = jsontext.Value("{}")
	}
	s, err := m.session(ctx, w)
	if err == nil {
		err = s.tell(ctx, notificationLine(p.method, params.bytes()))
	}
	if err != nil {
		m.o.Log.Debug("notification lost", "method", p.method, "error", err)
	}
}

// session is the one for requests with this wrapping, begun if need be.
func (m *Modern) session(ctx context.Context, w wrapping) (*farSession, error) {
	key := sessionKey(w)
	m.mu.Lock()
	var s *farSession
	for i, one := range m.sessions {
		if one.key == key {
			s = one
			m.sessions = append(slices.Delete(m.sessions, i, i+1), s)
			break
		}
	}
	var evicted *farSession
	if s == nil {
		if len(m.sessions) >= m.o.MaxSessions {
			i := slices.IndexFunc(m.sessions, (*farSession).quiet)
			if i < 0 {
				m.mu.Unlock()
				return nil, &failure{code: http.StatusTooManyRequests, text: "too many clients of one caller at once; try again later"}
			}
			evicted = m.sessions[i]
			m.sessions = slices.Delete(m.sessions, i, i+1)
		}
		s = newFarSession(m, key, w)
		m.sessions = append(m.sessions, s)
		if !m.desk.do(ctx, s.run) {
			m.sessions = m.sessions[:len(m.sessions)-1]
			m.mu.Unlock()
			return nil, errStopping
		}
	}
	m.mu.Unlock()
	if evicted != nil {
		evicted.end()
	}
	select {
	case <-s.ready:
		return s, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var errStopping = &failure{code: http.StatusServiceUnavailable, text: "the gateway is stopping"}

// drop takes a session out, so that the next request begins another one.
func (m *Modern) drop(s *farSession) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.sessions, s); i >= 0 {
		m.sessions = slices.Delete(m.sessions, i, i+1)
	}
}

// sessionKey is the same for requests that may share a session.
func sessionKey(w wrapping) string {
	c := slices.Clone(w.capabilities)
	_ = c.Canonicalize()
	i := slices.Clone(w.client)
	if i != nil {
		_ = i.Canonicalize()
	}
	return string(c) + "\n" + string(i)
}
