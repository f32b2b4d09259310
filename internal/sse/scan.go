// Package sse reads and writes event streams (text/event-stream, WHATWG HTML
// §9.2) without losing a byte: every event keeps the exact bytes it came in, so
// that what is not changed is passed on as it was.
package sse

import (
	"bytes"
	"fmt"
)

// DefaultMax is the largest event a Scanner takes, in bytes, unless told
// otherwise: 16 MiB.
const DefaultMax = 16 << 20

// keepBuffer is the largest buffer an idle Scanner holds on to.
const keepBuffer = 4 << 10

// Event is one event of a stream. Its slices alias the scanner's memory or the
// chunk that was fed and are good until the function it was given to returns.
type Event struct {
	// Raw is the event as it came, with the blank line that ends it. The Raw of
	// all events in order, followed by what End returns, are the stream.
	Raw []byte
	// Data is the value of the data lines, joined by line feeds.
	Data []byte
	// ID is the value of the last valid id line of this event, nil when it has
	// none. It is not carried over from earlier events.
	ID []byte
	// Type is the value of the last event line, nil when there is none.
	Type []byte
	// HasData reports whether there was a data line at all. A client dispatches
	// such events only, also when Data is empty.
	HasData bool
	// BOM reports whether Raw begins with a byte order mark, which only the
	// first event of a stream can. Whoever sends something before it has to
	// leave those three bytes out.
	BOM bool
}

// TooLargeError says that an event grew over the limit before it ended.
type TooLargeError struct {
	// Max is the limit in bytes.
	Max int
}

// Error names the limit.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("an event of the stream is over %d bytes", e.Max)
}

// Scanner splits an event stream, fed in chunks of any size, into events. The
// zero Scanner is ready to use. It is not safe for concurrent use.
type Scanner struct {
	// Max is the largest event taken, in bytes; 0 means DefaultMax.
	Max int

	buf     []byte // the beginning of an event that has not ended
	scanned int    // how much of buf has been searched for its end
	begun   bool   // past the byte order mark, or sure that there is none
	bom     bool   // the next event is the first, and has one
	inLine  bool   // the line at scanned has begun
	skipLF  bool   // the last byte was a CR: a LF that follows belongs to it
	joined  []byte // Data of events with several data lines
}

// Feed takes the next chunk and calls yield for every event that ends in it, at
// once also where the last line end is a lone CR (the LF that may follow then
// begins the next Raw, and means nothing). A chunk that holds whole events is
// not copied. It stops at the first error of yield and returns it, or returns a
// *TooLargeError; the Scanner must not be fed after an error.
func (s *Scanner) Feed(chunk []byte, yield func(Event) error) error {
	data := chunk
	if len(s.buf) > 0 {
		s.buf = append(s.buf, chunk...)
		data = s.buf
	}
	if !s.begun {
		n, sure := markLen(data)
		if !sure {
			s.keep(data)
			s.scanned = 0
			return nil
		}
		s.begun, s.bom, s.scanned = true, n > 0, n
	}
	start, pos := 0, s.scanned
	for {
		end := s.findEnd(data, pos)
		if end < 0 {
			break
		}
		if end-start > s.limit() {
			return &TooLargeError{s.limit()}
		}
		if err := yield(s.parse(data[start:end])); err != nil {
			return err
		}
		start, pos = end, end
	}
	if len(data)-start > s.limit() {
		return &TooLargeError{s.limit()}
	}
	s.keep(data[start:])
	return nil
}

// End is called when the stream has ended and returns the bytes after the last
// event as an event of its own; ok is false when there are none. A conforming
// client discards it, as no blank line ends it, but not every client conforms.
func (s *Scanner) End() (ev Event, ok bool) {
	rest := s.buf
	if len(rest) == 0 {
		return Event{}, false
	}
	s.buf, s.scanned = nil, 0
	return s.parse(rest), true
}

// Buffered is how many bytes of an unfinished event are held.
func (s *Scanner) Buffered() int { return len(s.buf) }

func (s *Scanner) limit() int {
	if s.Max > 0 {
		return s.Max
	}
	return DefaultMax
}

// keep holds on to the beginning of an event, and to little when there is none.
func (s *Scanner) keep(rest []byte) {
	s.scanned = len(rest)
	if len(rest) == 0 && cap(s.buf) > keepBuffer {
		s.buf = nil
		return
	}
	s.buf = append(s.buf[:0], rest...)
}

// findEnd returns the index after the blank line that ends the event, searching
// from pos, or -1. The state of the line at hand is kept between calls.
func (s *Scanner) findEnd(data []byte, pos int) int {
	for pos < len(data) {
		if s.skipLF {
			s.skipLF = false
			if data[pos] == '\n' {
				pos++
				continue
			}
		}
		n := lineEnd(data[pos:])
		if n < 0 {
			s.inLine = true
			return -1
		}
		blank := n == 0 && !s.inLine
		pos += n
		s.inLine = false
		if data[pos] == '\r' {
			s.skipLF = true
		}
		pos++
		if !blank {
			continue
		}
		if s.skipLF && pos < len(data) {
			s.skipLF = false
			if data[pos] == '\n' {
				pos++
			}
		}
		return pos
	}
	return -1
}

// parse reads the fields of a whole event.
func (s *Scanner) parse(raw []byte) Event {
	ev := Event{Raw: raw, BOM: s.bom}
	lines := raw
	if s.bom {
		lines, s.bom = raw[len(mark):], false
	}
	several := false
	for len(lines) > 0 {
		line, rest := cutLine(lines)
		lines = rest
		name, value := field(line)
		switch string(name) {
		case "data":
			switch {
			case !ev.HasData:
				ev.Data, ev.HasData = value, true
			case !several:
				several = true
				s.joined = append(append(append(s.joined[:0], ev.Data...), '\n'), value...)
			default:
				s.joined = append(append(s.joined, '\n'), value...)
			}
		case "event":
			ev.Type = value
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				ev.ID = value
			}
		}
	}
	if several {
		ev.Data = s.joined
		if cap(s.joined) > keepBuffer {
			s.joined = nil // the event has it now
		}
	}
	return ev
}

var mark = []byte("\xEF\xBB\xBF")

// markLen is the length of the byte order mark data begins with; not sure while
// more bytes are needed to tell.
func markLen(data []byte) (n int, sure bool) {
	if bytes.HasPrefix(data, mark) {
		return len(mark), true
	}
	return 0, !bytes.HasPrefix(mark, data)
}

// lineEnd is the index of the first CR or LF, or -1.
func lineEnd(b []byte) int {
	lf := bytes.IndexByte(b, '\n')
	if lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// cutLine splits off the first line; its end, if there is one, is dropped.
func cutLine(b []byte) (line, rest []byte) {
	n := lineEnd(b)
	if n < 0 {
		return b, nil
	}
	line, rest = b[:n], b[n+1:]
	if b[n] == '\r' && len(rest) > 0 && rest[0] == '\n' {
		rest = rest[1:]
	}
	return line, rest
}

// field splits a line into name and value. A line without a colon is a name
// with an empty value; a comment has an empty name.
func field(line []byte) (name, value []byte) {
	name, value, _ = bytes.Cut(line, []byte{':'})
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	if value == nil {
		value = line[len(line):]
	}
	return name, value
}
