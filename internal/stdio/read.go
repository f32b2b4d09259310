package stdio

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"
)

const (
	// readBuffer is the memory a quiet child costs for its output.
	readBuffer = 8 << 10
	// keepLine is the largest buffer for long lines that is held on to.
	keepLine = 64 << 10
	// showLine is how much of a line that is no message is logged.
	showLine = 200
	// endLength is how much of either end of a line that is too long is kept.
	endLength = 512
)

// Lines reads lines of any length with bounded memory. It is not safe for concurrent
// use.
type Lines struct {
	r   *bufio.Reader
	max int
	buf []byte // the beginning of a line longer than the reader's buffer
	// head and tail are the ends of the last line that was skipped.
	head, tail []byte
}

// NewLines returns a reader of lines of at most limit bytes.
func NewLines(r io.Reader, limit int) *Lines {
	return &Lines{r: bufio.NewReaderSize(r, readBuffer), max: limit}
}

// Ends returns the first and the last 512 bytes of the last line that was skipped,
// or what there is. They are good until the next line is skipped.
func (l *Lines) Ends() (head, tail []byte) { return l.head, l.tail }

// Next returns the next line without its end, LF or CR LF, or how long it was when
// it is over the limit. What stands behind the last LF is a line too. The line is
// good until the next call. The error is that of the reader.
func (l *Lines) Next() (line []byte, skipped int64, err error) {
	if cap(l.buf) > keepLine {
		l.buf = nil
	}
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		switch {
		case err == nil && len(l.buf) == 0 && skipped == 0:
			return l.fit(part)
		case skipped > 0:
			skipped += int64(len(part))
			l.keepTail(part)
		case len(l.buf)+len(part) > l.max+len("\r\n"):
			skipped = int64(len(l.buf) + len(part))
			l.keepEnds(append(l.buf, part...))
			l.buf = nil
		default:
			l.buf = append(l.buf, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil && len(l.buf) == 0 && skipped == 0:
			return nil, 0, err
		case skipped > 0:
			return nil, skipped, nil
		default:
			return l.fit(l.buf)
		}
	}
}

func (l *Lines) fit(line []byte) ([]byte, int64, error) {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if len(line) > l.max {
		l.keepEnds(line)
		return nil, int64(len(line)), nil
	}
	return line, 0, nil
}

// keepEnds keeps both ends of a line that is skipped.
func (l *Lines) keepEnds(line []byte) {
	l.head = bytes.Clone(line[:min(len(line), endLength)])
	l.tail = l.tail[:0]
	l.keepTail(line)
}

// keepTail keeps the end of what was kept and part.
func (l *Lines) keepTail(part []byte) {
	l.tail = append(l.tail, part[max(0, len(part)-endLength):]...)
	l.tail = append(l.tail[:0], l.tail[max(0, len(l.tail)-endLength):]...)
}

// readOutput hands every line of standard output that may be a message on, until
// the end. Banners and other noise are logged and skipped.
func (p *Process) readOutput() {
	noise := &limiter{log: p.log}
	l := NewLines(p.stdout, p.config.MaxLine)
	for {
		line, skipped, err := l.Next()
		switch {
		case err != nil:
			p.outputEnded(err)
			return
		case skipped > 0:
			noise.say(slog.LevelWarn, "line skipped: too long", "bytes", skipped, "limit", l.max)
			if p.config.TooLong != nil {
				p.config.TooLong(l.head, l.tail)
			}
			continue
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if line[0] != '{' && line[0] != '[' {
			noise.say(slog.LevelWarn, "line skipped: not JSON", "line", shorten(line))
			continue
		}
		if err := p.config.Receive(line); err != nil {
			noise.say(slog.LevelWarn, "line skipped: not a message", "line", shorten(line), "error", err)
		}
	}
}

// outputEnded ends a child that closed its output: nothing it does now could be
// seen. A server may end the connection that way.
func (p *Process) outputEnded(err error) {
	if errors.Is(err, io.EOF) {
		// Most often it is just about to exit.
		if !p.ends(drainTime) {
			p.end(ErrClosedOutput)
		}
	} else if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, os.ErrClosed) {
		p.log.Warn("output not read", "error", err)
		p.end(err)
	}
}

func shorten(line []byte) string {
	if len(line) > showLine {
		return string(line[:showLine]) + "..."
	}
	return string(line)
}

// maxErrorLine is the longest line of standard error that is logged whole.
const maxErrorLine = 8 << 10

// readErrors logs standard error line by line; nothing there means an error by
// itself (2026-07-28 stdio).
func (p *Process) readErrors() {
	out := &limiter{log: p.log}
	l := NewLines(p.stderr, maxErrorLine)
	for {
		line, skipped, err := l.Next()
		switch {
		case err != nil:
			out.settle()
			return
		case skipped > 0:
			out.say(slog.LevelInfo, "stderr", "bytes", skipped)
		case len(line) > 0:
			out.say(slog.LevelInfo, "stderr", "line", string(line))
		}
	}
}

const (
	burst   = 200 // records at once
	perTick = 50  // records a second after that
)

// limiter bounds what a noisy child can write to our log. It is used by one
// goroutine.
type limiter struct {
	log     *slog.Logger
	left    int
	since   time.Time
	dropped int
}

func (l *limiter) say(level slog.Level, text string, args ...any) {
	now := time.Now()
	if l.since.IsZero() {
		l.left, l.since = burst, now
	}
	if seconds := int(now.Sub(l.since) / time.Second); seconds > 0 {
		l.left = min(burst, l.left+seconds*perTick)
		l.since = now
	}
	if l.left == 0 {
		l.dropped++
		return
	}
	l.settle()
	l.left--
	l.log.Log(context.Background(), level, text, args...)
}

// settle says how many records were left out.
func (l *limiter) settle() {
	if l.dropped > 0 {
		l.log.Warn("log records of the child left out", "count", l.dropped)
		l.dropped = 0
	}
}
