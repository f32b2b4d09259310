package envelope

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// errSyntax says that a line is no JSON.
var errSyntax = errors.New("no JSON")

// maxDepth is how deep objects and arrays may nest.
const maxDepth = 1000

// scanner goes through one JSON text (RFC 8259) and holds its grammar, but for
// invalid UTF-8 and lone surrogates in strings. Messages pass through it twice a
// call, so it looks at eight bytes at a time.
type scanner struct {
	b     []byte
	at    int
	depth int
}

// space skips white space.
func (s *scanner) space() {
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// peek is the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.at < len(s.b) {
		return s.b[s.at]
	}
	return 0
}

// list goes through an object or array, whose opening it is at: member is called
// at each of its members, and reads it.
func (s *scanner) list(end byte, member func() error) error {
	s.at++
	if s.depth++; s.depth > maxDepth {
		return errSyntax
	}
	if s.space(); s.peek() == end {
		s.at++
		s.depth--
		return nil
	}
	for {
		if err := member(); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.at++
			s.space()
		case end:
			s.at++
			s.depth--
			return nil
		default:
			return errSyntax
		}
	}
}

// name reads the name of a member and what stands before its value.
func (s *scanner) name() (quoted []byte, err error) {
	from := s.at
	if s.peek() != '"' {
		return nil, errSyntax
	}
	if err := s.text(); err != nil {
		return nil, err
	}
	quoted = s.b[from:s.at]
	if s.space(); s.peek() != ':' {
		return nil, errSyntax
	}
	s.at++
	s.space()
	return quoted, nil
}

// value skips any value.
func (s *scanner) value() error {
	switch s.peek() {
	case '"':
		return s.text()
	case '{':
		return s.list('}', s.member)
	case '[':
		return s.list(']', s.value)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

func (s *scanner) member() error {
	if _, err := s.name(); err != nil {
		return err
	}
	return s.value()
}

func (s *scanner) word(w string) error {
	if len(s.b)-s.at < len(w) || string(s.b[s.at:s.at+len(w)]) != w {
		return errSyntax
	}
	s.at += len(w)
	return nil
}

// number skips a number.
func (s *scanner) number() error {
	if s.peek() == '-' {
		s.at++
	}
	if s.peek() == '0' {
		s.at++
	} else if s.digits() == 0 {
		return errSyntax
	}
	if s.peek() == '.' {
		s.at++
		if s.digits() == 0 {
			return errSyntax
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.at++
		if c := s.peek(); c == '+' || c == '-' {
			s.at++
		}
		if s.digits() == 0 {
			return errSyntax
		}
	}
	return nil
}

func (s *scanner) digits() (n int) {
	for '0' <= s.peek() && s.peek() <= '9' {
		s.at++
		n++
	}
	return n
}

// text skips a string.
func (s *scanner) text() error {
	s.at++
	for {
		s.plain()
		switch c := s.peek(); {
		case c == '"':
			s.at++
			return nil
		case c != '\\': // a control character, or the end
			return errSyntax
		}
		s.at++
		switch s.peek() {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			s.at++
		case 'u':
			s.at++
			for range 4 {
				if !isHex(s.peek()) {
					return errSyntax
				}
				s.at++
			}
		default:
			return errSyntax
		}
	}
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }

// each has one value in all eight bytes.
const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// plain skips what stands for itself in a string: up to a quotation mark, a
// backslash, a control character, or the end.
func (s *scanner) plain() {
	b, at := s.b, s.at
	for ; at+8 <= len(b); at += 8 {
		x := binary.LittleEndian.Uint64(b[at:])
		quote, slash := x^'"'*ones, x^'\\'*ones
		// The highest bit of the lowest byte that is less than a space, a
		// quotation mark or a backslash; those above it may be wrong.
		if hit := ((x-' '*ones)&^x | (quote-ones)&^quote | (slash-ones)&^slash) & highs; hit != 0 {
			s.at = at + bits.TrailingZeros64(hit)/8
			return
		}
	}
	for ; at < len(b); at++ {
		if c := b[at]; c < ' ' || c == '"' || c == '\\' {
			break
		}
	}
	s.at = at
}
