package relay

import (
	"bytes"
	"net/http"
	"sync"
	"time"

	"github.com/stile-mcp/stile/internal/sse"
)

// lastWords is how long the last bytes of an expired stream may take to leave,
// and a write that is under way to end.
const lastWords = 2 * time.Second

var comment = []byte(":\n\n")

// beginStream prepares an event stream: its header, and what happens with time.
func (w *Writer) beginStream() {
	w.out.Del("Content-Length") // comments and replaced messages change it
	w.length = -1
	w.rush.allow(true, w.w)
	if w.out.Get("X-Accel-Buffering") == "" {
		w.out.Set("X-Accel-Buffering", "no") // REQ-38
	}
	now := time.Now()
	w.lastSent, w.holdUntil = now, now.Add(max(w.o.Hold, 0))
	switch {
	case w.expired(now):
		w.end(w.last())
		return
	case w.o.Stream || w.o.Hold < 0:
		w.phase = streaming
		w.release()
		w.flush()
	}
	w.arm(now)
}

// feed takes bytes of an event stream. The events that end in them are sent at
// once, and together, which saves writes.
func (w *Writer) feed(p []byte) {
	w.gather = true
	err := w.scan.Feed(p, w.event)
	w.sendGathered()
	if err != nil && w.phase != ended {
		w.stop(&UpstreamError{err})
	}
	w.flush()
}

// event sends one event, or holds it while nothing was sent and it is no message.
func (w *Writer) event(ev sse.Event) error {
	raw := ev.Raw
	out, err := w.inspect(ev.Data)
	switch {
	case err != nil:
		w.stop(err)
		return err
	case len(out) > 0:
		raw = sse.ReplaceData(raw, out)
	case out != nil:
		raw = sse.ReplaceData(raw, nil)
	}
	if len(ev.ID) > 0 && w.o.EventID != nil {
		raw = sse.ReplaceID(raw, w.o.EventID(ev.ID))
	}
	if !w.sent && len(bytes.TrimSpace(ev.Data)) == 0 && len(w.held)+len(raw) <= w.o.Inspect {
		if w.held == nil {
			w.held = takeBuffer()
		}
		w.held = append(w.held, raw...)
		return nil
	}
	w.release()
	if ev.BOM && w.bodySent {
		raw = raw[len(byteOrderMark):] // it means itself only at the very beginning
	}
	w.sendEvents(raw)
	if w.phase == ended {
		return w.err
	}
	return nil
}

// release sends the header, and the events that were held behind it.
func (w *Writer) release() {
	if w.sent {
		return
	}
	w.sendHeader()
	w.sendEvents(w.held)
	giveBuffer(w.held)
	w.held = nil
}

// sendEvents sends events, or keeps them until all that arrived with them are looked
// at.
func (w *Writer) sendEvents(raw []byte) {
	w.bodySent = w.bodySent || len(raw) > 0
	if !w.gather {
		w.send(raw)
		w.lastSent = time.Now()
		return
	}
	if w.gathered == nil {
		w.gathered = takeBuffer()
	}
	if len(w.gathered)+len(raw) > maxPooled {
		w.sendGathered()
		w.gather = true
		w.send(raw)
		return
	}
	w.gathered = append(w.gathered, raw...)
}

// sendGathered sends the events that were kept, and keeps no more.
func (w *Writer) sendGathered() {
	w.gather = false
	if w.gathered == nil {
		return
	}
	events := w.gathered
	w.gathered = nil
	w.send(events)
	giveBuffer(events)
	w.lastSent = time.Now()
}

// finishStream sends what the stream left without a blank line, which some
// clients take for an event, and the header if it has not been.
func (w *Writer) finishStream() {
	if ev, ok := w.scan.End(); ok && w.event(ev) != nil {
		return
	}
	w.release()
	w.flush()
}

// Insert sends events of the caller's own between those of the upstream. It returns
// false, and does nothing, when no event stream has begun, or when it has ended. It
// waits for a client that does not read, as every write does.
func (w *Writer) Insert(events []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase != streaming || !w.sent {
		return false
	}
	w.sendEvents(events)
	w.flush()
	return w.phase == streaming
}

// End ends an event stream in an orderly way, with last as its final events, and
// cancels the upstream's request. It returns false, and does nothing, when the
// answer is no event stream (yet), or has ended.
func (w *Writer) End(last []byte) bool {
	w.rush.hurry(w.w)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.end(last)
}

func (w *Writer) end(last []byte) bool {
	if !w.isStream() {
		return false
	}
	w.phase = streaming
	w.sendGathered()
	w.release()
	w.sendEvents(last)
	w.flush()
	w.phase = ended
	w.o.Cancel()
	return true
}

func (w *Writer) last() []byte {
	if w.o.Last == nil {
		return nil
	}
	return w.o.Last()
}

// isStream reports whether the answer is an event stream that has not ended.
func (w *Writer) isStream() bool {
	return w.phase == streaming || w.phase == deciding && w.labelled
}

func (w *Writer) expired(now time.Time) bool {
	return !w.o.Expire.IsZero() && !now.Before(w.o.Expire)
}

// arm sets the timer to what comes next.
func (w *Writer) arm(now time.Time) {
	next := w.o.Expire
	earlier := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if !w.sent {
		earlier(w.holdUntil)
	}
	if w.o.KeepAlive > 0 && w.labelled {
		earlier(w.lastSent.Add(w.o.KeepAlive))
	}
	switch {
	case next.IsZero():
	case w.timer == nil:
		w.timer = time.AfterFunc(next.Sub(now), w.tick)
	default:
		w.timer.Reset(next.Sub(now))
	}
}

// tick does what time demands of a stream.
func (w *Writer) tick() {
	now := time.Now()
	if w.expired(now) {
		w.rush.hurry(w.w)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.isStream() {
		return
	}
	switch {
	case w.expired(now):
		w.end(w.last())
		return
	case w.o.KeepAlive > 0 && w.labelled && !now.Before(w.lastSent.Add(w.o.KeepAlive)):
		w.phase = streaming
		w.release()
		w.sendEvents(comment)
		w.flush()
	case !w.sent && !now.Before(w.holdUntil):
		w.phase = streaming
		w.release()
		w.flush()
	}
	if w.phase != ended {
		w.arm(now)
	}
}

// rush bounds a write that is under way to a client that does not read, so that
// the lock of the Writer becomes free. It has a lock of its own.
type rush struct {
	mu      sync.Mutex
	allowed bool // the answer is an event stream, and has not been closed
	set     bool
}

// allow says whether deadlines may be set; once they may not, one that was set
// is taken back, as the connection may carry another answer.
func (r *rush) allow(allowed bool, w http.ResponseWriter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.allowed = allowed
	if !allowed && r.set {
		r.set = false
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	}
}

// hurry sets the deadline, where there can be one.
func (r *rush) hurry(w http.ResponseWriter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.allowed && http.NewResponseController(w).SetWriteDeadline(time.Now().Add(lastWords)) == nil {
		r.set = true
	}
}
