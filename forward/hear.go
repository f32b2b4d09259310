package forward

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/session"
)

// receive takes one line of a child: it is called by the child's reader, in order.
func (k *child) receive(line []byte) error {
	if line[0] == '[' { // a batch, which servers of 2025-03-26 may send
		parts, err := envelope.Split(line)
		for _, part := range parts {
			if e := k.hear(part); err == nil {
				err = e
			}
		}
		return err
	}
	err := k.hear(line)
	if err != nil {
		k.hearBroken(line)
	}
	return err
}

// hearBroken answers the call whose answer cannot be read, where its id can be.
func (k *child) hearBroken(line []byte) {
	id, response := envelope.Glimpse(line, line[max(0, len(line)-maxGlimpse):])
	if id == nil || !response {
		return
	}
	k.mu.Lock()
	x := k.calls[envelope.Key(id)]
	if x != nil {
		k.remove(x)
	}
	k.mu.Unlock()
	if x != nil {
		x.fail(http.StatusBadGateway, "the MCP server answered with what is no JSON-RPC message")
	}
}

// maxGlimpse is how much of the end of a line is looked at.
const maxGlimpse = 512

// messages are used again for the lines of children.
var messages = sync.Pool{New: func() any { return new(envelope.Message) }}

// hear takes one message of a child to whom it is for. The bytes are the reader's.
func (k *child) hear(line []byte) error {
	m := messages.Get().(*envelope.Message)
	if err := m.Read(line); err != nil {
		return err
	}
	if m.Kind == envelope.Response { // most are, and are copied once, with their id
		k.hearResponse(m)
		m.Raw = nil
		messages.Put(m)
		return nil
	}
	m.Raw = bytes.Clone(line)
	k.take(m)
	return nil
}

// take takes a message to whom it is for; its bytes are not the caller's any more.
func (k *child) take(m *envelope.Message) {
	switch m.Kind {
	case envelope.Response:
		k.hearResponse(m)
	case envelope.Request:
		k.hearRequest(m)
	case envelope.Notification:
		k.hearNotification(m)
	}
}

func (k *child) hearNotification(m *envelope.Message) {
	switch {
	case !k.shared:
		k.only().hear(m)
	case k.key.modern:
		k.hearModern(m)
	default:
		k.hearShared(m)
	}
}

// only is the session of a child that is not shared; nil when it is gone.
func (k *child) only() *clientSession {
	k.mu.Lock()
	defer k.mu.Unlock()
	for s := range k.sessions {
		return s
	}
	return nil
}

// hearTooLong answers the call whose answer was too long to be taken. Where nobody
// can tell which that was, it answers all of them: nobody is left waiting.
func (k *child) hearTooLong(head, tail []byte) {
	id, response := envelope.Glimpse(head, tail)
	if !response {
		return
	}
	k.mu.Lock()
	var calls []*call
	for key, x := range k.calls {
		if id == nil || key == envelope.Key(id) {
			calls = append(calls, x)
			k.remove(x)
		}
	}
	k.mu.Unlock()
	for _, x := range calls {
		x.fail(http.StatusBadGateway, "the answer of the MCP server is longer than this gateway takes")
	}
}

// hearResponse takes an answer to its call. It does not keep the bytes of m.
func (k *child) hearResponse(m *envelope.Message) {
	key := envelope.Key(m.At(m.ID))
	k.mu.Lock()
	x := k.calls[key]
	if x != nil {
		k.remove(x)
	}
	k.mu.Unlock()
	if k.answered.CompareAndSwap(false, true) {
		k.c.backoff.worked(k.owner)
	}
	if x == nil {
		k.log.Debug("answer to a request that is not under way any more dropped", "id", string(m.At(m.ID)))
		return
	}
	k.learn(x, m)
	var data []byte
	if !k.shared {
		data = bytes.Clone(m.Raw)
	} else {
		data = m.Replace(envelope.Edit{At: m.ID, With: x.id}, envelope.Edit{At: m.Subscription, With: x.id})
	}
	x.stream.add(event{data: data, status: k.status(m), final: true})
}

// status is the HTTP status of an answer that is all of the body (2026-07-28
// streamable-http; REQ-25, REQ-28, REQ-29).
func (k *child) status(m *envelope.Message) int {
	if k.key.modern && m.Failed {
		switch m.Code {
		case -32601:
			return http.StatusNotFound
		case -32020, -32021, -32022:
			return http.StatusBadRequest
		}
	}
	return http.StatusOK
}

// hearRequest takes a request of the server to its client (2025 revisions). A ping
// is answered here: it asks whether the other end of the pipe is there. On a shared
// child there is nobody the rest could be for, and Stile did not say that there is.
func (k *child) hearRequest(m *envelope.Message) {
	id := m.At(m.ID)
	switch {
	case m.Method == "ping":
		k.reply(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{}}`, id))
	case k.shared:
		k.log.Warn("request of a shared child refused", "method", m.Method)
		k.reply(errorLine(id, -32601, "not available: this process serves several clients"))
	default:
		if !k.only().hear(m) {
			k.replyGone(id)
		}
	}
}

// replyGone answers a request of the server that no client will.
func (k *child) replyGone(id jsontext.Value) { k.reply(errorLine(id, -32603, "the client has gone")) }

// hear takes a message of a session's own child to a stream: progress to the call
// it is about, news of lists and resources to the GET stream, and all else, which
// stdio does not relate to anything, to the call that began last, or to the GET
// stream when there is none. It reports false when the session is gone.
func (s *clientSession) hear(m *envelope.Message) bool {
	if s == nil {
		return false
	}
	to := s.standing
	switch m.Method {
	case "notifications/progress":
		if x := s.child.byToken(m); x != nil && x.stream.reachable() {
			to = x.stream
		}
	case "notifications/resources/updated", "notifications/resources/list_changed",
		"notifications/tools/list_changed", "notifications/prompts/list_changed":
	default:
		if x := s.child.latest(func(x *call) bool { return x.stream.reachable() }); x != nil {
			to = x.stream
		}
	}
	e := event{data: m.Raw}
	if m.Kind == envelope.Request {
		e.asks = m.At(m.ID)
	}
	// The client of a call may go at any moment; then the GET stream is what is left.
	return to.add(e) || s.standing.add(e)
}

// byToken is the call that a progress notification is about.
func (k *child) byToken(m *envelope.Message) *call {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tokens[envelope.Key(m.At(m.Token))]
}

// latest is the call under way that began last, of those that may be meant.
func (k *child) latest(may func(*call) bool) *call {
	k.mu.Lock()
	defer k.mu.Unlock()
	var found *call
	for _, x := range k.calls {
		if x.session != nil && (found == nil || x.number > found.number) && may(x) {
			found = x
		}
	}
	return found
}

// hearShared takes a notification of a child that several sessions share. What may
// be about one caller is never sent to another.
func (k *child) hearShared(m *envelope.Message) {
	switch m.Method {
	case "notifications/progress":
		if x := k.byToken(m); x != nil {
			x.stream.add(event{data: m.Replace(envelope.Edit{At: m.Token, With: x.token})})
		}
	case "notifications/resources/list_changed", "notifications/tools/list_changed", "notifications/prompts/list_changed":
		for _, s := range k.listeners(func(*clientSession) bool { return true }) {
			s.standing.add(event{data: m.Raw})
		}
	case "notifications/resources/updated":
		for _, s := range k.listeners(func(s *clientSession) bool { return s.subscribed[m.URI] }) {
			s.standing.add(event{data: m.Raw})
		}
	case "notifications/message":
		level := levelOf(m.Level)
		if x := k.unambiguous(func(x *call) bool { return x.session != nil && level >= x.session.level }); x != nil {
			x.stream.add(event{data: m.Raw})
		}
	default:
		k.log.Debug("notification of a shared child dropped", "method", m.Method)
	}
}

// listeners are the sessions of a shared child that want something.
func (k *child) listeners(want func(*clientSession) bool) []*clientSession {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []*clientSession
	for s := range k.sessions {
		if want(s) {
			all = append(all, s)
		}
	}
	return all
}

// unambiguous is the call that a message without any relation is about: that of the
// child's only caller that began last. Where more than one may call, there is none:
// it could be about a call that has just been answered as well.
func (k *child) unambiguous(wants func(*call) bool) *call {
	if k.owner == (session.Owner{}) {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var found *call
	for _, x := range k.calls {
		if !x.listen && wants(x) && (found == nil || x.number > found.number) {
			found = x
		}
	}
	return found
}

// hearModern takes a notification of a child that speaks 2026-07-28 to the request
// it relates to.
func (k *child) hearModern(m *envelope.Message) {
	switch {
	case m.Method == "notifications/progress":
		if x := k.byToken(m); x != nil {
			x.stream.add(event{data: m.Replace(envelope.Edit{At: m.Token, With: x.token})})
		}
	case m.Method == "notifications/cancelled":
		// The server ends a subscription without a result.
		if x := k.byID(m, m.RequestID); x != nil && k.forget(x) {
			x.stream.add(event{data: m.Replace(envelope.Edit{At: m.RequestID, With: x.id}, envelope.Edit{At: m.Subscription, With: x.id})})
			x.stream.close()
		}
	case m.Subscription.Exists():
		if x := k.byID(m, m.Subscription); x != nil {
			x.stream.add(event{data: m.Replace(envelope.Edit{At: m.Subscription, With: x.id})})
		}
	case m.Method == "notifications/message":
		if x := k.unambiguous(func(x *call) bool { return x.wantLog }); x != nil {
			x.stream.add(event{data: m.Raw})
		}
	default:
		k.log.Debug("notification that relates to nothing dropped", "method", m.Method)
	}
}

func (k *child) byID(m *envelope.Message, at envelope.Span) *call {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.calls[envelope.Key(m.At(at))]
}

// The log levels, from the least severe (2025-11-25 server/utilities/logging).
var levels = map[string]int{"debug": 1, "info": 2, "notice": 3, "warning": 4, "error": 5, "critical": 6, "alert": 7, "emergency": 8}

// unsetLevel is what no logging/setLevel was sent stands for.
const unsetLevel = 0

func levelOf(name string) int { return levels[name] }
