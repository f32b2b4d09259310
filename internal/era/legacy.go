package era

import (
	"context"
	"net/http"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/mirror"
	"github.com/stile-mcp/stile/internal/remote"
	"github.com/stile-mcp/stile/message"
)

// Legacy is a server of the 2025 revisions to its client, and a client to a server
// of 2026-07-28. It is one session. It is safe for concurrent use.
//
// What the server asks for by an input_required result becomes requests to the
// client; with the answers the call is made again. What the client would hear
// unasked comes from a subscriptions/listen of the Legacy's own.
type Legacy struct {
	o      Options
	server server
	desk   desk
	news   news

	mu     sync.Mutex
	w      wrapping // what every request of the session says
	offers object   // the server's capabilities
	asking map[string]chan *packet
	last   uint64
	tools  mirror.Table
}

// NewLegacy returns a Legacy. Nothing is sent before the first message.
func NewLegacy(o Options) *Legacy {
	o.setDefaults()
	l := &Legacy{o: o, server: server{remote.Server{Transport: o.Upstream, Max: o.MaxMessage}}, asking: map[string]chan *packet{},
		w: wrapping{version: Modern2026, capabilities: jsontext.Value("{}")}}
	l.desk.open()
	l.news.l = l
	return l
}

// Receive takes one message of the client and returns at once; line must not be
// changed afterwards. The values of ctx go with what is sent to the server, its end
// does not matter.
func (l *Legacy) Receive(ctx context.Context, line []byte) {
	p, err := readPacket(line)
	if err != nil {
		l.o.Log.Warn("message of a client not understood", "error", err)
		return
	}
	switch {
	case p.kind == envelope.Request:
		l.desk.begin(ctx, p, l.o.Emit, l.serve)
	case p.kind == envelope.Response:
		l.answered(p)
	case p.method == "notifications/cancelled":
		l.desk.cancel(envelope.Key(lenient(p.params).get("requestId")))
	case p.method == "notifications/initialized":
		l.desk.do(ctx, func(ctx context.Context) { _, _ = l.news.change(ctx, "", false) })
	case p.method == "notifications/roots/list_changed":
		// 2026-07-28 asks for roots whenever it wants them.
	default:
		l.desk.do(ctx, func(ctx context.Context) { l.notify(ctx, p) })
	}
}

// Close ends what is under way. It returns when all is done.
func (l *Legacy) Close() {
	l.desk.close()
	l.desk.wait()
}

// serve answers one request; nil when nobody waits for the answer any more.
func (l *Legacy) serve(ctx context.Context, p *packet) []byte {
	var (
		result jsontext.Value
		err    error
	)
	switch p.method {
	case "initialize":
		result, err = l.greet(ctx, p)
	case "ping":
		result = jsontext.Value("{}")
	case "logging/setLevel":
		result, err = l.setLevel(p)
	case "resources/subscribe", "resources/unsubscribe":
		result, err = l.subscribe(ctx, p)
	case "server/discover", "subscriptions/listen", "tasks/get", "tasks/list", "tasks/result", "tasks/cancel", "tasks/update":
		err = &failure{code: codeNoMethod, text: p.method + " cannot be carried over to this MCP server, which speaks 2026-07-28"}
	default:
		result, err = l.call(ctx, p)
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		f := asFailure(err)
		if f.code == codeInternal {
			l.o.Log.Warn("call not carried over", "method", p.method, "error", err)
		}
		e := lenient(f.line(p.id)).get("error")
		return errorLine(p.id, errorToLegacy(e))
	}
	return resultLine(p.id, result)
}

// greet is the handshake, made of what the server says of itself.
func (l *Legacy) greet(ctx context.Context, p *packet) (jsontext.Value, error) {
	params := lenient(p.params)
	w := wrapping{version: Modern2026, client: params.get("clientInfo"), capabilities: clientToModern(params.get("capabilities"))}
	answer, _, err := l.server.ask(ctx, l.header(ctx, "server/discover", nil),
		requestLine(jsontext.Value(`"stile-discover"`), "server/discover", w.wrap(nil).bytes()))
	switch {
	case err != nil:
		return nil, unreachable(err)
	case answer.failed != nil:
		return nil, &failure{code: codeOf(answer.failed), text: lenient(answer.failed).text("message")}
	}
	said := lenient(answer.result)
	offers := lenient(said.get("capabilities"))
	version := params.text("protocolVersion")
	if !message.IsLegacy(version) {
		version = Latest2025
	}
	server := lenient(said.get("_meta")).get(metaServer)
	if server == nil {
		server = object{}.with("name", quote(l.o.Name)).with("version", []byte(`"unknown"`)).bytes()
	}
	l.mu.Lock()
	l.w, l.offers = w, offers
	l.mu.Unlock()
	result := object{}.with("protocolVersion", quote(version)).with("capabilities", offers.bytes()).with("serverInfo", server)
	if text := said.get("instructions"); text != nil {
		result = result.with("instructions", text)
	}
	return result.bytes(), nil
}

// clientToModern are the capabilities of a client as 2026-07-28 knows them.
func clientToModern(raw jsontext.Value) jsontext.Value {
	all := lenient(raw).without("tasks")
	if isObject(all.get("roots")) {
		all = all.with("roots", []byte("{}"))
	}
	return all.bytes()
}

// setLevel keeps the level, which each request says from now on.
func (l *Legacy) setLevel(p *packet) (jsontext.Value, error) {
	level := lenient(p.params).text("level")
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.offers.get("logging") == nil:
		return nil, &failure{code: codeNoMethod, text: "this MCP server sends no log messages"}
	case levels[level] == 0:
		return nil, &failure{code: codeInvalidParams, text: "no such log level"}
	}
	l.w.level = level
	return jsontext.Value("{}"), nil
}

// subscribe changes what the session hears of resources.
func (l *Legacy) subscribe(ctx context.Context, p *packet) (jsontext.Value, error) {
	uri := lenient(p.params).text("uri")
	on := p.method == "resources/subscribe"
	got, err := l.news.change(ctx, uri, on)
	switch {
	case err != nil:
		return nil, err
	case on && !got:
		return nil, &failure{code: codeInvalidParams, text: "this MCP server does not tell of changes to that resource"}
	}
	return jsontext.Value("{}"), nil
}

// wrapping is what a request of the session says.
func (l *Legacy) wrapping() wrapping {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w
}

// header is that of a request: what intermediaries go by repeats the body
// (2026-07-28 streamable-http "Request Metadata").
func (l *Legacy) header(ctx context.Context, method string, params object) http.Header {
	h := header(ctx)
	h.Set(headerVersion, Modern2026)
	l.tools.Set(h, method, params.bytes())
	return h
}

// notify passes a notification on.
func (l *Legacy) notify(ctx context.Context, p *packet) {
	h := header(ctx)
	h.Set(headerVersion, Modern2026)
	h.Set(headerMethod, p.method)
	a, err := l.server.Post(ctx, h, notificationLine(p.method, l.wrapping().wrap(lenient(p.params)).bytes()))
	if err != nil {
		l.o.Log.Debug("notification lost", "method", p.method, "error", err)
		return
	}
	a.Close()
}

const (
	// maxRounds is how often a call is made again with what the server asked for.
	maxRounds = 20
	// headerMismatch is the error of a server that misses a header.
	headerMismatch = -32020
)

// call carries a call over, with as many rounds as the server wants.
func (l *Legacy) call(ctx context.Context, p *packet) (jsontext.Value, error) {
	params, id, taught := lenient(p.params), p.id, false
	for range maxRounds {
		answer, err := l.exchange(ctx, p, id, params)
		if f := asMismatch(err); f && p.method == "tools/call" && !taught {
			taught = true
			l.learnAll(ctx)
			continue
		}
		switch {
		case err != nil:
			return nil, err
		case answer.failed != nil:
			e := lenient(answer.failed)
			return nil, &failure{code: codeOf(answer.failed), text: e.text("message"), data: e.get("data")}
		}
		result, err := readObject(answer.result)
		if err != nil {
			return nil, &failure{code: codeInternal, text: "the MCP server sent a result that is no object"}
		}
		switch result.text("resultType") {
		case "", "complete":
			if p.method == "tools/list" {
				l.tools.Learn(answer.result)
			}
			return resultToLegacy(p.method, result), nil
		case "input_required":
			answers, err := l.askAll(ctx, p, lenient(result.get("inputRequests")))
			if err != nil {
				return nil, err
			}
			params = params.without("requestState").with("inputResponses", answers.bytes())
			if state := result.get("requestState"); state != nil {
				params = params.with("requestState", state)
			}
			id = l.nextID() // the retry is a request of its own
		default:
			return nil, &failure{code: codeInternal, text: "the MCP server sent a kind of result that this client cannot know"}
		}
	}
	return nil, &failure{code: codeInternal, text: "the MCP server asked for more again and again"}
}

func asMismatch(err error) bool {
	return err != nil && asFailure(err).code == headerMismatch
}

// exchange is one round: it passes on what the server says meanwhile, and returns
// its answer.
func (l *Legacy) exchange(ctx context.Context, p *packet, id jsontext.Value, params object) (*packet, error) {
	line := requestLine(id, p.method, l.wrapping().wrap(params).bytes())
	a, err := l.server.Post(ctx, l.header(ctx, p.method, params), line)
	if err != nil {
		return nil, unreachable(err)
	}
	if a.Status != http.StatusOK {
		return nil, refusal(a)
	}
	var answer *packet
	want := envelope.Key(id)
	err = a.Each(func(line []byte) bool {
		said, err := readPacket(line)
		switch {
		case err != nil:
			l.o.Log.Warn("message of the server not understood", "error", err)
		case said.kind == envelope.Notification:
			l.o.Emit(line, p.key())
		case said.kind == envelope.Response && (said.id == nil || said.key() == want):
			answer = said
		}
		return answer == nil
	})
	if answer == nil {
		return nil, &unreached{failure{code: http.StatusBadGateway, text: "the MCP server broke off before it answered"}, orEnd(err)}
	}
	return answer, nil
}

// nextID is the id of a request of Stile's own, to either side.
func (l *Legacy) nextID() jsontext.Value {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	return quote("stile-" + strconv.FormatUint(l.last, 10))
}
