package stile

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/message"
)

// cancelTime bounds telling an upstream that a call was given up.
const cancelTime = 2 * time.Second

// patience is how long one call is waited for: each message of the answer, such as
// a notification of progress, begins the wait anew, up to a limit
// (2025-11-25 basic/lifecycle "Timeouts").
type patience struct {
	mu    sync.Mutex
	timer *time.Timer
	pause time.Duration
	until time.Time // the limit; zero: none
	over  bool
}

var tooSlow = early{http.StatusGatewayTimeout, "the MCP server did not answer in time"}

// waitFor begins to wait for a call, where it is one and there is a bound.
func (a *answer) waitFor() {
	s := a.x.s
	if s.timeout <= 0 || a.x.call.Kind != message.Request || a.x.call.Method == "subscriptions/listen" {
		return
	}
	p := &patience{pause: s.timeout}
	if s.maxTime > 0 {
		p.until = time.Now().Add(s.maxTime)
	}
	a.patience = p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(p.next(), a.giveUp)
}

// next is how long the wait is now.
func (p *patience) next() time.Duration {
	if p.until.IsZero() {
		return p.pause
	}
	return min(p.pause, time.Until(p.until))
}

// heard begins the wait anew. While a person is asked something, only the limit
// counts.
func (p *patience) heard(msg []byte) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over:
	case !asksClient(msg):
		p.timer.Reset(p.next())
	case p.until.IsZero():
		p.timer.Stop()
	default:
		p.timer.Reset(time.Until(p.until))
	}
}

// asksClient reports whether a message is a question to the client. An answer that
// quotes one is over anyway. It looks at what follows a slash, of which answers have
// few: every answer passes here.
func asksClient(msg []byte) bool {
	for {
		i := bytes.IndexByte(msg, '/')
		if i < 0 {
			return false
		}
		before, after := msg[:i], msg[i+1:]
		switch {
		case bytes.HasPrefix(after, []byte(`create"`)) && bytes.HasSuffix(before, []byte(`"elicitation`)),
			bytes.HasPrefix(after, []byte(`createMessage"`)) && bytes.HasSuffix(before, []byte(`"sampling`)),
			bytes.HasPrefix(after, []byte(`list"`)) && bytes.HasSuffix(before, []byte(`"roots`)):
			return true
		}
		msg = after
	}
}

// done ends the wait and reports whether it was in vain.
func (p *patience) done() (gaveUp bool) {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer.Stop()
	gaveUp, p.over = p.over, true
	return gaveUp
}

// giveUp ends the answer: with an error on its stream, or as a refusal.
func (a *answer) giveUp() {
	p := a.patience
	p.mu.Lock()
	over := p.over
	p.over = true
	p.mu.Unlock()
	if !over && !a.writer.End(a.last(tooSlow)) {
		a.cancel()
	}
}

// tellCancelled tells the upstream of a call that was given up. In 2026-07-28 the
// end of the request says so.
func (a *answer) tellCancelled() {
	x := a.x
	if x.call.Era == message.Era2026 || x.call.Method == "initialize" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), cancelTime)
	defer cancel()
	told := *x
	told.call = &message.Call{Kind: message.Notification, Era: x.call.Era, Method: "notifications/cancelled",
		Body: append(append([]byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`), x.call.ID...),
			`,"reason":"the gateway gave up waiting"}}`...)}
	defer func() {
		switch p := recover(); p {
		case nil, http.ErrAbortHandler: // it need not answer
		default:
			panic(p)
		}
	}()
	told.s.upstream.ServeHTTP(discard{}, told.outgoing(ctx))
}

// discard is an answer that nobody wants.
type discard struct{}

// Header returns a header that is not kept.
func (discard) Header() http.Header { return http.Header{} }

// Write takes bytes and forgets them.
func (discard) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader forgets the status.
func (discard) WriteHeader(int) {}

// Fail forgets why there is no answer.
func (discard) Fail(error) {}

// checkTimeouts looks at how long a server is waited for.
func (s *Server) checkTimeouts(at string, mistakes *problem.List) {
	if s.RequestTimeout < 0 {
		mistakes.Add(at+".request_timeout", s.RequestTimeout.String(), "a time, or 0 for none")
	}
	if s.MaxRequestTime < 0 || s.MaxRequestTime > 0 && s.MaxRequestTime < s.RequestTimeout {
		mistakes.Add(at+".max_request_time", s.MaxRequestTime.String(), "a time not under request_timeout, or 0 for none")
	}
}

// checkStateless refuses the request that only a session has. Who may not know that
// there are none is told to log in first (DES-20).
func (x *exchange) checkStateless() error {
	if !x.s.stateless || x.identity == nil || x.r.Method != http.MethodGet && x.r.Method != http.MethodDelete {
		return nil
	}
	return &formError{status: http.StatusMethodNotAllowed, text: "there are no sessions here", allow: "POST, OPTIONS"}
}
