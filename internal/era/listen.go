package era

import (
	"context"
	"slices"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// filter says which news are wanted (basic/patterns/subscriptions "Notification
// Filter").
type filter struct {
	tools, prompts, resources bool
	uris                      []string
}

func readFilter(v jsontext.Value) filter {
	o := lenient(v)
	f := filter{tools: isTrue(o.get("toolsListChanged")), prompts: isTrue(o.get("promptsListChanged")),
		resources: isTrue(o.get("resourcesListChanged"))}
	for _, uri := range elements(o.get("resourceSubscriptions")) {
		if text := textOf(uri); text != "" && !slices.Contains(f.uris, text) {
			f.uris = append(f.uris, text)
		}
	}
	return f
}

// bytes writes the filter; what is not wanted is left out.
func (f filter) bytes() jsontext.Value {
	o := object{}
	for _, one := range []struct {
		name string
		is   bool
	}{{"toolsListChanged", f.tools}, {"promptsListChanged", f.prompts}, {"resourcesListChanged", f.resources}} {
		if one.is {
			o = o.with(one.name, []byte("true"))
		}
	}
	if len(f.uris) > 0 {
		list := []byte{'['}
		for i, uri := range f.uris {
			if i > 0 {
				list = append(list, ',')
			}
			list = append(list, quote(uri)...)
		}
		o = o.with("resourceSubscriptions", append(list, ']'))
	}
	return o.bytes()
}

func (f filter) empty() bool { return !f.tools && !f.prompts && !f.resources && len(f.uris) == 0 }

// wants reports whether a notification passes.
func (f filter) wants(p *packet) bool {
	switch p.method {
	case "notifications/tools/list_changed":
		return f.tools
	case "notifications/prompts/list_changed":
		return f.prompts
	case "notifications/resources/list_changed":
		return f.resources
	case "notifications/resources/updated":
		return slices.Contains(f.uris, lenient(p.params).text("uri"))
	}
	return false
}

// within is the part of a filter that a server with these capabilities can honour.
func (f filter) within(offers object) filter {
	changes := func(name string) bool { return isTrue(lenient(offers.get(name)).get("listChanged")) }
	f.tools = f.tools && changes("tools")
	f.prompts = f.prompts && changes("prompts")
	f.resources = f.resources && changes("resources")
	if !isTrue(lenient(offers.get("resources")).get("subscribe")) {
		f.uris = nil
	}
	return f
}

// listener is one subscriptions/listen of a client.
type listener struct {
	filter filter
	id     jsontext.Value
	emit   func(line []byte)
	done   chan struct{}
	once   sync.Once
}

func (l *listener) finish() { l.once.Do(func() { close(l.done) }) }

// tag adds the id of the subscription to a notification.
func (l *listener) tag(p *packet) []byte {
	params := lenient(p.params)
	meta := lenient(params.get("_meta")).with(metaSubscription, l.id)
	return p.all.with("params", params.with("_meta", meta.bytes()).bytes()).bytes()
}

// listen is a stream of news: those of lists come by themselves, those of resources
// have to be subscribed to.
func (m *Modern) listen(ctx context.Context, p *packet, w wrapping, params object) ([]byte, error) {
	s, err := m.session(ctx, w)
	if err != nil {
		return nil, err
	}
	s.awaitStream(ctx)
	l := &listener{filter: readFilter(params.get("notifications")).within(s.offers), id: p.id, done: make(chan struct{}),
		emit: func(line []byte) { m.o.Emit(line, p.key()) }}
	l.filter.uris = s.subscribe(ctx, l.filter.uris)
	defer s.unsubscribe(ctx, l.filter.uris)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	meta := object{}.with(metaSubscription, p.id)
	l.emit(notificationLine("notifications/subscriptions/acknowledged",
		object{}.with("_meta", meta.bytes()).with("notifications", l.filter.bytes()).bytes()))
	if s.add(l) {
		select {
		case <-l.done:
		case <-ctx.Done():
		}
		s.remove(l)
	}
	if m.desk.ctx.Err() == nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	result, _ := resultToModern(p.method, object{}.with("_meta", meta.bytes()).bytes(), s.server)
	return resultLine(p.id, result), nil
}

func (s *farSession) add(l *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *farSession) remove(l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

// publish takes news to who wants them.
func (s *farSession) publish(p *packet) {
	s.mu.Lock()
	var all []*listener
	for l := range s.listeners {
		if l.filter.wants(p) {
			all = append(all, l)
		}
	}
	s.mu.Unlock()
	for _, l := range all {
		l.emit(l.tag(p))
	}
}

// subscribe asks for news of resources that nobody has asked for yet, and returns
// those that the server will tell of.
func (s *farSession) subscribe(ctx context.Context, uris []string) []string {
	s.watching.Lock()
	defer s.watching.Unlock()
	var got []string
	for _, uri := range uris {
		s.mu.Lock()
		s.watched[uri]++
		first := s.watched[uri] == 1
		s.mu.Unlock()
		if first {
			if s.ask(ctx, "resources/subscribe", object{}.with("uri", quote(uri)).bytes()) != nil {
				s.unwatch(uri)
				continue
			}
		}
		got = append(got, uri)
	}
	return got
}

func (s *farSession) unwatch(uri string) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched[uri]--
	if s.watched[uri] > 0 {
		return false
	}
	delete(s.watched, uri)
	return !s.over
}

// unsubscribe takes back what nobody listens to any more.
func (s *farSession) unsubscribe(ctx context.Context, uris []string) {
	if len(uris) == 0 {
		return
	}
	s.m.desk.do(ctx, func(ctx context.Context) {
		s.watching.Lock()
		defer s.watching.Unlock()
		for _, uri := range uris {
			if s.unwatch(uri) {
				_ = s.ask(ctx, "resources/unsubscribe", object{}.with("uri", quote(uri)).bytes())
			}
		}
	})
}
