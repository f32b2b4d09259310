package bridge

import (
	"bytes"
	"context"
	"net/http"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/singleflight"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/era"
)

// oldDoor serves a client of the 2025 revisions: with a session at a server that has
// them, and through era.Legacy at one that speaks 2026-07-28 only.
type oldDoor struct {
	b      *bridge
	renews singleflight.Group

	// first is what has to be done before anything else is sent, and turn before the
	// next notification is. They are the reader's alone.
	first <-chan struct{}
	turn  <-chan struct{}

	mu         sync.Mutex
	open       bool
	translator *era.Legacy // nil: what the client says goes to the server
	session    *session    // nil before there is one
	init       *envelope.Message
	begun      []byte            // notifications/initialized
	level      []byte            // the last logging/setLevel
	watched    map[string][]byte // resources/subscribe, by URI
	asked      map[string]asking // requests that wait for the client, by the key of their id
}

// asking is a request of the server; its session is nil while that has not begun.
type asking struct {
	id      jsontext.Value
	session *session
}

// maxAsked is how many requests of the server may wait for the client, and maxWatched
// how many subscriptions are made again in a new session.
const (
	maxAsked   = 1000
	maxWatched = 1000
)

func newOldDoor(b *bridge) *oldDoor {
	free := make(chan struct{})
	close(free)
	return &oldDoor{b: b, first: free, turn: free, watched: map[string][]byte{}, asked: map[string]asking{}}
}

// isOpen reports whether a client of the 2025 revisions has shown itself.
func (d *oldDoor) isOpen() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

func (d *oldDoor) current() *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.session
}

func (d *oldDoor) translates() *era.Legacy {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.translator
}

// order says what a request waits for: an initialize under way, or the
// notifications/initialized after it. It is called by the reader.
func (d *oldDoor) order(c *call) (before <-chan struct{}) {
	before = d.first
	if c.m.Method == "initialize" && !c.isModern() {
		d.first = c.done
	}
	return before
}

// serve has a request answered.
func (d *oldDoor) serve(c *call) {
	switch t := d.translates(); {
	case t != nil:
		d.b.translated(c, t)
	case c.m.Method == "initialize":
		d.greet(c)
	default:
		d.carry(c)
	}
}

// greet begins a session by the client's own initialize. A server that refuses it,
// and shows that it speaks 2026-07-28 instead, is translated from then on.
func (d *oldDoor) greet(c *call) {
	d.mu.Lock()
	d.open = true
	d.mu.Unlock()
	g, err := d.b.initialize(onWire(c.ctx, c.sent), &d.b.far.server, c.m, &hearing{b: d.b, call: c, asked: func(m *envelope.Message) { d.note(m, nil) }})
	if g.session != nil {
		if old := d.begin(g.session, c.m); old != nil {
			old.cut()
		}
		c.answer(g.answer.Raw)
		return
	}
	if c.ctx.Err() != nil {
		return
	}
	if err == nil && g.mayBeModern() {
		if modern, _ := d.b.far.speaksModern(c.ctx); modern == yes {
			d.b.log.Info("the MCP server speaks 2026-07-28 only; the client is translated")
			d.b.translated(c, d.translate())
			return
		}
	}
	if g.answer != nil {
		c.answer(g.answer.Raw)
		return
	}
	c.refused(g.refused, err)
}

// mayBeModern reports whether a server of 2026-07-28 could have said so.
func (g *greeting) mayBeModern() bool {
	return g.refused == nil || g.refused.status < 500 &&
		g.refused.status != http.StatusUnauthorized && g.refused.status != http.StatusForbidden
}

// translate lets who translates serve the client from now on.
func (d *oldDoor) translate() *era.Legacy {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.translator == nil {
		d.translator = era.NewLegacy(d.b.translation())
	}
	return d.translator
}

// begin takes a session over, and returns the one before it.
func (d *oldDoor) begin(s *session, init *envelope.Message) (old *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old = d.session
	d.session = s
	for key, q := range d.asked {
		if q.session == nil { // it was asked on the way here
			d.asked[key] = asking{q.id, s}
		}
	}
	if init != nil {
		d.init, d.begun, d.level = init, nil, nil
		clear(d.watched)
	}
	return old
}

// carry takes a request to the server, and once more where the server has forgotten
// the session and with it the request.
func (d *oldDoor) carry(c *call) {
	s := d.current()
	for again := false; ; again = true {
		refused, err := d.exchange(c, s)
		if err == nil && refused == nil || c.over() {
			return
		}
		if err != nil || again || !s.lostBy(refused) {
			c.refused(refused, err)
			return
		}
		if s, err = d.renew(c.ctx, s); err != nil {
			c.fail(http.StatusBadGateway, "the MCP server ended the session, and a new one could not be begun: "+plain(err.Error())+"; start the client's connection again")
			return
		}
	}
}

// exchange is one attempt: a refusal, or the request was answered.
func (d *oldDoor) exchange(c *call, s *session) (*refusal, error) {
	a, err := d.b.far.server.Post(onWire(c.ctx, c.sent), s.header(), c.m.Raw)
	if err != nil {
		return nil, err
	}
	if a.Status/100 != 2 {
		return readRefusal(a), nil
	}
	d.hearAnswer(c, s, a, &hearing{b: d.b, call: c, asked: func(m *envelope.Message) { d.note(m, s) },
		answered: func(m *envelope.Message) { d.remember(c, m) }})
	return nil, nil
}

// remember keeps what a session has to be told again when the server forgets it.
func (d *oldDoor) remember(c *call, answer *envelope.Message) {
	if answer.Failed {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch c.m.Method {
	case "logging/setLevel":
		d.level = c.m.Raw
	case "resources/subscribe":
		if len(d.watched) < maxWatched {
			d.watched[c.m.URI] = c.m.Raw
		}
	case "resources/unsubscribe":
		delete(d.watched, c.m.URI)
	}
}

// note remembers who asked the client for something, so that the answer goes there and
// nowhere else.
func (d *oldDoor) note(m *envelope.Message, s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.asked) < maxAsked {
		d.asked[envelope.Key(m.At(m.ID))] = asking{bytes.Clone(m.At(m.ID)), s}
	}
}

// takenBack forgets what the server does not want to know any more.
func (d *oldDoor) takenBack(m *envelope.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.asked, envelope.Key(m.At(m.RequestID)))
}

// respond takes the client's answer to a request of the server back to it.
func (d *oldDoor) respond(m *envelope.Message) {
	if t := d.translates(); t != nil {
		t.Receive(d.b.ctx, m.Raw)
		return
	}
	key := envelope.Key(m.At(m.ID))
	d.mu.Lock()
	q, ok := d.asked[key]
	delete(d.asked, key)
	d.mu.Unlock()
	if !ok {
		d.b.log.Warn("answer of the client skipped: the MCP server does not wait for it")
		return
	}
	first := d.first
	d.b.deliver(func() {
		select {
		case <-first:
		case <-d.b.ctx.Done():
		}
		s := q.session
		if s == nil { // it asked before the session had begun
			s = d.current()
		}
		if refused, err := d.tell(s, m.Raw); err != nil || refused != nil {
			d.b.lost("answer of the client", refused, err)
		}
	})
}

// notify passes a notification on: after those before it, and
// notifications/initialized before anything that follows.
func (d *oldDoor) notify(m *envelope.Message) {
	first, turn, done := d.first, d.turn, make(chan struct{})
	d.turn = done
	if m.Method == "notifications/initialized" {
		d.first = done
	}
	if !d.b.deliver(func() {
		defer close(done)
		for _, before := range []<-chan struct{}{first, turn} {
			select {
			case <-before:
			case <-d.b.ctx.Done():
				return
			}
		}
		d.pass(m)
	}) {
		close(done)
	}
}

func (d *oldDoor) pass(m *envelope.Message) {
	if t := d.translates(); t != nil {
		t.Receive(d.b.ctx, m.Raw)
		return
	}
	s := d.current()
	refused, err := d.tell(s, m.Raw)
	if err == nil && refused != nil && s.lostBy(refused) {
		if s, err = d.renew(d.b.ctx, s); err == nil {
			refused, err = d.tell(s, m.Raw)
		}
	}
	if err != nil || refused != nil {
		d.b.lost("notification "+m.Method, refused, err)
	}
	if m.Method == "notifications/initialized" && s != nil {
		d.mu.Lock()
		again := d.begun != nil
		d.begun = m.Raw
		d.mu.Unlock()
		if !again {
			d.hear(s)
		}
	}
}

// tell sends a message that has no answer.
func (d *oldDoor) tell(s *session, line []byte) (*refusal, error) {
	return d.b.tell(d.b.ctx, s.header(), line)
}

// cancel tells the server that nobody waits for a call any more. One that is not on
// the wire yet is not sent at all.
func (d *oldDoor) cancel(c *call, m *envelope.Message) {
	if t := d.translates(); t != nil {
		t.Receive(d.b.ctx, m.Raw)
		c.cut()
		return
	}
	told := c.wasSent()
	if !told {
		c.cut()
		if !c.wasSent() {
			return
		}
	}
	d.b.deliver(func() {
		defer c.cut()
		if refused, err := d.tell(d.current(), m.Raw); err != nil || refused != nil {
			d.b.lost("notifications/cancelled", refused, err)
		}
	})
}

// close ends the session (2025-11-25 "Session Management").
func (d *oldDoor) close(ctx context.Context) {
	d.mu.Lock()
	s, t := d.session, d.translator
	d.mu.Unlock()
	if t != nil {
		t.Close()
	}
	if s == nil || s.id == "" {
		return
	}
	s.cut()
	a, err := d.b.far.server.Send(ctx, http.MethodDelete, s.header(), nil)
	if err != nil {
		d.b.log.Debug("session not ended", "error", err)
		return
	}
	a.Close()
}
