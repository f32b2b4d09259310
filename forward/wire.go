package forward

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// wire speaks HTTP/1.1 in plain text to one address, each request on the goroutine
// that brings it: http.Transport hands it to two others and back, which costs more
// than all of the gateway's own work (docs/decisions/0018-own-connections.md).
// What is sent and read is net/http's (Request.Write, ReadResponse).
// It is an http.RoundTripper, safe for concurrent use.
type wire struct {
	address string
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	header  time.Duration // bounds the wait for the header of an answer; 0: not
	idleFor time.Duration
	maxIdle int

	mu     sync.Mutex // guards the rest
	idle   []*wireConn
	sweep  *time.Timer // nil while nothing is idle
	closed bool
}

// wireConn is a connection, of one request at a time.
type wireConn struct {
	net.Conn
	in    *bufio.Reader
	left  int64 // of the header's limit, in bytes; see Read
	broke error // of the last read; net/http takes half a header for a bad one
	since time.Time
	alive func() bool
}

// unlimited is left while a body is read.
const unlimited = 1 << 62

// errHeaderTooLong is an answer whose header is longer than maxResponseHeader.
var errHeaderTooLong = fmt.Errorf("the header of the upstream's answer is longer than %d bytes", maxResponseHeader)

// errUnanswered is a connection that ended before a byte of the answer came.
var errUnanswered = errors.New("the upstream closed the connection before it answered")

// Read reads what the upstream sends, of a header no more than its limit.
func (c *wireConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		c.broke = errHeaderTooLong
		return 0, errHeaderTooLong
	}
	n, err := c.Conn.Read(p)
	c.left -= int64(n)
	c.broke = err
	return n, err
}

// ReadFrom sends a body in memory as it lies there, and not through a buffer of
// 32 KiB that is allocated for it (io.ReaderFrom).
func (c *wireConn) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		if body, ok := limited.R.(*bytes.Reader); ok && int64(body.Len()) <= limited.N {
			n, err := body.WriteTo(c.Conn)
			limited.N -= n
			return n, err
		}
	}
	return io.Copy(c.Conn, r)
}

// RoundTrip sends a request and reads the header of its answer. One that may have been
// carried out, as a POST may, is never sent a second time. Others are, where a
// connection turns out to have been closed by the upstream.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := sendable(r); err != nil {
		return nil, err
	}
	for {
		if r.Context().Err() != nil { // nothing is sent for who has gone
			return nil, context.Cause(r.Context())
		}
		c, used, err := w.take(r.Context())
		if err != nil {
			return nil, err
		}
		res, err := w.exchange(c, r)
		if !errors.Is(err, errUnanswered) || !used || !repeatable(r) {
			return res, err
		}
	}
}

// repeatable reports whether a request may be sent again: it is idempotent (RFC 9110
// §9.2.2), and has no body, which would have been read.
func repeatable(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodDelete:
		return r.Body == nil || r.Body == http.NoBody
	}
	return false
}

// sendable looks at what Request.Write does not: what would be read as more than a
// method and a header.
func sendable(r *http.Request) error {
	if !httpguts.ValidHeaderFieldName(r.Method) { // a token as well
		return fmt.Errorf("the method %q cannot be sent", r.Method)
	}
	for name, values := range r.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("the header name %q cannot be sent", name)
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return fmt.Errorf("the header value of %s cannot be sent", name) // it may be a secret
			}
		}
	}
	return nil
}

// exchange is a request and the header of its answer on a connection, which it owns.
func (w *wire) exchange(c *wireConn, r *http.Request) (*http.Response, error) {
	x := &exchange{w: w, c: c, ctx: r.Context()}
	x.stop = context.AfterFunc(x.ctx, c.abort)
	sendErr := x.send(r)
	res, err := x.answer(r)
	if err != nil {
		err = x.explain(sendErr, err)
		x.end(false)
		return nil, err
	}
	// After an answer below 200, such as 101, it may speak something else.
	x.reuse = !res.Close && !r.Close && sendErr == nil && res.StatusCode >= 200
	if x.body = res.Body; x.body == http.NoBody {
		x.end(true)
		return res, nil
	}
	res.Body = x
	return res, nil
}

// explain says why there is no answer.
func (x *exchange) explain(sendErr, err error) error {
	late := errors.Is(x.c.broke, os.ErrDeadlineExceeded)
	switch {
	case x.ctx.Err() != nil:
		return context.Cause(x.ctx)
	case late && sendErr != nil:
		return sendErr
	case late, errors.Is(x.c.broke, errHeaderTooLong):
		return x.c.broke
	case x.c.left == maxResponseHeader:
		return fmt.Errorf("%w: %w", errUnanswered, errors.Join(sendErr, err))
	case x.c.broke != nil:
		return fmt.Errorf("the upstream closed the connection within the header of its answer: %w", x.c.broke)
	}
	return err
}

// abort has reads and writes end at once.
func (c *wireConn) abort() { _ = c.SetDeadline(time.Unix(1, 0)) }

// exchange is one request on a connection. It is the body of the answer, and gives the
// connection back at its end.
type exchange struct {
	w    *wire
	c    *wireConn
	ctx  context.Context
	stop func() bool   // ends the watch over ctx
	body io.ReadCloser // of the answer, as net/http reads it
	err  error         // that reading it ended with

	sending chan error // of a body that is sent beside; nil: it has been sent
	memory  bool       // of that body: it is in memory
	reuse   bool       // what was sent and the header of the answer allow it
	over    atomic.Bool
}

// sentInline is up to how long a body is sent before its answer is looked for, in
// bytes. An upstream may answer a longer one before it has read it.
const sentInline = 64 << 10

// send sends the request. An error is not the last word: there may be an answer.
func (x *exchange) send(r *http.Request) error {
	if x.w.header > 0 {
		_ = x.c.SetReadDeadline(time.Now().Add(x.w.header))
	}
	if r.ContentLength >= 0 && r.ContentLength <= sentInline {
		return x.c.write(r)
	}
	_, lent := r.Body.(*lentBody)
	x.memory = !lent
	x.sending = make(chan error, 1)
	go func() { x.sending <- x.c.write(r) }()
	return nil
}

var writers = sync.Pool{New: func() any { return bufio.NewWriter(nil) }}

// write sends a request. When it cannot, an answer that explains it is there at once,
// or never.
func (c *wireConn) write(r *http.Request) error {
	out := writers.Get().(*bufio.Writer)
	defer writers.Put(out)
	out.Reset(c)
	defer out.Reset(nil)
	err := r.Write(out)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		_ = c.SetReadDeadline(time.Now().Add(soon))
	}
	return err
}

// maxInformational is how many headers are read in search of one that is final.
const maxInformational = 5

// answer reads the header of the answer.
func (x *exchange) answer(r *http.Request) (*http.Response, error) {
	for range maxInformational {
		x.c.left = maxResponseHeader
		res, err := http.ReadResponse(x.c.in, r)
		switch {
		case err != nil:
			return nil, err
		case res.StatusCode >= 100 && res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols:
			continue
		}
		x.c.left = unlimited
		if x.w.header > 0 {
			_ = x.c.SetReadDeadline(time.Time{})
		}
		if err := x.ctx.Err(); err != nil { // whose deadline may just have been taken away
			return nil, err
		}
		return res, nil
	}
	return nil, errors.New("the upstream sends one informational answer after another")
}

// Read reads the body of the answer. What broke off or was closed never looks whole.
func (x *exchange) Read(p []byte) (int, error) {
	switch {
	case x.err != nil:
		return 0, x.err
	case x.over.Load():
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := x.body.Read(p)
	if err != nil {
		complete := errors.Is(err, io.EOF)
		if !complete && x.ctx.Err() != nil {
			err = context.Cause(x.ctx)
		}
		x.err = err
		x.end(complete)
	}
	return n, err
}

// Close ends the exchange. A connection whose answer has not been read is closed.
func (x *exchange) Close() error {
	x.end(false)
	return nil
}

// soon is how long one half of an exchange is waited for when the other is over.
const soon = 50 * time.Millisecond

// end gives the connection back, or closes it. Nobody reads a body in memory after
// that.
func (x *exchange) end(complete bool) {
	if x.over.Swap(true) {
		return
	}
	reuse := x.stop() && complete && x.reuse && x.c.in.Buffered() == 0
	if x.sending != nil {
		reuse = x.sent(reuse)
	}
	if !reuse {
		_ = x.c.Close()
		return
	}
	x.w.put(x.c)
}

// sent waits for a body that is sent beside, and reports whether the connection is as
// good as before. There is no waiting for a body that is not in memory.
func (x *exchange) sent(reuse bool) bool {
	if !reuse || !x.memory {
		_ = x.c.Close()
	}
	if !x.memory {
		return false
	}
	if reuse {
		_ = x.c.SetWriteDeadline(time.Now().Add(soon))
	}
	if err := <-x.sending; err != nil || !reuse {
		return false
	}
	return x.c.SetWriteDeadline(time.Time{}) == nil
}

// take returns a connection, and whether it has been used before.
func (w *wire) take(ctx context.Context) (*wireConn, bool, error) {
	for {
		c := w.pop()
		if c == nil {
			break
		}
		if time.Since(c.since) < w.idleFor && c.alive() {
			return c, true, nil
		}
		_ = c.Close()
	}
	conn, err := w.dial(ctx, "tcp", w.address)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, false, context.Cause(ctx)
	case err != nil:
		return nil, false, err
	}
	c := &wireConn{Conn: conn, alive: quiet(conn)}
	c.in = bufio.NewReader(c)
	return c, false, nil
}

// pop is the connection that was given back last.
func (w *wire) pop() *wireConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := len(w.idle) - 1
	if last < 0 {
		return nil
	}
	c := w.idle[last]
	w.idle[last], w.idle = nil, w.idle[:last]
	return c
}

// put keeps a connection for the next request.
func (w *wire) put(c *wireConn) {
	c.since = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) >= w.maxIdle || w.idleFor <= 0 {
		_ = c.Close()
		return
	}
	w.idle = append(w.idle, c)
	if w.sweep == nil {
		w.sweep = time.AfterFunc(w.idleFor, w.closeOld)
	}
}

// closeOld closes what has been idle for too long, and comes back while there is more.
func (w *wire) closeOld() {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := 0
	for old < len(w.idle) && time.Since(w.idle[old].since) >= w.idleFor {
		_ = w.idle[old].Close()
		old++
	}
	w.idle = append(w.idle[:0], w.idle[old:]...)
	clear(w.idle[len(w.idle):cap(w.idle)])
	if w.sweep = nil; len(w.idle) > 0 {
		w.sweep = time.AfterFunc(w.idleFor-time.Since(w.idle[0].since), w.closeOld)
	}
}

// CloseIdleConnections closes the connections that are idle, and those of requests
// under way when they are done.
func (w *wire) CloseIdleConnections() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, c := range w.idle {
		_ = c.Close()
	}
	if w.idle = nil; w.sweep != nil {
		w.sweep.Stop()
	}
}
