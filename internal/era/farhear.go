package era

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
)

// hear takes a message of the server. from is the call on whose stream it came, nil
// for the stream on which the server speaks unasked.
func (s *farSession) hear(ctx context.Context, line []byte, from *farCall) {
	if len(line) > 0 && line[0] == '[' { // a batch, which servers of 2025-03-26 may send
		parts, err := envelope.Split(line)
		for _, part := range parts {
			s.hear(ctx, part, from)
		}
		if err != nil {
			s.m.o.Log.Warn("message of the server not understood", "error", err)
		}
		return
	}
	p, err := readPacket(line)
	if err != nil {
		s.m.o.Log.Warn("message of the server not understood", "error", err)
		return
	}
	switch p.kind {
	case envelope.Response:
		c := s.callOf(p.key())
		if p.id == nil { // an error of a server that could not read what it was sent
			c = from
		}
		if c != nil {
			c.finish(p)
		}
	case envelope.Request:
		s.hearRequest(ctx, p, from)
	default:
		s.hearNews(p, from)
	}
}

// callOf is the call that the server knows by an id or progress token.
func (s *farSession) callOf(key string) *farCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[key]
}

// latest is the call that began last, of those that may be meant.
func (s *farSession) latest(may func(*farCall) bool) *farCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found *farCall
	for _, c := range s.calls {
		if (found == nil || c.number > found.number) && may(c) {
			found = c
		}
	}
	return found
}

// hearNews takes a notification to the call it is about, or to who listens.
func (s *farSession) hearNews(p *packet, from *farCall) {
	params := lenient(p.params)
	switch p.method {
	case "notifications/progress":
		if c := s.callOf(envelope.Key(params.get(metaToken))); c != nil {
			c.add(p)
		}
	case "notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed",
		"notifications/resources/updated":
		s.publish(p)
	case "notifications/cancelled":
		s.withdraw(envelope.Key(params.get("requestId")))
	case "notifications/elicitation/complete":
		// 2026-07-28 has no such thing: the client finds out by its retry.
	default:
		if from == nil {
			from = s.latest(func(c *farCall) bool { return p.method != "notifications/message" || c.wantsLog() })
		}
		if from != nil {
			from.add(p)
		}
	}
}

// hearRequest takes a request of the server to the call during which it was made.
// Which one that is tells the stream; on the one where the server speaks unasked it
// is the call that began last.
func (s *farSession) hearRequest(ctx context.Context, p *packet, from *farCall) {
	may := func(c *farCall) bool { return c.mayBeAsked(p) }
	if from == nil || !may(from) {
		from = s.latest(may)
	}
	answer := func(line []byte) {
		s.m.desk.do(ctx, func(ctx context.Context) {
			if err := s.tell(ctx, line); err != nil {
				s.m.o.Log.Debug("answer to the server lost", "error", err)
			}
		})
	}
	switch {
	case p.method == "ping":
		answer(resultLine(p.id, jsontext.Value("{}")))
	case from == nil:
		answer((&failure{code: codeNoMethod, text: "the client cannot be asked for this now"}).line(p.id))
	case !from.ask(p, answer):
		answer((&failure{code: codeInternal, text: "too many questions at once"}).line(p.id))
	}
}

// withdraw takes back a question of the server.
func (s *farSession) withdraw(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		c.withdraw(key)
	}
}
