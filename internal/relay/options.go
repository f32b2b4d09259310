// Package relay brings the answer of an MCP upstream, any http.Handler, back to
// the client: every JSON-RPC message in it, in a JSON body or in the events of a
// stream, passes a hook; what the hook leaves alone is sent on byte for byte; and
// as long as nothing has been sent the whole answer can still be refused.
package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	// DefaultInspect is the largest body looked at when Options.Whole is not
	// set, in bytes.
	DefaultInspect = 64 << 10
	// DefaultMaxMessage is the largest message held at all, in bytes.
	DefaultMaxMessage = 16 << 20
	// DefaultKeepAlive is the pause after which a quiet stream gets a comment.
	DefaultKeepAlive = 15 * time.Second
	// DefaultHold is how long the header of a stream waits for a first message.
	DefaultHold = 5 * time.Second
)

// Options are what a Writer does besides passing on. All hooks are optional, are
// called one at a time, must not call methods of the Writer, and must not keep
// what they are given.
type Options struct {
	// Header sees the status and header of the answer once, before its body and
	// before anything is sent. h is the upstream's header with what the client's
	// ResponseWriter already holds laid over it; what is left in h is sent. An
	// error refuses the answer.
	Header func(status int, h http.Header) error
	// Message sees each message: a body that is a JSON object or array by its
	// first byte, whatever its media type and status, and the data of each event
	// of which that is true. Text in another Unicode encoding, which some
	// clients take for JSON, is a message too. The bytes it returns are sent
	// instead; msg itself is sent as it came; nothing drops the message. While
	// sent is false an error refuses the answer; afterwards it drops the message
	// and ends the stream with Broken.
	Message func(msg []byte, sent bool) ([]byte, error)
	// EventID gives an event its id anew; it sees every one that is not empty. An
	// event whose new id is empty loses it.
	EventID func(id []byte) []byte
	// Other is told, before anything is sent, that the body is no message and
	// will not be seen by Message, or that there is none. An error refuses the
	// answer.
	Other func() error
	// Whole wants bodies of any size up to MaxMessage seen by Message, and larger
	// ones refused. Without it a body over Inspect is streamed on unseen.
	Whole bool
	// Inspect is the largest body seen without Whole; 0 means DefaultInspect.
	Inspect int
	// MaxMessage is the largest body seen with Whole, and the largest event of
	// any stream; 0 means DefaultMaxMessage.
	MaxMessage int
	// Stream says that the request was the GET that opens a stream: the header of
	// an event stream is sent at once, so that the client sees it open.
	Stream bool
	// Hold is how long the header of an event stream is held back for its first
	// message; 0 means DefaultHold, negative not at all.
	Hold time.Duration
	// KeepAlive is the pause after which a quiet event stream gets a comment,
	// between events only; 0 means DefaultKeepAlive, negative never.
	KeepAlive time.Duration
	// Expire, unless zero, is when an event stream is ended (DES-43): the bytes
	// of Last are sent, Cancel is called, and the handler's writes fail. An answer
	// that is not an event stream goes on.
	Expire time.Time
	// Last returns the events sent when Expire has come. It is called by a
	// timer and must not panic.
	Last func() []byte
	// Broken returns the events sent when a stream breaks off after something of
	// it was sent, so that it does not look complete.
	Broken func() []byte
	// Cancel ends the upstream's request. It is called when the answer is
	// refused, cut short or expired, and when the client is gone; maybe more
	// than once.
	Cancel context.CancelFunc
}

func (o *Options) setDefaults() {
	if o.Inspect == 0 {
		o.Inspect = DefaultInspect
	}
	if o.MaxMessage == 0 {
		o.MaxMessage = DefaultMaxMessage
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = DefaultKeepAlive
	}
	if o.Hold == 0 {
		o.Hold = DefaultHold
	}
	if o.Cancel == nil {
		o.Cancel = func() {}
	}
}

// UpstreamError says that the upstream could not be reached, broke its answer
// off, or answered what cannot be looked at. A gateway answers 502, or 504 where
// Timeout reports true.
type UpstreamError struct {
	// Err is what happened.
	Err error
}

// Error names what happened.
func (e *UpstreamError) Error() string { return "upstream: " + e.Err.Error() }

// Unwrap returns Err.
func (e *UpstreamError) Unwrap() error { return e.Err }

// Timeout reports whether the upstream took too long.
func (e *UpstreamError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// ErrBrokeOff is inside an UpstreamError when an answer ended before its end.
var ErrBrokeOff = errors.New("the answer broke off before its end")

// errEnded is what writes get after the stream was ended on purpose.
var errEnded = errors.New("the answer has been ended")

func tooLarge(limit int) error {
	return fmt.Errorf("the answer is over %d bytes", limit)
}
