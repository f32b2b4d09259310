package relay

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
)

// look is what a body is by its first bytes.
type look uint8

const (
	unsure  look = iota // too few bytes to tell
	message             // may be a JSON-RPC message, or a list of them
	events              // an event stream
	other               // neither
)

var byteOrderMark = []byte("\xEF\xBB\xBF")

// eventFields are what the lines of an event stream begin with.
var eventFields = []string{"data", "event", "id", "retry", ":"}

// lookAt tells what a body is by its beginning; a media type is only believed
// where it says event stream, as nothing may pass unseen for having an odd one.
func lookAt(b []byte, labelled bool) look {
	rest := bytes.TrimLeft(bytes.TrimPrefix(b, byteOrderMark), " \t\r\n")
	switch {
	case len(rest) > 0 && opensMessage(rest[0]) && !isPartOfMark(b):
		return message
	case labelled:
		return events
	case len(rest) == 0 || isPartOfMark(b):
		return unsure
	}
	for _, f := range eventFields {
		if bytes.HasPrefix(rest, []byte(f)) {
			if len(rest) == len(f) && f != ":" {
				return unsure
			}
			if f == ":" || bytes.IndexByte([]byte(":\r\n"), rest[len(f)]) >= 0 {
				return events
			}
		}
		if len(rest) < len(f) && string(rest) == f[:len(rest)] {
			return unsure
		}
	}
	return other
}

func isPartOfMark(b []byte) bool {
	return len(b) > 0 && len(b) < len(byteOrderMark) && bytes.HasPrefix(byteOrderMark, b)
}

// opensMessage reports whether text that begins with c may be read as a JSON
// object or array: directly, or because c begins a byte order mark or a
// character of UTF-16 or UTF-32, which some clients detect.
func opensMessage(c byte) bool {
	switch c {
	case '{', '[', 0x00, 0xFE, 0xFF:
		return true
	}
	return false
}

// isMessage reports whether data is a message, by its first byte.
func isMessage(data []byte) bool {
	rest := bytes.TrimLeft(bytes.TrimPrefix(data, byteOrderMark), " \t\r\n")
	return len(rest) > 0 && opensMessage(rest[0])
}

// inspect shows a message to the hook. It returns nil when it is to be sent as
// it came; an empty slice that is not nil drops it.
func (w *Writer) inspect(data []byte) ([]byte, error) {
	if w.o.Message == nil || !isMessage(data) {
		return nil, nil
	}
	msg := bytes.TrimPrefix(data, byteOrderMark)
	out, err := w.o.Message(msg, w.sent)
	switch {
	case err != nil:
		return nil, err
	case len(out) == len(msg) && &out[0] == &msg[0]:
		return nil, nil
	case out == nil:
		return []byte{}, nil
	}
	return out, nil
}

// decide finds out what the body is and goes on accordingly.
func (w *Writer) decide(p []byte) {
	if len(w.held) > 0 {
		w.held = append(w.held, p...)
		p = w.held
	}
	is := lookAt(p, w.labelled)
	if is == unsure && len(p) > w.o.Inspect {
		is = message
	}
	if is == unsure {
		if len(w.held) == 0 {
			w.held = append(takeBuffer(), p...)
		}
		return
	}
	w.held = nil // p has it
	switch is {
	case message:
		w.labelled = false
		w.rush.allow(false, w.w)
		w.phase = holding
		w.hold(p)
	case events:
		if w.phase = streaming; !w.labelled {
			w.beginStream()
		}
		w.feed(p)
	default:
		w.pass(p)
	}
}

// hold collects a body for Message, as far as the limits go.
func (w *Writer) hold(p []byte) {
	size := max(int64(len(w.held)+len(p)), w.length)
	switch {
	case w.o.Whole && size > int64(w.o.MaxMessage):
		w.stop(&UpstreamError{tooLarge(w.o.MaxMessage)})
	case !w.o.Whole && size > int64(w.o.Inspect):
		w.pass(p)
	default:
		if w.held == nil {
			w.held = takeBuffer()
		}
		w.held = append(w.held, p...)
	}
}

// unseen asks whether a body that Message does not see may be sent.
func (w *Writer) unseen() error {
	if w.o.Other == nil {
		return nil
	}
	return w.o.Other()
}

// pass sends what was held and p, and from now on everything as it comes.
func (w *Writer) pass(p []byte) {
	if err := w.unseen(); err != nil {
		w.stop(err)
		return
	}
	w.phase = passing
	if w.length >= 0 {
		w.out.Set("Content-Length", strconv.FormatInt(w.length, 10))
	}
	w.sendHeader()
	w.send(w.held)
	giveBuffer(w.held)
	w.held = nil
	w.send(p)
}

// finishBody sends a body that was held whole, or an answer without one.
func (w *Writer) finishBody() {
	body := w.held
	if w.length >= 0 && w.length != int64(len(body)) && !w.head {
		w.stop(&UpstreamError{fmt.Errorf("%w: %d of %d bytes", ErrBrokeOff, len(body), w.length)})
		return
	}
	out, err := w.inspect(body)
	if err == nil && !isMessage(body) {
		err = w.unseen()
	}
	if err != nil {
		w.stop(err)
		return
	}
	if out == nil {
		out = body
	} else {
		for _, name := range validators {
			w.out.Del(name)
		}
	}
	if !w.head && (len(body) > 0 || w.length >= 0) {
		w.out.Set("Content-Length", strconv.Itoa(len(out)))
	}
	w.phase = passing
	w.sendHeader()
	w.send(out)
}

// validators are the headers that speak about the exact bytes of a body.
var validators = []string{"Etag", "Last-Modified", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest", "Content-Range", "Accept-Ranges"}

// maxPooled is the largest buffer that is kept for another answer, in bytes.
const maxPooled = 128 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

func takeBuffer() []byte { return (*buffers.Get().(*[]byte))[:0] }

func giveBuffer(b []byte) {
	if cap(b) > 0 && cap(b) <= maxPooled {
		buffers.Put(&b)
	}
}
