package stile

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
	"github.com/stile-mcp/stile/session"
)

// Gateway protects MCP endpoints. It is an http.Handler, immutable after New and
// safe for concurrent use; a changed configuration is a new Gateway.
type Gateway struct {
	publicURL string
	endpoints map[string]*endpoint // by path
	documents map[string]*document // protected-resource documents by well-known path
	legacy    map[string]legacyRoute
	streams   legacyStreams
	guard     *guard
	cors      *crossOrigin
	sessions  *session.Sealer
	audit     *auditLog
	memory    *refusalMemory
	limits    *limits
	announcer announcer
	config    Config
	ids       requestIDs

	// draining is cancelled when Drain is called; event streams that only wait
	// for news end then.
	draining context.Context
	drain    context.CancelFunc
	// stopping is cancelled when Stop is called; every event stream ends then.
	stopping context.Context
	stop     context.CancelFunc
}

// endpoint is one Server, checked and ready.
type endpoint struct {
	name          string
	path          string
	upstream      http.Handler
	policy        *authorize.Policy
	authenticator *authenticate.Authenticator
	verifiers     []authenticate.Verifier
	tools         *ToolCatalogue
	issuers       []*authenticate.Profile
	metadataURL   string    // of the protected-resource document
	first         scope.Set // what a first login is told to ask for (DES-08)
	inBand        bool      // challenges go into tool results (DES-35)
	stateless     bool      // no sessions are given out
	timeout       time.Duration
	maxTime       time.Duration
}

// exchange is one request on its way. Each stage fills in what it found.
type exchange struct {
	g         *Gateway
	s         *endpoint
	w         http.ResponseWriter
	r         *http.Request
	requestID string

	identity *authenticate.Identity // nil: no token, which only anonymous rules allow
	call     *message.Call
	session  string // the session id as the client sent it
	upstream string // the upstream's own session id
	// lastEvent is the upstream's own id of the event after which a stream goes on.
	lastEvent string
	decision  authorize.Decision
	answer    *answer // once the request is on its way
}

// ServeHTTP answers one request: of an endpoint, of the metadata about it, or of
// the health probes.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.limitBody(w, r)
	if g.serveHealth(w, r) || g.serveMetadata(w, r) {
		return
	}
	s, ok := g.endpoints[r.URL.Path]
	if !ok {
		if !g.serveLegacy(w, r) {
			g.nowhere(w, r)
		}
		return
	}
	x := &exchange{g: g, s: s, w: w, r: r, requestID: g.ids.next()}
	defer x.recoverPanic()
	if err := x.run(); err != nil {
		x.refuse(err)
	}
}

// nowhere refuses a request to a path where nothing is served. A client that POSTs
// to a mistyped URL is told in its own terms.
func (g *Gateway) nowhere(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		g.ids.mark(w.Header())
		http.NotFound(w, r)
		return
	}
	challenge.Refusal{Status: http.StatusNotFound, Message: "no MCP server is served at this path", RequestID: g.ids.next()}.Write(w)
}

// errAnswered ends the pipeline where a stage has already said everything: the
// answer to a CORS preflight.
var errAnswered = errorString("answered")

// run takes the request through the stages in the order that DES-24 fixes. What
// it returns is a refusal; nothing has been sent to the client then.
func (x *exchange) run() error {
	if err := x.admit(); err != nil {
		return err
	}
	if err := x.authenticate(); err != nil {
		return err
	}
	if err := x.readMessage(); err != nil {
		return err
	}
	if err := x.openSession(); err != nil {
		return err
	}
	if err := x.authorize(); err != nil {
		return err
	}
	if x.waitsForNews() {
		leave, err := x.enterStream()
		if err != nil {
			return err
		}
		defer leave()
	}
	if err := x.record(); err != nil {
		return err
	}
	return x.forward()
}

// admit lets the request in by Host, Origin, method, media type and declared
// size, and answers a preflight, all before any credential is looked at.
func (x *exchange) admit() error {
	if err := x.g.guard.checkSource(x.r); err != nil {
		return err
	}
	if x.r.Method == http.MethodOptions {
		x.w.Header().Set(requestIDHeader, x.requestID)
	}
	if x.g.cors.apply(x.w, x.r) {
		return errAnswered
	}
	return x.g.guard.checkForm(x.r)
}

// authenticate finds out who is asking. Without credentials it goes on only
// where the policy has anonymous rules; which calls those allow is decided by
// authorize, once the message is known.
func (x *exchange) authenticate() error {
	identity, err := x.s.authenticator.Authenticate(x.r)
	switch {
	case err == nil:
		x.identity = identity
		return nil
	case err.Kind == authenticate.Missing && x.s.policy.Anonymous():
		return nil
	default:
		return err
	}
}

// readMessage reads what is asked: the body of a POST, whole and strictly, and
// the headers that mirror it. A GET or DELETE is a call without a message.
func (x *exchange) readMessage() error {
	if err := x.checkStateless(); err != nil {
		return err
	}
	switch x.r.Method {
	case http.MethodGet:
		x.call = &message.Call{Kind: message.Stream, Era: message.Era2025}
		return x.g.guard.checkStream(x)
	case http.MethodHead:
		// Only to be refused: an anonymous HEAD meets the 401, any other the 405.
		if x.identity == nil {
			return &authenticate.Error{Kind: authenticate.Missing, Description: "authentication required"}
		}
		return errHead
	case http.MethodDelete:
		x.call = &message.Call{Kind: message.Close, Era: message.Era2025}
		return nil
	}
	if err := checkMediaType(x.r); err != nil {
		return err
	}
	body, err := x.readBody()
	if err != nil {
		return err
	}
	call, merr := message.Read(body)
	if merr != nil {
		return merr
	}
	x.call = call
	if merr := message.CheckHeaders(x.r.Header, call); merr != nil {
		return merr
	}
	return nil
}

// openSession opens the sealed session id of a 2025-era request and compares its
// owner with who is asking (DES-40, DES-41). 2026-07-28 knows no sessions: the
// header is ignored there (REQ-23).
func (x *exchange) openSession() error {
	if x.call.Era == message.Era2026 || x.s.stateless {
		return nil
	}
	if x.call.Kind == message.Stream {
		if err := x.openEvent(); err != nil {
			return err
		}
	}
	ids := x.r.Header.Values(sessionHeader)
	if len(ids) == 0 {
		return nil
	}
	if len(ids) > 1 {
		return &message.Error{Status: http.StatusBadRequest, Code: codeInvalidRequest, ID: x.call.ID,
			Message: sessionHeader + " was sent more than once"}
	}
	upstream, err := x.g.sessions.Open(ids[0], x.s.name, x.owner())
	if err != nil {
		return &sessionError{err}
	}
	x.session, x.upstream = ids[0], upstream
	return nil
}

// owner is whom a session of this exchange belongs to (DES-40).
func (x *exchange) owner() session.Owner {
	if x.identity == nil {
		return session.Owner{}
	}
	return ownerOf(x.identity)
}

// authorize asks the policy. Anything but Allow comes back as a *denial.
func (x *exchange) authorize() error {
	if err := x.s.tools.ensure(x); err != nil {
		x.g.config.Log.Warn("tool annotations not known", "server", x.s.name, "request_id", x.requestID, "error", err)
	}
	x.decision = x.s.policy.Decide(x.identity, x.call)
	if x.decision.Outcome != authorize.Allow {
		return x.deny(x.decision)
	}
	if x.call.Method == "subscriptions/listen" {
		body, err := x.s.policy.Narrow(x.identity, x.call)
		if err != nil {
			return x.deny(authorize.Decision{Outcome: authorize.Fail, Err: err})
		}
		x.call.Body = body
	}
	return nil
}

// forward sends the authorised bytes upstream and brings the answer back.
func (x *exchange) forward() error {
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	x.answer = newAnswer(x, cancel)
	return x.answer.bring(x.outgoing(ctx))
}

// outgoing is the request as an upstream sees it: the bytes that were
// authorised, the upstream's own session id, and nothing that speaks for the
// caller (REQ-05, DES-45). Whose request it is stands in the context, for upstreams
// in this process (session.OwnerFrom).
func (x *exchange) outgoing(ctx context.Context) *http.Request {
	out := x.r.WithContext(session.WithOwner(ctx, x.owner()))
	out.Header = maps.Clone(x.r.Header) // values are replaced, never changed
	message.StripCredentials(out.Header)
	dropHeaders(out.Header)
	if x.lastEvent != "" {
		out.Header.Set(lastEventHeader, x.lastEvent)
	}
	// The mirrored headers are written afresh: one spelling, whatever the client's
	// was (REQ-26).
	message.SetHeaders(out.Header, x.call)
	out.Header.Del(sessionHeader)
	if x.upstream != "" {
		out.Header.Set(sessionHeader, x.upstream)
	}
	out.Body, out.ContentLength, out.TransferEncoding = http.NoBody, 0, nil
	if x.r.Method == http.MethodPost {
		// GetBody lets a transport send it again on a new connection when the
		// server closed the idle one it picked.
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.call.Body)), nil }
		out.Body, _ = out.GetBody()
		out.ContentLength = int64(len(x.call.Body))
		// Written afresh too: parameters could tell the upstream to read it otherwise.
		out.Header.Set("Content-Type", "application/json")
	}
	return out
}

// droppedHeaders are not for an upstream. Those of browsers are judged at the
// gateway; an upstream on another origin would take them for a cross-site request.
// Connection could name others to be dropped. Range asks for a part of an answer,
// in which a list cannot be read. Only the stream of the 2025 revisions is resumed
// (REQ-23), by an id of our own (openEvent).
var droppedHeaders = []string{"Connection", "Range", "If-Range", lastEventHeader, "Origin", "Referer",
	"Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Fetch-User"}

// dropHeaders takes out those, and every name with an underscore: servers behind
// CGI-like interfaces take it for a hyphen, and so Mcp_Session_Id for a session id
// that was never opened here.
func dropHeaders(h http.Header) {
	for _, name := range droppedHeaders {
		h.Del(name)
	}
	for name := range h {
		if strings.Contains(name, "_") {
			delete(h, name)
		}
	}
}

// sessionHeader names the session of the 2025 revisions.
const sessionHeader = "Mcp-Session-Id"

// Drain tells every stream that only waits for news (the GET stream,
// subscriptions/listen) to end; calls under way go on. Call it before
// http.Server.Shutdown.
func (g *Gateway) Drain() { g.drain() }

// Stop tells every stream to end, with a JSON-RPC error where a call is still
// unanswered. Call it when the time for draining is over.
func (g *Gateway) Stop() {
	g.drain()
	g.stop()
}

// recoverPanic turns a panic in a stage into an opaque 500. http.ErrAbortHandler
// is how a broken upstream answer cuts the connection and is passed on.
func (x *exchange) recoverPanic() {
	switch p := recover(); p {
	case nil:
	case http.ErrAbortHandler:
		panic(p)
	default:
		x.g.config.Log.Error("panic", "request_id", x.requestID, "server", x.s.name, "panic", p, "stack", string(debug.Stack()))
		if x.answer != nil && x.answer.writer.Started() {
			panic(http.ErrAbortHandler) // the answer is incomplete and must not look whole
		}
		x.refuse(errorString("panic"))
	}
}

// errorString is an error without a value of its own.
type errorString string

func (e errorString) Error() string { return string(e) }

// isEventStream reports whether a client may take a media type for that of an
// event stream: some look for the name anywhere in it, as does the relay.
func isEventStream(contentType string) bool {
	return strings.Contains(strings.ToLower(contentType), "text/event-stream")
}
