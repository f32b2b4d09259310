package era

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/remote"
)

// news is what a session of the 2025 revisions hears unasked: one
// subscriptions/listen at a time, exchanged for another when what is wanted changes.
type news struct {
	l *Legacy

	changing sync.Mutex // held while one stream takes the place of another

	mu      sync.Mutex
	begun   bool // the client has said that it is ready
	uris    []string
	current *newsStream
}

// newsStream is one subscriptions/listen.
type newsStream struct {
	filter filter
	cancel context.CancelFunc
	acked  chan filter // what the server agreed to, once
	began  bool
	before *newsStream // whose place it took
}

// change adds a resource to what is heard, or takes it out, and begins to hear; with
// no uri it only begins. It reports whether the server agreed to tell of the
// resource.
func (n *news) change(ctx context.Context, uri string, on bool) (bool, error) {
	n.changing.Lock()
	defer n.changing.Unlock()
	n.mu.Lock()
	n.begun = true
	uris := slices.DeleteFunc(slices.Clone(n.uris), func(s string) bool { return s == uri })
	n.mu.Unlock()
	if on {
		uris = append(uris, uri)
	}
	n.l.mu.Lock()
	want := filter{tools: true, prompts: true, resources: true, uris: uris}.within(n.l.offers)
	n.l.mu.Unlock()
	if on && !slices.Contains(want.uris, uri) {
		return false, nil
	}
	next := &newsStream{filter: want, acked: make(chan filter, 1), cancel: func() {}}
	got := want
	if !want.empty() {
		if !n.start(ctx, next) {
			return false, errStopping
		}
		select {
		case got = <-next.acked:
		case <-time.After(newsTime):
			next.cancel()
			return false, &failure{code: http.StatusGatewayTimeout, text: "the MCP server did not acknowledge the subscription in time"}
		case <-ctx.Done():
			next.cancel()
			return false, ctx.Err()
		}
	}
	old := n.adopt(next)
	if old == next {
		old = next.before
	}
	n.mu.Lock()
	n.uris = uris
	if on && !slices.Contains(got.uris, uri) {
		n.uris = slices.DeleteFunc(uris, func(s string) bool { return s == uri })
	}
	n.mu.Unlock()
	if old != nil {
		old.cancel()
	}
	return slices.Contains(got.uris, uri), nil
}

// adopt lets a stream be the one that is heard, and returns the one that was.
func (n *news) adopt(s *newsStream) (old *newsStream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old, n.current = n.current, s
	return old
}

// start hears a stream in the background.
func (n *news) start(ctx context.Context, s *newsStream) bool {
	own, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	return n.l.desk.do(ctx, func(ctx context.Context) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		defer cancel()
		defer context.AfterFunc(own, stop)()
		n.keep(ctx, s)
	})
}

// keep hears a stream, and opens it again when it ends. A server that refuses it has
// no news to tell.
func (n *news) keep(ctx context.Context, s *newsStream) {
	wait := remote.MinPause
	for ctx.Err() == nil {
		started := time.Now()
		refused, err := n.hear(ctx, s)
		if ctx.Err() != nil {
			return
		}
		if refused {
			n.l.o.Log.Debug("the server refused to send news", "error", err)
			s.ack(filter{})
			return
		}
		if wait = min(2*wait, remote.MaxPause); time.Since(started) > remote.MaxPause {
			wait = remote.MinPause
		}
		if !remote.Pause(ctx, wait) {
			return
		}
	}
}

func (s *newsStream) ack(f filter) {
	select {
	case s.acked <- f:
	default:
	}
}

// hear is one connection.
func (n *news) hear(ctx context.Context, s *newsStream) (refused bool, err error) {
	l := n.l
	id := l.nextID()
	params := l.wrapping().wrap(object{}.with("notifications", s.filter.bytes()))
	a, err := l.server.Post(ctx, l.header(ctx, "subscriptions/listen", nil), requestLine(id, "subscriptions/listen", params.bytes()))
	if err != nil {
		return false, err
	}
	if a.Status != http.StatusOK {
		f := refusal(a)
		return a.Status >= 400 && a.Status < 500, f
	}
	var failed jsontext.Value
	err = a.Each(func(line []byte) bool {
		p, e := readPacket(line)
		switch {
		case e != nil:
		case p.kind == envelope.Response:
			failed = p.failed
			return false
		case p.method == "notifications/subscriptions/acknowledged":
			if !s.began {
				// At once: the first news may be the next message.
				s.began, s.before = true, n.adopt(s)
			}
			s.ack(readFilter(lenient(p.params).get("notifications")))
		case p.kind == envelope.Notification && n.passes(s, p):
			l.o.Emit(untag(p), "")
		}
		return true
	})
	if failed != nil {
		return true, &failure{code: codeOf(failed), text: lenient(failed).text("message")}
	}
	return false, err
}

// passes keeps news from being told twice while one stream follows another, and what
// nobody has asked for from being told at all.
func (n *news) passes(s *newsStream, p *packet) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.current == s && s.filter.wants(p)
}

// untag takes the id of the subscription out, which the client has not given.
func untag(p *packet) []byte {
	params := lenient(p.params)
	meta := lenient(params.get("_meta")).without(metaSubscription)
	if len(meta) == 0 {
		params = params.without("_meta")
	} else {
		params = params.with("_meta", meta.bytes())
	}
	if len(params) == 0 {
		return p.all.without("params").bytes()
	}
	return p.all.with("params", params.bytes()).bytes()
}
