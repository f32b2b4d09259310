package bridge

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// printer writes messages to the client, one on each line, in the order they were
// handed in.
type printer struct {
	w     io.Writer
	lines chan []byte
	stop  chan struct{} // closed when nothing more is taken
	once  sync.Once
	done  chan struct{} // closed when all that was taken is written, or cannot be
	err   error         // set before done is closed
}

// maxQueued is how many messages wait for a client that does not read; who has more
// has to wait, and with it the server that says them.
const maxQueued = 64

func newPrinter(w io.Writer) *printer {
	p := &printer{w: w, lines: make(chan []byte, maxQueued), stop: make(chan struct{}), done: make(chan struct{})}
	go p.run()
	return p
}

func (p *printer) run() {
	defer close(p.done)
	for {
		select {
		case line := <-p.lines:
			if !p.write(line) {
				return
			}
		case <-p.stop:
			p.rest()
			return
		}
	}
}

// rest writes what was taken before the end.
func (p *printer) rest() {
	for {
		select {
		case line := <-p.lines:
			if !p.write(line) {
				return
			}
		default:
			return
		}
	}
}

func (p *printer) write(line []byte) bool {
	n, err := p.w.Write(append(line, '\n'))
	if err == nil && n <= len(line) {
		err = io.ErrShortWrite
	}
	p.err = err
	return err == nil
}

// print takes one line, waiting for its turn. After the end it is lost.
func (p *printer) print(line []byte) {
	select {
	case <-p.stop:
		return
	default:
	}
	select {
	case p.lines <- line:
	case <-p.stop:
	case <-p.done:
	}
}

// shut takes nothing more.
func (p *printer) shut() { p.once.Do(func() { close(p.stop) }) }

// close writes what was taken and ends, within the time given: a client that does not
// read keeps a Write waiting for ever.
func (p *printer) close(limit time.Duration) error {
	p.shut()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-p.done:
		return p.err
	case <-t.C:
		return nil
	}
}

var errNoJSON = errors.New("not valid JSON")

// oneLine makes a message fit for a line: valid JSON in UTF-8, without line ends,
// which can only be white space. The bytes are otherwise as they were. Escapes of half
// a surrogate pair, which JavaScript writes, are valid by RFC 8259.
func oneLine(message []byte) ([]byte, error) {
	message = bytes.TrimSpace(message)
	if !utf8.Valid(message) || !jsontext.Value(message).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
		return nil, errNoJSON
	}
	if bytes.ContainsAny(message, "\r\n") {
		message = bytes.Map(func(r rune) rune {
			if r == '\r' || r == '\n' {
				return ' '
			}
			return r
		}, message)
	}
	return message, nil
}
