package bridge

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/remote"
	"github.com/stile-mcp/stile/internal/sse"
	"github.com/stile-mcp/stile/stepup"
)

// sseStream is one event stream of a server of the older transport, and the URL that
// messages go to.
type sseStream struct {
	d   *detect
	id  string
	ctx context.Context
	cut context.CancelFunc

	ready    chan struct{} // closed when endpoint is known
	endpoint *url.URL
	done     chan struct{} // closed when it is over; err is set before
	err      error

	unasked chan []byte // what is no answer, for who listens

	mu    sync.Mutex
	over  bool
	calls []*sseCall // in the order they began
}

const (
	// endpointTime is how long a server may take to open an event stream and to say
	// where messages go.
	endpointTime = 10 * time.Second
	// maxUnasked is how many messages wait until they are listened to.
	maxUnasked = 256
)

// open opens an event stream. It returns once messages can be sent.
func (d *detect) open(ctx context.Context) (*sseStream, error) {
	s := &sseStream{d: d, id: "sse-" + rand.Text(), ready: make(chan struct{}), done: make(chan struct{}),
		unasked: make(chan []byte, maxUnasked)}
	s.ctx, s.cut = context.WithCancel(d.b.ctx)
	if !d.b.spawn(s.run) {
		s.cut()
		return nil, errors.New("the bridge is ending")
	}
	select {
	case <-s.ready:
	case <-s.done:
		return nil, s.err
	case <-ctx.Done():
		s.cut()
		return nil, ctx.Err()
	}
	d.mu.Lock()
	d.streams[s.id] = s
	d.mu.Unlock()
	return s, nil
}

// run hears the stream to its end.
func (s *sseStream) run() {
	s.err = s.hear()
	s.cut()
	s.d.mu.Lock()
	delete(s.d.streams, s.id)
	s.d.mu.Unlock()
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	close(s.done)
}

func (s *sseStream) hear() error {
	slow := newPatient(s.d.target, endpointTime)
	server := remote.Server{Transport: slow, Max: s.d.b.config.MaxMessage}
	a, err := server.Get(s.ctx, http.Header{}, "")
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK || !a.IsStream() {
		a.Close()
		return errors.New("a GET opens no event stream")
	}
	var wrong error
	err = a.Events(func(e sse.Event) bool {
		switch {
		case string(e.Type) == "endpoint" && s.endpoint == nil:
			if s.endpoint, wrong = sse.MessageURL(s.d.target.url, string(e.Data)); wrong == nil {
				calm(a.Body)
				close(s.ready)
			}
		case len(e.Type) > 0 && string(e.Type) != "message", len(bytes.TrimSpace(e.Data)) == 0:
		case s.endpoint == nil:
			wrong = errors.New("the event stream does not begin with an endpoint")
		default:
			s.sort(bytes.Clone(e.Data))
		}
		return wrong == nil
	})
	if wrong != nil {
		return wrong
	}
	if err == nil {
		err = errors.New("the MCP server ended the event stream")
	}
	return err
}

// sseCall is one request whose answer is waited for.
type sseCall struct {
	key, token string // of its id and progress token
	lines      chan []byte
	gone       <-chan struct{} // closed when nobody reads them any more
	answered   atomic.Bool
}

// sending is the context of a call's POST. It ends with r's, unless that ends because
// the answer is there: to break off a POST that is just being answered can break
// another that has got its connection (http.Transport hands it on before the first has
// returned).
func (s *sseStream) sending(r *http.Request, c *sseCall) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	stop := context.AfterFunc(s.ctx, cancel)
	context.AfterFunc(r.Context(), func() {
		if c.answered.Load() {
			time.AfterFunc(tellTime, cancel)
			return
		}
		cancel()
	})
	return ctx, func() { stop(); cancel() }
}

// sort takes a message to the stream it would come on in Streamable HTTP: an answer and
// progress to their call, a question or log message to the call that began last, and
// anything else to who listens.
func (s *sseStream) sort(line []byte) {
	if c := s.callOf(line); c != nil {
		select {
		case c.lines <- line:
			return
		case <-c.gone:
		case <-s.ctx.Done():
		}
	}
	select {
	case s.unasked <- line:
	case <-s.ctx.Done():
	default:
		s.d.b.complain("message of the MCP server lost: nobody listens")
	}
}

func (s *sseStream) callOf(line []byte) *sseCall {
	m, err := envelope.Read(line)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		switch {
		case m.Kind == envelope.Response && m.ID.Exists() && c.key == envelope.Key(m.At(m.ID)),
			m.Method == "notifications/progress" && c.token != "" && c.token == envelope.Key(m.At(m.Token)):
			return c
		}
	}
	if (m.Kind == envelope.Request || m.Method == "notifications/message") && len(s.calls) > 0 {
		return s.calls[len(s.calls)-1]
	}
	return nil
}

// enter registers a call; false when the stream is over.
func (s *sseStream) enter(c *sseCall) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.calls = append(s.calls, c)
	}
	return !s.over
}

func (s *sseStream) leave(c *sseCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = slices.DeleteFunc(s.calls, func(one *sseCall) bool { return one == c })
}

// post sends one message.
func (s *sseStream) post(r *http.Request, m *envelope.Message) (*http.Response, error) {
	if m.Kind == envelope.Request {
		return s.ask(r, m)
	}
	res, err := s.send(r.Context(), m)
	if err == nil && res.StatusCode/100 == 2 {
		drain(res)
		res = answerWith(r, http.StatusAccepted, "", nil)
	}
	return res, err
}

// ask sends a request, whose answer comes on the event stream: a server may answer the
// POST itself before that, after it, or never.
func (s *sseStream) ask(r *http.Request, m *envelope.Message) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	c := &sseCall{key: envelope.Key(m.At(m.ID)), lines: make(chan []byte), gone: ctx.Done()}
	if m.Token.Exists() {
		c.token = envelope.Key(m.At(m.Token))
	}
	in, out := io.Pipe()
	refused := make(chan *http.Response, 1)
	switch {
	case !s.enter(c):
		cancel()
		return answerWith(r, http.StatusNotFound, "", nil), nil
	case !s.d.b.spawn(func() { s.relay(ctx, c, out) }):
		cancel()
		s.leave(c)
		return nil, context.Canceled
	}
	fail := func(err error) {
		_ = out.CloseWithError(err)
		cancel()
	}
	first, begun := make([]byte, 1), make(chan error, 1)
	if !s.d.b.spawn(func() { s.submit(r, m, c, refused, fail) }) || !s.d.b.spawn(func() {
		_, err := io.ReadFull(in, first)
		begun <- err
	}) {
		fail(context.Canceled)
		return nil, context.Canceled
	}
	select {
	case res := <-refused:
		fail(context.Canceled)
		return res, nil
	case err := <-begun:
		if err != nil {
			cancel()
			return nil, err
		}
	}
	res := answerWith(r, http.StatusOK, "text/event-stream", &sseBody{io.MultiReader(bytes.NewReader(first), in), func() { _ = in.Close(); cancel() }})
	res.Header.Set(remote.HeaderSession, s.id)
	return res, nil
}

// submit posts a request. A refusal is handed on, and so is why there is no answer.
func (s *sseStream) submit(r *http.Request, m *envelope.Message, c *sseCall, refused chan<- *http.Response, fail func(error)) {
	ctx, done := s.sending(r, c)
	defer done()
	res, err := s.send(ctx, m)
	switch {
	case err != nil:
		fail(err)
	case res.StatusCode/100 != 2:
		refused <- res
	default:
		drain(res)
	}
}

// sseBody is the answer to a request.
type sseBody struct {
	io.Reader
	end func()
}

// Close says that nobody waits for the rest.
func (b *sseBody) Close() error {
	b.end()
	return nil
}

var errBrokeOff = errors.New("the event stream ended")

// relay writes what comes for a call, up to its answer.
func (s *sseStream) relay(ctx context.Context, c *sseCall, out *io.PipeWriter) {
	defer s.leave(c)
	for {
		select {
		case line := <-c.lines:
			m, err := envelope.Read(line)
			last := err == nil && m.Kind == envelope.Response && m.ID.Exists() && envelope.Key(m.At(m.ID)) == c.key
			if last {
				c.answered.Store(true)
			}
			if _, err := out.Write(sse.Format("", "", line)); err != nil {
				return
			}
			if last {
				_ = out.Close()
				return
			}
		case <-s.done:
			_ = out.CloseWithError(errBrokeOff)
			return
		case <-ctx.Done():
			_ = out.CloseWithError(context.Cause(ctx))
			return
		}
	}
}

func (s *sseStream) send(ctx context.Context, m *envelope.Message) (*http.Response, error) {
	ctx = stepup.WithResource(ctx, s.d.target.url.String())
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoint.String(), bytes.NewReader(m.Raw))
	if err != nil {
		return nil, err
	}
	q.Header.Set("Accept", "application/json, text/event-stream")
	q.Header.Set("Content-Type", "application/json")
	res, err := s.d.target.send(q, s.endpoint)
	if err != nil || res.StatusCode/100 == 2 {
		return res, err
	}
	// ctx may be over before somebody reads it.
	refused := readRefusal(&remote.Reply{Status: res.StatusCode, Header: res.Header, Body: res.Body})
	res.Body = io.NopCloser(bytes.NewReader(refused.body))
	if res.StatusCode == http.StatusGone {
		res.StatusCode = http.StatusNotFound
	}
	return res, nil
}

// drain reads an answer that says nothing, so that the connection can be used again.
func drain(res *http.Response) {
	_, _ = io.CopyN(io.Discard, res.Body, maxRefusal) // what there is
	_ = res.Body.Close()
}

// listen is the event stream that a GET of Streamable HTTP would open.
func (s *sseStream) listen(ctx context.Context) io.ReadCloser {
	in, out := io.Pipe()
	s.d.b.spawn(func() {
		defer func() { _ = out.Close() }()
		for {
			select {
			case line := <-s.unasked:
				if _, err := out.Write(sse.Format("", "", line)); err != nil {
					return
				}
			case <-s.done:
				return
			case <-ctx.Done():
				return
			}
		}
	})
	context.AfterFunc(ctx, func() { _ = in.CloseWithError(context.Cause(ctx)) })
	return in
}
