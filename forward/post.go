package forward

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/message"
)

// post takes one message of a client to its child.
func (c *Command) post(q *request) error {
	if err := q.read(); err != nil {
		return err
	}
	m := q.message
	if q.modern {
		return c.postModern(q)
	}
	if c.config.Stateless {
		return c.postStateless(q)
	}
	if m.Kind == envelope.Request && m.Method == "initialize" {
		return c.initialize(q)
	}
	s, err := c.find(q)
	if err != nil {
		return err
	}
	if q.version != "" && !message.IsLegacy(q.version) {
		return &refusal{status: http.StatusBadRequest, code: codeInvalidRequest, text: "MCP-Protocol-Version names no known revision"}
	}
	s.busy(1)
	defer s.busy(-1)
	kind := m.Kind // m is not good any more once the call was answered
	switch kind {
	case envelope.Request:
		err = c.call(q, s)
	case envelope.Notification:
		err = s.notify(q)
	default:
		err = s.respond(q)
	}
	switch {
	case errors.Is(err, errEnded):
		return errNoSession // it ends with its child
	case err == nil && kind != envelope.Request:
		q.w.WriteHeader(http.StatusAccepted)
	}
	return err
}

// initialize begins a session: with a child of its own, or on one that is there.
func (c *Command) initialize(q *request) error {
	if q.session != "" {
		return &refusal{status: http.StatusBadRequest, code: codeInvalidRequest, text: "initialize begins a session and must not name one"}
	}
	if err := c.makeRoom(q.owner); err != nil {
		return err
	}
	open := c.openOwn
	if c.config.Isolation != IsolateSession {
		open = c.openShared
	}
	s, answer, err := open(q)
	if err != nil {
		return err
	}
	if s != nil {
		if err := c.enter(s); err != nil {
			s.end(errClosed.text)
			return err
		}
		q.w.Header().Set(headerSession, s.id)
	}
	q.writeJSON(answer)
	return nil
}

// openOwn starts a child for a session. Without a session the answer is the
// child's refusal.
func (c *Command) openOwn(q *request) (*clientSession, event, error) {
	k, err := c.launch(q.owner, poolKey{}, false)
	if err != nil {
		return nil, event{}, err
	}
	s := c.newSession(q.owner, k)
	if !k.join(s) {
		return nil, event{}, errStarting
	}
	ctx, cancel := context.WithTimeout(q.r.Context(), c.config.StartTimeout)
	defer cancel()
	answer, err := k.await(ctx, &call{stream: s.box.open(), session: s}, q.message)
	if err != nil {
		if errors.Is(err, errSlowStart) {
			c.backoff.failed(q.owner, time.Now(), err)
		}
		s.end(err.Error())
		return nil, event{}, err
	}
	said, err := envelope.Read(answer.data)
	if err != nil || said.Failed {
		s.end("the server refused the session")
		return nil, answer, err
	}
	s.version = said.Text(said.Version)
	return s, answer, nil
}

// errStarting says that a child ended before it had answered anything.
var errStarting = &refusal{status: http.StatusBadGateway, text: "the MCP server ended while it was starting"}

// openShared begins a session on a child that was greeted already: with what the
// server said then, and the older of the two revisions.
func (c *Command) openShared(q *request) (*clientSession, event, error) {
	k, err := c.pooled(q.r.Context(), q.owner, false)
	if err != nil {
		return nil, event{}, err
	}
	answer, version := k.welcomeTo(q)
	if k.welcome.Failed {
		return nil, answer, nil
	}
	s := c.newSession(q.owner, k)
	if !k.join(s) {
		return nil, event{}, errStarting
	}
	s.version = version
	return s, answer, nil
}

// call sends a request of a session and brings back what comes of it.
func (c *Command) call(q *request, s *clientSession) error {
	if s.child.shared {
		if answer := s.settle(q.message); answer != nil {
			q.writeJSON(event{data: answer, status: http.StatusOK})
			return nil
		}
	}
	return c.relay(q, s.child, &call{stream: s.box.open(), session: s})
}

// notify passes a notification on.
func (s *clientSession) notify(q *request) error {
	m, k := q.message, s.child
	line := m.Raw
	var cancelled *call
	switch {
	case m.Method == "notifications/cancelled":
		if cancelled = s.callByID(m); cancelled == nil {
			return nil // it has been answered
		}
		if k.shared {
			line = m.Replace(envelope.Edit{At: m.RequestID, With: []byte(cancelled.key)})
		}
	case k.shared && (m.Method == "notifications/initialized" || m.Method == "notifications/roots/list_changed"):
		return nil // the child was greeted by Stile, which has no roots
	}
	if err := k.send(q.r.Context(), append(line, '\n')); err != nil {
		return err
	}
	if cancelled != nil && k.forget(cancelled) {
		// The server will not answer, and the POST must not wait for ever.
		cancelled.fail(codeCancelled, "the call was cancelled")
	}
	return nil
}

// codeCancelled answers a call that its client cancelled, which listens no more.
const codeCancelled = 499

// callByID is the call of this session that notifications/cancelled names.
func (s *clientSession) callByID(m *envelope.Message) *call {
	key := envelope.Key(m.At(m.RequestID))
	s.child.mu.Lock()
	defer s.child.mu.Unlock()
	for _, x := range s.child.calls {
		if x.session == s && envelope.Key(x.id) == key {
			return x
		}
	}
	return nil
}

// respond passes the answer to a request of the server on. That to a ping of
// Stile's own has done its work by having come.
func (s *clientSession) respond(q *request) error {
	m := q.message
	if s.child.shared || strings.HasPrefix(m.Text(m.ID), pingPrefix) {
		return nil
	}
	return s.child.send(q.r.Context(), append(m.Raw, '\n'))
}

// maxSubscriptions is how many resources a session on a shared child may follow.
const maxSubscriptions = 1000

// settle does what sessions on a shared child need beside passing a request on,
// and returns the answer where the child need not be asked: log levels and
// subscriptions are the child's, but each session has its own.
func (s *clientSession) settle(m *envelope.Message) []byte {
	k := s.child
	k.mu.Lock()
	defer k.mu.Unlock()
	switch m.Method {
	case "logging/setLevel":
		level := levelOf(m.Level)
		if level == unsetLevel {
			return nil // for the server to refuse
		}
		s.level = level
		if k.level != unsetLevel && k.level <= level {
			return emptyResult(m)
		}
		k.level = level
	case "resources/subscribe":
		switch {
		case s.subscribed == nil:
			s.subscribed = map[string]bool{}
		case len(s.subscribed) >= maxSubscriptions && !s.subscribed[m.URI]:
			return errorLine(m.At(m.ID), http.StatusTooManyRequests, "too many subscriptions of this session; end some and try again")
		}
		s.subscribed[m.URI] = true
	case "resources/unsubscribe":
		delete(s.subscribed, m.URI)
		if k.subscribed(m.URI) {
			return emptyResult(m)
		}
	}
	return nil
}

func emptyResult(m *envelope.Message) []byte {
	return []byte(`{"jsonrpc":"2.0","id":` + string(m.At(m.ID)) + `,"result":{}}`)
}

// subscribed reports whether any session has subscribed to a resource.
func (k *child) subscribed(uri string) bool {
	for s := range k.sessions {
		if s.subscribed[uri] {
			return true
		}
	}
	return false
}

// unsubscribe takes back what only this session, which has ended, wanted.
func (k *child) unsubscribe(s *clientSession) {
	k.mu.Lock()
	var alone []string
	for uri := range s.subscribed {
		if !k.gone && !k.subscribed(uri) {
			alone = append(alone, uri)
		}
	}
	k.mu.Unlock()
	if len(alone) > 0 {
		go k.askUnsubscribe(alone)
	}
}

func (k *child) askUnsubscribe(uris []string) {
	ctx, cancel := context.WithTimeout(context.Background(), k.c.config.StartTimeout)
	defer cancel()
	for _, uri := range uris {
		quoted, err := jsontext.AppendQuote(nil, uri)
		if err != nil {
			continue // it was refused when it was subscribed to
		}
		if _, err := k.ask(ctx, `{"jsonrpc":"2.0","id":0,"method":"resources/unsubscribe","params":{"uri":`+string(quoted)+`}}`); err != nil {
			return
		}
	}
}

// postModern takes a message of 2026-07-28 to the caller's child. There are no
// sessions: every request stands alone.
func (c *Command) postModern(q *request) error {
	m := q.message
	if m.Kind == envelope.Response {
		return &refusal{status: http.StatusBadRequest, code: codeInvalidRequest, text: "2026-07-28 has no responses of clients"}
	}
	if m.Kind == envelope.Notification && m.Method == "notifications/cancelled" {
		q.w.WriteHeader(http.StatusAccepted) // here the end of the connection cancels
		return nil
	}
	k, err := c.pooled(q.r.Context(), q.owner, true)
	if err != nil {
		return err
	}
	if m.Kind == envelope.Notification {
		if err = k.send(q.r.Context(), append(m.Raw, '\n')); err == nil {
			q.w.WriteHeader(http.StatusAccepted)
		}
		return err
	}
	if err := k.checkParams(q); err != nil {
		return err
	}
	return c.relay(q, k, &call{stream: newStream(&c.config), wantLog: m.LogLevel,
		listen: m.Method == "subscriptions/listen", tools: m.Method == "tools/list"})
}
