package forward

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stile-mcp/stile/internal/sse"
)

// holdTime is how long an answer may come as JSON; a call that takes longer is
// answered with an event stream, so that the connection can be kept alive and come
// back to.
const holdTime = 2 * time.Second

// patienceTick is how often it is looked whose holdTime is over.
const patienceTick = holdTime / 8

// patience tells connections that wait for an answer when holdTime is over. It has
// one timer for all, since one for each would wake a thread a call. Its zero value
// is ready, its methods may be called concurrently.
type patience struct {
	mu      sync.Mutex
	waiting map[*reader]time.Time
	ticking bool
}

func (p *patience) begin(r *reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		p.waiting = map[*reader]time.Time{}
	}
	p.waiting[r] = time.Now()
	if !p.ticking {
		p.ticking = true
		time.AfterFunc(patienceTick, p.tick)
	}
}

func (p *patience) end(r *reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, r)
}

func (p *patience) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ticking = len(p.waiting) > 0; !p.ticking {
		p.waiting = nil // it may have been large
		return
	}
	now := time.Now()
	for r, since := range p.waiting {
		if now.Sub(since) >= holdTime {
			delete(p.waiting, r)
			r.slow.Store(true)
			r.signal()
		}
	}
	time.AfterFunc(patienceTick, p.tick)
}

// primed is the first revision in which a stream begins with an event id that the
// client can come back with; older clients would take the event for a message.
const primed = "2025-11-25"

// accepts are the two kinds of answer, by the Accept header.
type accepts struct{ json, events bool }

func (q *request) accepts() accepts {
	values := q.r.Header["Accept"]
	if len(values) == 1 && values[0] == "application/json, text/event-stream" {
		return accepts{true, true} // as every client writes it
	}
	list := strings.Join(values, ",")
	if strings.TrimSpace(list) == "" {
		return accepts{true, true}
	}
	var a accepts
	for item := range strings.SplitSeq(list, ",") {
		mediaType, _, _ := strings.Cut(item, ";")
		switch strings.ToLower(strings.TrimSpace(mediaType)) {
		case "*/*":
			return accepts{true, true}
		case "application/json", "application/*":
			a.json = true
		case "text/event-stream", "text/*":
			a.events = true
		}
	}
	return a
}

// relay sends a request to a child and answers with what comes of it: JSON when
// that is the response alone, and an event stream otherwise.
func (c *Command) relay(q *request, k *child, x *call) error {
	accept := q.accepts()
	st := x.stream
	st.plain = !accept.events
	r := st.attach()
	defer st.detach(r)
	if !accept.json && !accept.events {
		return &refusal{status: http.StatusNotAcceptable, text: "application/json or text/event-stream must be accepted"}
	}
	line, err := k.expect(x, q.message)
	if err != nil {
		return err
	}
	if q.modern {
		defer k.cancel(x) // unless it has been answered
	}
	if err := k.send(q.r.Context(), line); err != nil {
		k.forget(x)
		return err
	}
	q.sent(x)
	stream, err := c.decide(q, st, r, accept)
	if err != nil || !stream {
		return err
	}
	if !q.modern {
		st.promise()
	}
	q.beginStream()
	if !q.modern && x.session != nil && x.session.version >= primed {
		q.write(sse.Format(st.eventID(0), "", nil))
	}
	q.stream(st, r)
	return nil
}

// decide waits until it is known how to answer, and answers with JSON if that is it.
func (c *Command) decide(q *request, st *stream, r *reader, accept accepts) (stream bool, err error) {
	c.patience.begin(r)
	defer c.patience.end(r)
	for {
		e, ok, then := st.peek(r)
		switch {
		case ok && e.final && accept.json:
			st.next(r)
			q.writeJSON(e)
			return false, nil
		case ok:
			return true, nil
		case then != more:
			return false, errNoSession
		case r.slow.Load() && accept.events:
			return true, nil
		}
		select {
		case <-r.wake:
		case <-q.r.Context().Done():
			return false, q.r.Context().Err()
		}
	}
}

// Values of header fields, which are replaced and never changed.
var (
	jsonType   = []string{"application/json"}
	eventsType = []string{"text/event-stream"}
	noStore    = []string{"no-store"}
	unbuffered = []string{"no"}
)

// writeJSON sends a message that is the whole answer.
func (q *request) writeJSON(e event) {
	h := q.w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(e.data))}
	q.w.WriteHeader(e.status)
	_, _ = q.w.Write(e.data) // a client that is gone misses nothing
}

func (q *request) beginStream() {
	h := q.w.Header()
	h["Content-Type"], h["Cache-Control"], h["X-Accel-Buffering"] = eventsType, noStore, unbuffered
	q.w.WriteHeader(http.StatusOK)
	q.flush()
}

// write sends bytes of a stream and reports whether the client is still there.
func (q *request) write(b []byte) bool {
	_, err := q.w.Write(b)
	return err == nil
}

func (q *request) flush() { _ = http.NewResponseController(q.w).Flush() }

// stream sends the events of a stream until it ends, the client is gone, or another
// connection takes over.
func (q *request) stream(st *stream, r *reader) {
	ended := q.r.Context().Done()
	q.r = nil // its header is not needed as long as the stream lasts
	for {
		events, then := st.next(r)
		for _, e := range events {
			id := ""
			if st.box.keep {
				id = st.eventID(e.number)
			}
			if !q.write(sse.Format(id, "message", e.data)) {
				return
			}
		}
		if then == taken {
			return
		}
		q.flush()
		if then == none {
			return
		}
		select {
		case <-r.wake:
		case <-ended:
			return
		}
	}
}

// get opens the stream of a session on which the server speaks unasked, or comes
// back to one that was lost.
func (c *Command) get(q *request) error {
	s, err := c.find(q)
	if err != nil {
		return err
	}
	if q.version != "" && q.version > primed {
		return &refusal{status: http.StatusBadRequest, code: codeInvalidRequest, text: "MCP-Protocol-Version names no known revision"}
	}
	st, r := s.standing, (*reader)(nil)
	if id := q.r.Header.Get("Last-Event-ID"); id == "" {
		r = st.attach()
	} else if st, r = s.box.resume(id); st == nil {
		return &refusal{status: http.StatusBadRequest, code: codeInvalidRequest, text: "Last-Event-ID names nothing that can be sent again"}
	}
	defer st.detach(r)
	s.touch()
	defer s.touch()
	q.beginStream()
	q.stream(st, r)
	return nil
}

// delete ends a session.
func (c *Command) delete(q *request) error {
	s, err := c.find(q)
	if err != nil {
		return err
	}
	s.end("the client ended the session")
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}
