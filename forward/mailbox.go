package forward

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"
)

// mailbox holds the events of the streams of one session: those that wait for
// their connection, and those that were sent, for a client that lost it. What is
// over the bounds is dropped, the oldest first.
type mailbox struct {
	maxEvents, maxBytes int
	// keep holds on to what was sent (2025 "Resumability and Redelivery").
	keep bool
	// unsent is told the id of a request of the server that no client was or will be
	// sent. It must not wait, nor use the mailbox.
	unsent func(id jsontext.Value)

	mu      sync.Mutex
	last    uint64 // the number of the last event, counted over all streams
	made    uint64 // the number of the last stream
	events  int
	bytes   int
	dropped int // events that nobody was sent
	streams map[uint64]*stream
	only    *stream // where nothing is kept, in place of streams
}

// event is one message on its way to a client.
type event struct {
	number uint64
	data   []byte
	status int // of the HTTP answer, when data is all of it
	final  bool
	lost   bool           // the child ended, or the session, before there was an answer
	asks   jsontext.Value // the id of a request of the server
}

// stream is what one POST, or the GET, of a session is answered with, over one
// connection or several one after another.
type stream struct {
	box    *mailbox
	number uint64
	events []event
	sent   uint64 // the number of the last event given to a connection
	over   bool   // nothing follows
	reader *reader
	// resumable is set once the client has been told an event id.
	resumable bool
	// plain is set when the client takes nothing but the response.
	plain bool
}

// reader is the connection that a stream is sent over.
type reader struct {
	wake chan struct{} // something has come, or another connection took over
	slow atomic.Bool   // holdTime is over
}

// signal wakes the connection.
func (r *reader) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

var freeReaders = sync.Pool{New: func() any { return &reader{wake: make(chan struct{}, 1)} }}

func newMailbox(c *CommandConfig, keep bool) *mailbox {
	b := &mailbox{maxEvents: c.ReplayEvents, maxBytes: c.ReplayBytes, keep: keep}
	if keep {
		b.streams = map[uint64]*stream{}
	}
	return b
}

// newStream makes a stream with a mailbox of its own, which keeps nothing.
func newStream(c *CommandConfig) *stream { return newMailbox(c, false).open() }

// all are the streams.
func (b *mailbox) all(yield func(*stream) bool) {
	if b.only != nil {
		yield(b.only)
		return
	}
	for _, s := range b.streams {
		if !yield(s) {
			return
		}
	}
}

// open makes a stream.
func (b *mailbox) open() *stream {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keep && len(b.streams) > b.maxEvents {
		b.forgetAbandoned()
	}
	b.made++
	s := &stream{box: b, number: b.made}
	if b.keep {
		b.streams[s.number] = s
	} else {
		b.only = s
	}
	return s
}

// standingNumber is the number of a session's first stream, which its GET sends and
// which is there as long as the session.
const standingNumber = 1

// forgetAbandoned forgets the oldest stream without a connection.
func (b *mailbox) forgetAbandoned() {
	var found *stream
	for _, s := range b.streams {
		if s.reader == nil && s.number != standingNumber && (found == nil || s.number < found.number) {
			found = s
		}
	}
	if found != nil {
		found.forget()
	}
}

// attach lets a connection have the stream. One that had it is told to end.
func (s *stream) attach() *reader {
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	return s.take()
}

func (s *stream) take() *reader {
	s.wake() // it finds out that it is not the reader any more
	s.reader = freeReaders.Get().(*reader)
	s.wake()
	return s.reader
}

// detach says that a connection has ended; r must not be used any more. A stream
// that no client can come back to is forgotten.
func (s *stream) detach(r *reader) {
	s.box.mu.Lock()
	if s.reader == r {
		s.reader = nil
		if !s.box.keep || !s.resumable {
			s.forget()
		}
	}
	s.box.mu.Unlock()
	// Nobody else has it: it is signalled under the lock, and by patience.
	select {
	case <-r.wake:
	default:
	}
	r.slow.Store(false)
	freeReaders.Put(r)
}

// forget takes the stream out of the mailbox.
func (s *stream) forget() {
	s.drop(len(s.events))
	s.over = true
	delete(s.box.streams, s.number)
}

// attached reports whether a connection has the stream.
func (s *stream) attached() bool {
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	return s.reader != nil
}

// reachable reports whether somebody has the stream or can come back to it.
func (s *stream) reachable() bool {
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	return !s.over && !s.plain && (s.reader != nil || s.resumable)
}

func (s *stream) wake() {
	if s.reader != nil {
		s.reader.signal()
	}
}

// add puts an event at the end of the stream. It reports false when the stream has
// ended, or its client takes no such event.
func (s *stream) add(e event) bool {
	b := s.box
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.over || s.plain && !e.final {
		return false
	}
	b.last++
	e.number = b.last
	s.events = append(s.events, e)
	s.over = e.final
	b.events++
	b.bytes += len(e.data)
	b.shrink()
	s.wake()
	return true
}

// close ends the stream without a further event.
func (s *stream) close() {
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	s.over = true
	s.wake()
}

// closeAll ends every stream.
func (b *mailbox) closeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.all {
		s.over = true
		s.wake()
	}
}

// shrink drops events until the bounds hold: first the oldest that were sent or
// have no connection, then the oldest that wait for one, but never an answer that
// somebody waits for.
func (b *mailbox) shrink() {
	for b.events > b.maxEvents || b.bytes > b.maxBytes {
		s := b.oldest(func(s *stream, e event) bool { return e.number <= s.sent || s.reader == nil })
		if s == nil {
			s = b.oldest(func(_ *stream, e event) bool { return !e.final })
		}
		if s == nil {
			return
		}
		if s.events[0].number > s.sent {
			b.dropped++
		}
		s.drop(1)
		if s.over && len(s.events) == 0 && s.reader == nil {
			delete(b.streams, s.number)
		}
	}
}

// oldest is the stream whose first event is the oldest that may be dropped.
func (b *mailbox) oldest(may func(*stream, event) bool) *stream {
	var found *stream
	for s := range b.all {
		if len(s.events) > 0 && may(s, s.events[0]) && (found == nil || s.events[0].number < found.events[0].number) {
			found = s
		}
	}
	return found
}

func (s *stream) drop(n int) {
	for _, e := range s.events[:n] {
		s.box.events--
		s.box.bytes -= len(e.data)
		if e.asks != nil && e.number > s.sent && s.box.unsent != nil {
			s.box.unsent(e.asks)
		}
	}
	clear(s.events[:n])
	s.events = s.events[n:]
	if len(s.events) == 0 {
		s.events = nil
	}
}

// following is what a connection may expect of its stream.
type following uint8

const (
	more  following = iota // more may come
	none                   // nothing comes any more
	taken                  // another connection has the stream
)

func (s *stream) following(r *reader) following {
	switch {
	case s.reader != r:
		return taken
	case s.over:
		return none
	default:
		return more
	}
}

// next returns what the connection has not been given yet, and what follows. Events
// are kept only where a client may ask for them again.
func (s *stream) next(r *reader) (events []event, then following) {
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	if then = s.following(r); then == taken {
		return nil, then
	}
	for i, e := range s.events {
		if e.number > s.sent {
			events = append(events, s.events[i:]...)
			break
		}
	}
	if len(events) > 0 {
		s.sent = events[len(events)-1].number
	}
	if !s.box.keep || !s.resumable {
		s.drop(len(s.events))
	}
	return events, then
}

// peek returns the first event the connection has not been given, without giving
// it, whether there is one, and what follows.
func (s *stream) peek(r *reader) (e event, ok bool, then following) {
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	if then = s.following(r); then == taken {
		return event{}, false, then
	}
	for _, e := range s.events {
		if e.number > s.sent {
			return e, true, then
		}
	}
	return event{}, false, then
}

// promise says that the client is about to be told event ids.
func (s *stream) promise() {
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	s.resumable = true
}

// eventID names an event of a stream. It is unique in the session.
func (s *stream) eventID(number uint64) string {
	return strconv.FormatUint(s.number, 36) + "-" + strconv.FormatUint(number, 36)
}

// resume finds the stream of an event id and lets a connection have what came
// after that event. It returns nil when there is nothing to come back to.
func (b *mailbox) resume(id string) (*stream, *reader) {
	streamPart, eventPart, _ := strings.Cut(id, "-")
	number, err := strconv.ParseUint(streamPart, 36, 64)
	after, err2 := strconv.ParseUint(eventPart, 36, 64)
	if err != nil || err2 != nil {
		return nil, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.streams[number]
	if s == nil || !s.resumable || after > b.last {
		return nil, nil
	}
	s.sent = after
	return s, s.take()
}

// lost returns how many events nobody was sent, since the last call.
func (b *mailbox) lost() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.dropped
	b.dropped = 0
	return n
}
