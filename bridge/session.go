package bridge

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/remote"
	"github.com/stile-mcp/stile/internal/sse"
)

// session is one with a server of the 2025 revisions.
type session struct {
	id, version string
	ctx         context.Context // of the stream on which the server speaks unasked
	cut         context.CancelFunc
}

func (b *bridge) newSession(id, version string) *session {
	s := &session{id: id, version: version}
	s.ctx, s.cut = context.WithCancel(b.ctx)
	if strings.ContainsFunc(id, func(r rune) bool { return r < 0x21 || r > 0x7E }) {
		b.log.Warn("session id of the MCP server not used: it has characters that it must not have")
		s.id = ""
	}
	return s
}

// header is that of a request within the session; s may be nil, for none.
func (s *session) header() http.Header {
	h := http.Header{}
	if s == nil {
		return h
	}
	if s.id != "" {
		h.Set(remote.HeaderSession, s.id)
	}
	if s.version != "" {
		h.Set(remote.HeaderVersion, s.version)
	}
	return h
}

// lostBy reports whether a refusal says that the server knows no such session
// (2025-11-25 "Session Management"). Many servers of the TypeScript SDK say so with a
// status of 400; a request that was refused so has not been carried out.
func (s *session) lostBy(r *refusal) bool {
	if s == nil || s.id == "" {
		return false
	}
	switch r.status {
	case http.StatusNotFound:
		return !r.isRPC || r.code != codeNoMethod
	case http.StatusBadRequest:
		return r.isRPC && (r.code == codeOwn || r.code == codeInvalidRequest)
	}
	return false
}

// openTime is how long the client's next message waits for the stream on which the
// server speaks unasked. Some servers send the head of it with the first event only.
const openTime = time.Second

// hear begins to hear the stream on which the server speaks unasked, and waits until
// it is open: what the server asks before that, many servers lose.
func (d *oldDoor) hear(s *session) {
	open, known := context.WithTimeout(s.ctx, openTime)
	if d.b.spawn(func() { defer known(); d.listen(s, known) }) {
		<-open.Done()
	}
}

// listen hears the stream on which the server speaks unasked, and opens it again when
// it breaks off. A server that has none says so at the first try, after which known is
// called.
func (d *oldDoor) listen(s *session, known func()) {
	lastID, wait, had := "", remote.MinPause, false
	h := hearing{b: d.b, asked: func(m *envelope.Message) { d.note(m, s) }}
	for s.ctx.Err() == nil {
		a, err := d.b.far.server.Get(s.ctx, s.header(), lastID)
		known()
		switch {
		case err != nil:
			d.b.log.Debug("the stream of the MCP server cannot be opened", "error", err)
			wait = min(2*wait, remote.MaxPause)
		case a.Status == http.StatusOK && a.IsStream():
			had = true
			started := time.Now()
			err = a.Each(func(line []byte) bool { h.take(line); return true })
			d.b.log.Debug("the stream of the MCP server ended", "error", err)
			if a.LastID != "" {
				lastID = a.LastID
			}
			if wait = max(remote.MinPause, a.Retry); a.Retry > 0 {
				wait = max(a.Retry, minReturn) // 2025-11-25 wants exactly that
			} else if time.Since(started) < wait {
				wait = min(2*wait, remote.MaxPause)
			}
		default:
			a.Close()
			if had && a.Status == http.StatusNotFound {
				_, _ = d.renew(s.ctx, s)
				return
			}
			if a.Status/100 == 4 && a.Status != http.StatusTooManyRequests && lastID == "" || a.Status == http.StatusOK {
				return // it has none
			}
			lastID, wait = "", min(2*wait, remote.MaxPause)
		}
		if !remote.Pause(s.ctx, wait) {
			return
		}
	}
}

const (
	// maxReturns is how often a broken stream of a call is come back to without
	// anything new on it.
	maxReturns = 10
	// minReturn is the shortest pause before that, whatever the server says.
	minReturn = 50 * time.Millisecond
)

// hearAnswer hears what comes of a call, and comes back to its stream when that
// breaks off and can be resumed (2025-11-25 "Resumability and Redelivery").
func (d *oldDoor) hearAnswer(c *call, s *session, a *remote.Reply, h *hearing) {
	take := func(line []byte) bool { h.take(line); return !c.isCancelled() }
	err := a.Each(take)
	for tries := 0; tries < maxReturns && !c.over() && a.LastID != "" && !isTooLarge(err); {
		if !remote.Pause(c.ctx, max(a.Retry, minReturn, min(time.Duration(tries)*remote.MinPause, remote.MaxPause))) {
			return
		}
		next, e := d.b.far.server.Get(c.ctx, s.header(), a.LastID)
		tries++
		if e != nil {
			err = e
			continue
		}
		if next.Status != http.StatusOK || !next.IsStream() {
			next.Close()
			if next.Status >= 500 || next.Status == http.StatusTooManyRequests {
				continue
			}
			break
		}
		before := a.LastID
		next.LastID, next.Retry = a.LastID, a.Retry
		a = next
		if err = a.Each(take); a.LastID != before {
			tries = 0
		}
	}
	c.incomplete(a, err)
}

// isTooLarge reports whether a message was over the limit: to ask for it again would
// bring it again.
func isTooLarge(err error) bool {
	return errors.As(err, new(*sse.TooLargeError)) || errors.As(err, new(*remote.TooLargeError))
}
