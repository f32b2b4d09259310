package era

import (
	"context"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
)

// askAll puts the server's questions to the client, all at once, and waits for the
// answers, which are in the order of the questions.
func (l *Legacy) askAll(ctx context.Context, p *packet, requests object) (object, error) {
	if len(requests) > maxQuestions {
		return nil, &failure{code: codeInternal, text: "the MCP server has too many questions at once"}
	}
	capabilities := l.wrapping().capabilities
	for _, r := range requests {
		q := lenient(r.value)
		if method := q.text("method"); !capability(capabilities, method, q.get("params")) {
			return nil, &failure{code: codeInternal, text: "the MCP server asked for " + clean(method) + ", which this client does not offer"}
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.o.AskTime, errLate)
	defer cancel()
	answers := make([]jsontext.Value, len(requests))
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	for i, r := range requests {
		group.Go(func() {
			value, err := l.ask(ctx, p, lenient(r.value))
			mu.Lock()
			defer mu.Unlock()
			if err != nil && first == nil {
				first = err
				cancel()
			}
			answers[i] = value
		})
	}
	group.Wait()
	if first != nil {
		return nil, first
	}
	all := object{}
	for i, r := range requests {
		all = all.with(r.name, answers[i])
	}
	return all, nil
}

var errLate = &failure{code: codeInternal, text: "the client did not answer in time"}

// ask puts one question.
func (l *Legacy) ask(ctx context.Context, p *packet, q object) (jsontext.Value, error) {
	id := l.nextID()
	key := envelope.Key(id)
	answer := make(chan *packet, 1)
	l.mu.Lock()
	l.asking[key] = answer
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.asking, key)
		l.mu.Unlock()
	}()
	method, params := q.text("method"), q.get("params")
	if method == "elicitation/create" && lenient(params).text("mode") == "url" && lenient(params).get("elicitationId") == nil {
		params = lenient(params).with("elicitationId", id).bytes() // 2025-11-25 wants one
	}
	l.o.Emit(requestLine(id, method, params), p.key())
	select {
	case said := <-answer:
		switch {
		case said.result != nil:
			return said.result, nil
		case method == "elicitation/create":
			return jsontext.Value(`{"action":"cancel"}`), nil
		}
		return nil, &failure{code: codeInternal, text: "the client could not do what the MCP server asked for: " + clean(method)}
	case <-ctx.Done():
		l.o.Emit(notificationLine("notifications/cancelled", object{}.with("requestId", id).bytes()), p.key())
		return nil, context.Cause(ctx)
	}
}

// answered takes the answer of the client to a question.
func (l *Legacy) answered(p *packet) {
	l.mu.Lock()
	answer := l.asking[p.key()]
	l.mu.Unlock()
	if answer == nil {
		return // it came too late
	}
	select {
	case answer <- p:
	default:
	}
}

// clean makes a name fit for a text that clients show.
func clean(name string) string {
	out := make([]byte, 0, 64)
	for i := 0; i < len(name) && len(out) < cap(out); i++ {
		c := name[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '/' || c == '_' || c == '-' || c == '.' {
			out = append(out, c)
		}
	}
	return string(out)
}

// newsTime is how long a subscription may take to be acknowledged.
const newsTime = 10 * time.Second
