package stile

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/internal/relay"
	"github.com/stile-mcp/stile/internal/sse"
	"github.com/stile-mcp/stile/message"
)

// answer is the way back of one exchange: it looks at what the upstream says
// before the client does. An upstream's own refusal becomes ours (DES-23), list
// results are rewritten as the policy asks, and session ids are sealed.
type answer struct {
	x        *exchange
	writer   *relay.Writer
	cancel   context.CancelFunc
	status   int
	patience *patience   // nil: the answer is waited for without end
	news     *newsStream // where the client waits for news of its lists
}

// upstreamError is an upstream that could not be asked or whose answer cannot be
// passed on. The cause is for the log.
type upstreamError struct {
	status int
	text   string
	cause  error
}

func (e *upstreamError) Error() string {
	if e.cause == nil {
		return e.text
	}
	return e.text + ": " + e.cause.Error()
}
func (e *upstreamError) Unwrap() error { return e.cause }

func newAnswer(x *exchange, cancel context.CancelFunc) *answer {
	a := &answer{x: x, cancel: cancel}
	options := relay.Options{
		Header:    a.header,
		Message:   a.message,
		EventID:   x.sealEvent,
		Other:     a.other,
		Whole:     isListMethod(x.call.Method),
		Stream:    x.call.Kind == message.Stream,
		KeepAlive: x.g.config.KeepAlive,
		Expire:    x.streamEnd(),
		Last:      func() []byte { return a.last(expired) },
		Broken:    func() []byte { return a.last(broken) },
		Cancel:    cancel,
	}
	a.writer = relay.New(x.w, options)
	return a
}

// bring lets the upstream answer. What went wrong before anything was sent is
// returned, to be refused at the edge; later there is nobody to tell but the log.
func (a *answer) bring(out *http.Request) error {
	ending := a.ending()
	undo := context.AfterFunc(ending, a.end)
	defer undo()
	if a.x.grantCounts() {
		a.x.g.announcer.see(a.x)
		if a.waits() {
			a.news = newNews(a.x, a.writer.Insert)
			defer a.x.g.announcer.watch(a.x, a.news)()
		}
	}
	defer a.x.watchToken(func() { a.writer.End(a.last(expired)) })()
	a.waitFor()
	err := a.writer.Serve(a.x.s.upstream, out)
	gaveUp := a.patience.done()
	if gaveUp {
		a.tellCancelled()
	}
	if err == nil && a.writer.Err() != nil {
		a.x.g.config.Log.Info("answer ended early", "request_id", a.x.requestID, "server", a.x.s.name, "error", a.writer.Err())
	}
	var (
		denied   *denial
		upstream *upstreamError
	)
	switch {
	case err == nil, errors.As(err, &denied), errors.As(err, &upstream):
		return err
	case gaveUp:
		return &upstreamError{tooSlow.status, tooSlow.text, err}
	case errors.Is(err, context.Canceled) && a.x.r.Context().Err() != nil:
		return errAnswered // the client is gone
	case errors.Is(err, context.Canceled) && ending.Err() != nil:
		return &upstreamError{stopped.status, stopped.text, err}
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return &upstreamError{http.StatusGatewayTimeout, "the MCP server did not answer in time", err}
	default:
		return &upstreamError{http.StatusBadGateway, "the MCP server cannot be reached", err}
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// header sees status and header fields before anything is sent.
func (a *answer) header(status int, h http.Header) error {
	a.status = status
	challenges := h["Www-Authenticate"]
	a.clean(h)
	switch status {
	case http.StatusUnauthorized:
		return &upstreamError{http.StatusBadGateway, "the MCP server did not accept this gateway", nil}
	case http.StatusForbidden:
		if need, ok := challenge.FromHeader(status, http.Header{"Www-Authenticate": challenges}); ok {
			return a.x.translate(need)
		}
		// Otherwise the body may say which scopes; see message and other.
	}
	a.sealSession(h)
	if isEventStream(h.Get("Content-Type")) {
		h.Set("X-Accel-Buffering", "no")
	}
	return nil
}

// clean takes out what an upstream must not say to our client in our name.
func (a *answer) clean(h http.Header) {
	ours := a.x.w.Header()
	for name := range h {
		if _, mine := ours[name]; !mine && strings.HasPrefix(name, "Access-Control-") {
			delete(h, name)
		}
	}
	for _, name := range []string{"Www-Authenticate", "Proxy-Authenticate", "Set-Cookie", "Alt-Svc", "Strict-Transport-Security"} {
		delete(h, name)
	}
	h.Set(requestIDHeader, a.x.requestID)
}

// sealSession puts our id in the place of the upstream's (DES-40). A request of
// a known session keeps the id it came with, so that it never changes; a new one
// begins with the answer to initialize and nowhere else (REQ-24).
func (a *answer) sealSession(h http.Header) {
	id := h.Get(sessionHeader)
	h.Del(sessionHeader)
	switch {
	case id == "" || a.x.call.Era == message.Era2026 || a.x.s.stateless:
	case id == a.x.upstream:
		h.Set(sessionHeader, a.x.session)
	case a.x.call.Method == "initialize":
		sealed, err := a.x.g.sessions.Seal(a.x.s.name, a.x.owner(), id)
		if err != nil {
			a.x.g.config.Log.Error("session id not sealed", "server", a.x.s.name, "error", err)
			return
		}
		h.Set(sessionHeader, sealed)
	}
}

// ending is done when this answer is to end: when the gateway drains, where it
// only waits for news, and otherwise when the gateway stops.
func (a *answer) ending() context.Context {
	if a.waits() {
		return a.x.g.draining
	}
	return a.x.g.stopping
}

// waits reports whether this answer only waits for news.
func (a *answer) waits() bool {
	return a.x.call.Kind == message.Stream || a.x.call.Method == "subscriptions/listen"
}

// end ends an event stream in an orderly way. Any other answer, and a stream whose
// upstream has not said a word yet, is given up: it is refused where nothing of it
// was sent.
func (a *answer) end() {
	if !a.writer.End(a.last(stopped)) {
		a.cancel()
	}
}

// message sees each JSON-RPC message of the answer. sent says whether any byte
// has reached the client: until then a refusal can still be a 403.
func (a *answer) message(msg []byte, sent bool) ([]byte, error) {
	a.patience.heard(msg)
	if challenge.MayRefuse(msg) {
		if need, ok := challenge.FromMessage(msg); ok {
			return a.refusal(need, sent)
		}
	}
	if a.status == http.StatusForbidden && !sent {
		return nil, a.forbidden()
	}
	if a.x.call.Kind == message.Stream && isBatchOfAnswers(msg) {
		a.x.g.config.Log.Warn("batch of answers not sent: lists in it could not be filtered", "request_id", a.x.requestID, "server", a.x.s.name)
		return nil, nil
	}
	if a.news != nil && a.x.call.Kind != message.Stream {
		a.news.acknowledged(msg)
	}
	call := a.listCall(msg)
	if call == nil {
		return msg, nil
	}
	a.x.s.tools.learn(call.Method, msg)
	out, err := a.x.s.policy.RewriteList(a.x.identity, call, msg)
	if err != nil {
		unreadable := &upstreamError{http.StatusBadGateway, unreadableList, err}
		if sent {
			a.x.g.config.Log.Error("list not sent", "request_id", a.x.requestID, "server", a.x.s.name, "error", err)
			return challenge.StreamError(a.x.call.ID, unreadable.status, unreadable.text, a.x.requestID), nil
		}
		return nil, unreadable
	}
	return out, nil
}

// other sees that the body is no message, before anything of it is sent. What
// claims to be a list has to be one: it could not be filtered.
func (a *answer) other() error {
	switch {
	case a.status == http.StatusForbidden:
		return a.forbidden()
	case a.status < http.StatusMultipleChoices && isListMethod(a.x.call.Method) && a.x.call.Kind == message.Request:
		return &upstreamError{http.StatusBadGateway, unreadableList, nil}
	}
	return nil
}

const unreadableList = "the MCP server sent a list that cannot be read"

// refusal is an upstream's own refusal: ours while nothing has been sent, and a
// JSON-RPC error on the stream afterwards (DES-23).
func (a *answer) refusal(need challenge.Need, sent bool) ([]byte, error) {
	err := a.x.translate(need)
	if !sent {
		return nil, err
	}
	var d *denial
	errors.As(err, &d)
	id := need.ID
	if id == nil {
		id = a.x.call.ID
	}
	if d.again || d.decision.Outcome == authorize.Deny {
		_ = a.x.recordRefusal(http.StatusOK, "deny_in_stream", err)
		in := a.x.inBand(d)
		in.ID = id
		return in.Body(), nil
	}
	_ = a.x.recordRefusal(http.StatusForbidden, "challenge_in_stream", err)
	return challenge.InStream(id, ChallengeFor(a.x.s.policy, a.x.s.metadataURL, a.x.identity, a.x.call, d.decision), a.x.requestID), nil
}

// translate judges an upstream's demand as if a rule of the policy had made it.
func (x *exchange) translate(need challenge.Need) error {
	return x.deny(x.s.policy.Extend(x.identity, x.decision, need.Scopes))
}

// forbidden is an upstream's 403 that names no scope: final (DES-21).
func (a *answer) forbidden() error {
	return &denial{decision: authorize.Decision{Outcome: authorize.Deny, Rules: []string{"upstream"},
		Reason: "the MCP server refused this. Ask whoever runs it."}}
}

// early is why a stream ends before its answer came.
type early struct {
	status int
	text   string
}

var (
	expired = early{http.StatusForbidden, "the access token has expired; sign in again and repeat the call"}
	broken  = early{http.StatusBadGateway, "the MCP server broke off"}
	stopped = early{http.StatusServiceUnavailable, "the gateway is restarting; repeat the call"}
)

// last is what a stream says when it is ended early: nothing where no call waits
// for an answer.
func (a *answer) last(why early) []byte {
	if a.x.call.Kind != message.Request {
		return nil
	}
	return sse.Format("", "", challenge.StreamError(a.x.call.ID, why.status, why.text, a.x.requestID))
}

// listCall is the list request that msg answers, or nil. On a GET stream, which
// may replay an answer after a lost connection, the shape of the result tells.
func (a *answer) listCall(msg []byte) *message.Call {
	call := a.x.call
	if isListMethod(call.Method) {
		return call
	}
	if call.Kind != message.Stream {
		return nil
	}
	method := authorize.ListMethod(msg)
	if method == "" {
		return nil
	}
	return &message.Call{Kind: message.Request, Era: call.Era, Method: method}
}

// isBatchOfAnswers reports whether a message may be an array with an answer in
// it, which only servers of 2025-03-26 send. An escape could hide the name.
func isBatchOfAnswers(msg []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(msg, " \t\r\n"), []byte{'['}) &&
		(bytes.Contains(msg, []byte(`"result"`)) || bytes.IndexByte(msg, '\\') >= 0)
}

func isListMethod(method string) bool {
	switch method {
	case "tools/list", "resources/list", "resources/templates/list", "prompts/list":
		return true
	}
	return false
}
