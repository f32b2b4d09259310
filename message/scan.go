package message

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth is how deep objects and arrays of a message may nest, the message
// itself being the first.
const MaxDepth = 64

// MaxName is the longest method, name, URI, task id or revision in bytes. They are
// matched, recorded and repeated to people, unlike what they act with.
const MaxName = 16 << 10

// scanner goes over one body. It is pooled: a decoder's tables are worth
// keeping, the body is not.
type scanner struct {
	dec   jsontext.Decoder
	buf   bytes.Buffer
	body  []byte
	view  []byte // what the decoder reads: the body, or s.short
	short []byte // the body without the insides of its long strings; see shorten
	cuts  []cut
	found [slotCount]jsontext.Value

	// first is the first thing wrong with a well-formed message. The scan goes
	// on after it: a later syntax error counts for more, and the id may follow.
	first *Error
	// foreign holds what is wrong inside params.ref and params.notifications,
	// which matters only to the methods that read them.
	foreign [slotCount]*Error
	// doubtfulID is set when some reader could take another member for the id.
	doubtfulID bool
}

var scanners = sync.Pool{New: func() any { return new(scanner) }}

func newScanner(body []byte) *scanner {
	s := scanners.Get().(*scanner)
	s.body = body
	return s
}

// rewind points the decoder at b. It reads from b itself, without a copy, and
// never writes to it: that is what it promises for a bytes.Buffer.
func (s *scanner) rewind(b []byte, options ...jsontext.Options) {
	s.buf = *bytes.NewBuffer(b)
	s.dec.Reset(&s.buf, options...)
}

// maxPooled is the largest body in bytes after which a scanner is kept: the
// tables of names that a larger one can fill are not worth holding on to.
const maxPooled = 256 << 10

func (s *scanner) release() {
	if len(s.body) > maxPooled {
		return
	}
	s.rewind(nil)
	s.body, s.view = nil, nil
	s.forget()
	scanners.Put(s)
}

// forget takes back what a scan has found.
func (s *scanner) forget() {
	s.first, s.doubtfulID = nil, false
	clear(s.found[:])
	clear(s.foreign[:])
}

// refuse keeps the first mistake.
func (s *scanner) refuse(code int, text string) {
	if s.first == nil {
		s.first = badRequest(code, text)
	}
}

// scan reads the whole body: one JSON object and nothing else. What it returns
// is a syntax error; mistakes of shape are kept in s.first.
func (s *scanner) scan() error {
	if s.shorten() {
		if s.scanText() == nil {
			return nil
		}
		// What is wrong, and where, is for the body as it came to tell.
		s.forget()
		s.view, s.cuts = s.body, s.cuts[:0]
	}
	return s.scanText()
}

func (s *scanner) scanText() error {
	s.rewind(s.view)
	if s.dec.PeekKind() != '{' {
		if _, err := s.dec.ReadValue(); err != nil {
			return err
		}
		s.refuse(CodeInvalidRequest, "the message must be a JSON object")
		return s.end()
	}
	if _, err := s.dec.ReadToken(); err != nil {
		return err
	}
	if err := s.walk(rootObject, slotCount); err != nil {
		return err
	}
	return s.end()
}

// errTrailing is what follows a complete value.
var errTrailing = errors.New("data after the message")

func (s *scanner) end() error {
	if _, err := s.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errTrailing
	}
	return nil
}

// walk reads the members of o, whose opening brace has been read, and its
// closing brace. within is the slot of o itself.
func (s *scanner) walk(o *object, within slot) error {
	for s.dec.PeekKind() != '}' {
		name, err := s.dec.ReadValue()
		if err != nil {
			return err
		}
		m := s.identify(o, within, name)
		if err := s.value(m); err != nil {
			return err
		}
	}
	_, err := s.dec.ReadToken()
	return err
}

// parentMember is the name under which a program in JavaScript that copies an
// object by assignment gives it members that the message does not have.
const parentMember = "__proto__"

// identify says which known member a name is, and refuses one that only some
// reader would take for it: libraries that match names without regard to case
// would see another message than the one that was authorised.
func (s *scanner) identify(o *object, within slot, quoted jsontext.Value) *member {
	name := unquote(quoted)
	for i := range o.members {
		if string(name) == o.members[i].name {
			return &o.members[i]
		}
	}
	for i := range o.members {
		if foldsTo(name, o.members[i].name) {
			if o.members[i].slot == slotID {
				s.doubtfulID = true
			}
			s.refuseIn(o, within, "a member of "+o.path+" differs from "+o.members[i].name+" only in case")
			return nil
		}
	}
	if string(name) == parentMember {
		s.doubtfulID = s.doubtfulID || o == rootObject
		s.refuseIn(o, within, "a member of "+o.path+" is called "+parentMember)
		return nil
	}
	if hasControl(name) {
		// A reader in C would end the name at its NUL.
		s.doubtfulID = s.doubtfulID || o == rootObject
		s.refuseIn(o, within, "the name of a member of "+o.path+" holds a control character")
	}
	return nil
}

// refuseIn keeps a mistake in the names of o.
func (s *scanner) refuseIn(o *object, within slot, text string) {
	switch o {
	case rootObject:
		s.refuse(CodeInvalidRequest, text)
	case refObject, notificationsObject:
		if s.foreign[within] == nil {
			s.foreign[within] = badRequest(CodeInvalidParams, text)
		}
	default:
		s.refuse(CodeInvalidParams, text)
	}
}

// value reads the value of m, nil for a member of no interest.
func (s *scanner) value(m *member) error {
	if m != nil && m.inside != nil && s.dec.PeekKind() == '{' {
		if _, err := s.dec.ReadToken(); err != nil {
			return err
		}
		start := s.origin(int(s.dec.InputOffset()) - 1)
		if err := s.walk(m.inside, m.slot); err != nil {
			return err
		}
		end := s.origin(int(s.dec.InputOffset()))
		s.found[m.slot] = s.body[start:end:end]
		return nil
	}
	v, err := s.dec.ReadValue()
	if err != nil {
		return err
	}
	if tooDeep(v, MaxDepth-s.dec.StackDepth()) {
		s.refuse(CodeInvalidRequest, depthText)
	}
	if m != nil {
		after := int(s.dec.InputOffset())
		start, end := s.origin(after-len(v)), s.origin(after)
		s.found[m.slot] = s.body[start:end:end]
	}
	return nil
}

var depthText = "the message nests deeper than " + strconv.Itoa(MaxDepth) + " levels"

// tooDeep reports whether a valid JSON value nests deeper than room. Counting
// brackets first makes that nearly free for all but large structures.
func tooDeep(raw []byte, room int) bool {
	if len(raw) <= 2*room || bytes.Count(raw, []byte{'{'})+bytes.Count(raw, []byte{'['}) <= room {
		return false
	}
	return nestsDeeper(raw, room)
}

// nestsDeeper walks the brackets of raw, which is valid JSON or the valid
// beginning of some.
func nestsDeeper(raw []byte, room int) bool {
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			for i++; i < len(raw) && raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if depth++; depth > room {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// unquote decodes a valid JSON string; without escapes the result aliases it.
func unquote(quoted jsontext.Value) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	name, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil {
		return nil // not reached: the decoder has accepted the string
	}
	return name
}

// foldsTo reports whether name equals the ASCII text known when case is
// ignored: under Unicode folding, which takes U+017F for s and U+212A for k,
// and for the two Turkish letters that Java takes for i.
func foldsTo(name []byte, known string) bool {
	i := 0
	for len(name) > 0 {
		r, n := rune(name[0]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(name)
		}
		name = name[n:]
		if i == len(known) || foldASCII(r) != foldASCII(rune(known[i])) {
			return false
		}
		i++
	}
	return i == len(known)
}

func foldASCII(r rune) rune {
	switch {
	case 'A' <= r && r <= 'Z':
		return r + 'a' - 'A'
	case r == 0x17F:
		return 's'
	case r == 0x212A:
		return 'k'
	case r == 0x130, r == 0x131:
		return 'i'
	}
	return r
}

// hasControl reports whether text holds NUL, another C0 control, DEL or a C1
// control.
func hasControl(text []byte) bool {
	for i := 0; i < len(text); {
		r, n := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(text[i:])
		}
		if unicode.IsControl(r) {
			return true
		}
		i += n
	}
	return false
}
