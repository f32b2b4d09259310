package message

import (
	"bytes"
	"encoding/binary"
	"slices"
	"unicode/utf8"
)

// Most of a large message is text in a few long strings, over which the decoder
// goes character by character. So the strings are checked here, many bytes at a
// time, and the decoder is given a text in which the long ones are empty. It remains the judge of everything else, and of the whole
// body as it came where anything at all is wrong with it.

const (
	// longString is the shortest inside of a string worth leaving out, in bytes.
	longString = 2 * block
	// block is the step of hasLongStrings, in bytes.
	block = 64
)

// hasLongStrings guesses whether a quarter or more of a body is in long strings:
// of bytes that have no quotation mark near, or an escaped one. It costs next to
// nothing.
func hasLongStrings(body []byte) bool {
	quiet, step := 0, block
	if len(body) > 64*block {
		step = 8 * block // one block of eight will do
	}
	for rest := body; len(rest) >= block; rest = rest[min(step, len(rest)):] {
		if i := bytes.IndexByte(rest[:block], '"'); i < 0 || i > 0 && rest[i-1] == '\\' {
			quiet++
		}
	}
	return quiet > 0 && quiet >= len(body)/(4*step)
}

// cut is a place where the inside of a string was left out.
type cut struct {
	at   int // in the shortened text
	gone int // bytes left out here and before
}

// shorten sets s.view to body without the insides of long strings that are
// values. It reports false, and s.view is the body itself, when there are none,
// and when a string is not valid: then nothing was left out.
//
// A quotation mark outside a string opens one in any text that is JSON up to
// there, so the decoder meets the same tokens in both texts as far as it gets.
func (s *scanner) shorten() bool {
	s.view, s.cuts, s.short = s.body, s.cuts[:0], s.short[:0]
	if !hasLongStrings(s.body) || !utf8.Valid(s.body) {
		return false
	}
	body, from := s.body, 0
	for i := 0; i < len(body); i++ {
		if body[i] != '"' {
			continue
		}
		end := stringEnd(body, i+1)
		if end < 0 {
			s.cuts = s.cuts[:0]
			return false
		}
		if end-i > longString && !isName(body, end+1) {
			s.short = append(s.short, body[from:i+1]...)
			s.cuts = append(s.cuts, cut{at: len(s.short), gone: end - len(s.short)})
			from = end
		}
		i = end
	}
	if len(s.cuts) == 0 {
		return false
	}
	s.short = append(s.short, body[from:]...)
	s.view = s.short
	return true
}

// origin is the place in the body of a place in s.view that is not inside of a
// string.
func (s *scanner) origin(at int) int {
	i, _ := slices.BinarySearchFunc(s.cuts, at, func(c cut, at int) int { return c.at - at })
	if i == 0 {
		return at
	}
	return at + s.cuts[i-1].gone
}

// isName reports whether a string that ends before i is the name of a member:
// those stay, since the decoder compares them.
func isName(body []byte, i int) bool {
	for ; i < len(body); i++ {
		switch body[i] {
		case ' ', '\t', '\r', '\n':
		default:
			return body[i] == ':'
		}
	}
	return false
}

// stringEnd returns where the closing quotation mark of the string is whose
// inside begins at i, or -1 when the string is not valid or does not end: raw
// control characters and unpaired surrogates are not valid. b is valid UTF-8.
func stringEnd(b []byte, i int) int {
	begin := i
	for {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		quote := i + n
		for {
			n = bytes.IndexByte(b[i:quote], '\\')
			if n < 0 {
				// No escape has a control character in it.
				if anyControl(b[begin:quote]) {
					return -1
				}
				return quote
			}
			i += n
			if n = escapeLen(b[i:]); n == 0 {
				return -1
			}
			if i += n; i > quote {
				break // it was the mark that was escaped
			}
		}
	}
}

// anyControl reports whether there is a control character among bytes, 32 at a time.
func anyControl(b []byte) bool {
	for ; len(b) >= 32; b = b[32:] {
		w := b[:32]
		if control(word(w))|control(word(w[8:]))|control(word(w[16:]))|control(word(w[24:])) != 0 {
			return true
		}
	}
	return slices.ContainsFunc(b, func(c byte) bool { return c < ' ' })
}

func word(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// control is not zero when one of eight bytes is a control character. x-n borrows
// from the high bit of a byte of x below n; those that had it set before do not
// count, and without a borrow no byte changes the next.
func control(v uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	return (v - ' '*ones) &^ v & highs
}

// escapeLen is the length of the escape that b begins with, a surrogate pair
// counting as one, or 0 when it is not valid.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		switch first, ok := hex4(b); {
		case !ok || 0xDC00 <= first && first <= 0xDFFF:
			return 0
		case first < 0xD800 || first > 0xDFFF:
			return 6
		}
		if second, ok := hex4(b[6:]); ok && 0xDC00 <= second && second <= 0xDFFF {
			return 12
		}
	}
	return 0
}

// hex4 reads the escape of four hexadecimal digits that b begins with.
func hex4(b []byte) (v rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		v <<= 4
		switch {
		case '0' <= c && c <= '9':
			v |= rune(c - '0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			v |= rune(c | 0x20 - 'a' + 10)
		default:
			return 0, false
		}
	}
	return v, true
}
