package stile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/internal/relay"
	"github.com/stile-mcp/stile/internal/sse"
	"github.com/stile-mcp/stile/message"
)

// takeLegacy takes one message of a legacy client. The exchange may outlive the
// POST, which is answered as soon as the message is on its way.
func (g *Gateway) takeLegacy(w http.ResponseWriter, r *http.Request, route legacyRoute) {
	k := newLegacySink(w)
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	gone := context.AfterFunc(r.Context(), cancel)
	x := &exchange{g: g, s: route.s, w: k, r: r.Clone(ctx), requestID: g.ids.next()}
	k.x = x
	go func() {
		defer close(k.done)
		defer cancel()
		k.guard(func() {
			defer x.recoverPanic()
			if err := k.run(route, cancel); err != nil {
				x.refuse(err)
			}
		})
		k.finish()
		if k.stream != nil {
			k.stream.leave()
		}
	}()
	select {
	case <-k.done:
	case <-k.taken:
	}
	gone()
	if k.aborted() {
		panic(http.ErrAbortHandler)
	}
}

// run takes the message through the stages, as Gateway.run does (DES-24).
func (k *legacySink) run(route legacyRoute, cancel context.CancelFunc) error {
	x := k.x
	err := x.identifyLegacy(route)
	// The headers that 2026-07-28 wants are not sent over this transport.
	modern := x.call != nil && x.call.Era == message.Era2026
	if err != nil && !(modern && errors.As(err, new(*message.Error))) {
		return err
	}
	if err := k.open(); err != nil {
		return err
	}
	if k.stream != nil {
		defer context.AfterFunc(k.stream.ctx, cancel)()
	}
	if modern {
		return k.onlyOld()
	}
	if err := x.authorize(); err != nil {
		return err
	}
	if err := x.record(); err != nil {
		return err
	}
	// Legacy clients accept anything; the upstream is asked as it must be.
	x.r.Header.Set("Accept", "application/json, text/event-stream")
	hold := time.AfterFunc(legacyHold, k.accept)
	defer hold.Stop()
	return x.forward()
}

// onlyOld answers a message of 2026-07-28, for which the transport is not defined,
// on the stream: as an older server would, so that the client goes on with
// initialize. To a refused POST some clients react by giving up the connection.
func (k *legacySink) onlyOld() error {
	const text = "revision 2026-07-28 is not spoken over this transport: begin with initialize"
	if x := k.x; x.recordRefusal(http.StatusOK, "malformed", errorString(text)) && x.call.Kind == message.Request {
		challenge.Refusal{Status: http.StatusOK, Code: codeNoMethod, Message: text, ID: x.call.ID, RequestID: x.requestID}.Write(k)
	}
	return errAnswered
}

// codeNoMethod is JSON-RPC's Method not found.
const codeNoMethod = -32601

// open finds the stream of the message; it must be this caller's (DES-40).
func (k *legacySink) open() error {
	x := k.x
	ids := x.r.URL.Query()[legacyParameter]
	if len(ids) != 1 {
		return &message.Error{Status: http.StatusBadRequest, Code: codeInvalidRequest, ID: x.call.ID,
			Message: "exactly one " + legacyParameter + " is wanted: open the event stream first"}
	}
	id, err := x.g.sessions.Open(ids[0], legacyEndpoint(x.s), x.owner())
	if err != nil {
		return &sessionError{err}
	}
	st := x.g.streams.find(id)
	if st == nil {
		return &sessionError{errorString("the event stream has ended")}
	}
	if err := st.upstreamSession(x); err != nil {
		return err
	}
	if err := st.enter(); err != nil {
		return err
	}
	k.stream = st
	return nil
}

// legacySink is the ResponseWriter of one exchange of a legacy client. A refusal is
// the answer to the POST; anything else becomes 202, and its messages go to the
// event stream. Without a POST, as for the gateway's own requests, only messages
// count. Its writer is one goroutine; accept may come from another.
type legacySink struct {
	x      *exchange
	stream *legacyStream
	taken  chan struct{} // closed when the POST is answered with 202
	done   chan struct{} // closed when the exchange is over

	mu    sync.Mutex
	w     http.ResponseWriter // of the POST; nil once it was answered, or where there is none
	abort bool                // the POST's answer broke off

	header   http.Header
	status   int
	passing  bool // the answer goes to w
	events   bool // what is written is an event stream
	scan     sse.Scanner
	body     []byte // what is written otherwise
	answered bool   // the response to the request was among the messages
	last     string // the last event id
}

func newLegacySink(w http.ResponseWriter) *legacySink {
	return &legacySink{w: w, taken: make(chan struct{}), done: make(chan struct{}), header: http.Header{}}
}

// accept answers the POST with 202.
func (k *legacySink) accept() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.w == nil || k.passing {
		return
	}
	h := k.w.Header()
	for name, values := range k.header {
		if strings.HasPrefix(name, "Access-Control-") || name == "Vary" {
			h[name] = values
		}
	}
	h.Set(requestIDHeader, k.x.requestID)
	h.Set("Content-Length", "0")
	k.w.WriteHeader(http.StatusAccepted)
	k.w = nil
	close(k.taken)
}

// guard runs the exchange and takes the panic by which an answer is cut off.
func (k *legacySink) guard(f func()) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			k.mu.Lock()
			k.abort = k.passing
			k.mu.Unlock()
			k.body, k.status = nil, http.StatusBadGateway
		default:
			panic(p)
		}
	}()
	f()
}

func (k *legacySink) aborted() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.abort
}

// Header returns the header of the answer.
func (k *legacySink) Header() http.Header { return k.header }

// WriteHeader tells what becomes of the answer.
func (k *legacySink) WriteHeader(status int) {
	if k.status != 0 {
		return
	}
	k.status = status
	call := k.x.call
	switch status {
	case http.StatusOK:
		k.events = isEventStream(k.header.Get("Content-Type"))
		k.scan.Max = relay.DefaultMaxMessage
		if call != nil && call.Method == "initialize" && k.stream != nil {
			k.stream.known(k.header.Get(sessionHeader))
		}
		k.accept()
	case http.StatusAccepted, http.StatusNoContent:
		k.accept()
		if call != nil && call.Method == "notifications/initialized" && k.stream != nil {
			k.stream.stand()
		}
	default:
		k.pass(status)
	}
}

// pass lets the answer of the POST be this one, where it has none yet.
func (k *legacySink) pass(status int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.w == nil {
		return
	}
	k.passing = true
	h := k.w.Header()
	clear(h)
	maps.Copy(h, k.header)
	k.w.WriteHeader(status)
}

// Write takes bytes of the answer.
func (k *legacySink) Write(p []byte) (int, error) {
	if k.status == 0 {
		k.WriteHeader(http.StatusOK)
	}
	switch {
	case k.passing:
		return k.w.Write(p)
	case k.events:
		return len(p), k.scan.Feed(p, k.event)
	case len(k.body)+len(p) > relay.DefaultMaxMessage:
		return 0, errors.New("the answer is too large for one event")
	}
	k.body = append(k.body, p...)
	return len(p), nil
}

// event takes one event of the upstream's stream.
func (k *legacySink) event(ev sse.Event) error {
	if ev.ID != nil {
		k.last = string(ev.ID)
	}
	if len(bytes.TrimSpace(ev.Data)) > 0 {
		k.deliver(ev.Data)
	}
	return nil
}

func (k *legacySink) deliver(msg []byte) {
	k.answered = k.answered || isResponse(msg)
	if k.stream != nil {
		k.stream.send(msg)
	}
}

// isResponse reports whether a message answers a request.
func isResponse(msg []byte) bool {
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method *string         `json:"method"`
	}
	return json.Unmarshal(msg, &m) == nil && m.ID != nil && m.Method == nil
}

// finish sends what was an answer by itself, and sees to it that a request that was
// taken gets one.
func (k *legacySink) finish() {
	if k.passing {
		return
	}
	if ev, ok := k.scan.End(); ok {
		_ = k.event(ev)
	}
	call := k.x.call
	if call == nil || call.Kind != message.Request {
		k.accept()
		return // there is nobody whom a late refusal would tell anything
	}
	if isResponse(k.body) {
		k.deliver(k.body)
	}
	if !k.answered {
		why := broken
		if k.status >= http.StatusBadRequest {
			why.status = k.status
		}
		k.deliver(challenge.StreamError(call.ID, why.status, why.text, k.x.requestID))
	}
	k.accept() // whatever it was, it has been taken
}

// FlushError has nothing to do: messages are sent at once.
func (k *legacySink) FlushError() error { return nil }

// SetReadDeadline bounds the time of the POST's body.
func (k *legacySink) SetReadDeadline(t time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.w == nil {
		return http.ErrNotSupported
	}
	return http.NewResponseController(k.w).SetReadDeadline(t)
}
