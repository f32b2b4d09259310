package forward

import (
	"bytes"
	"context"
	"sync"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/era"
	"github.com/stile-mcp/stile/internal/stdio"
)

// peer is a child in this process: one that translates between the generations of
// the protocol.
type peer struct {
	translator interface {
		Receive(ctx context.Context, line []byte)
		Close()
	}
	stop sync.Once
	done chan struct{}

	mu      sync.RWMutex
	stopped bool
}

func newPeer() *peer { return &peer{done: make(chan struct{})} }

// Send hands a message to the translator.
func (p *peer) Send(ctx context.Context, line []byte) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.stopped {
		return stdio.ErrGone
	}
	p.translator.Receive(ctx, bytes.Clone(line))
	return nil
}

// Stop ends what is under way. That takes no longer than telling the server.
func (p *peer) Stop(context.Context) {
	p.stop.Do(func() {
		p.mu.Lock()
		p.stopped = true
		p.mu.Unlock()
		p.translator.Close()
		close(p.done)
	})
	<-p.done
}

// Done is closed when nothing is under way any more.
func (p *peer) Done() <-chan struct{} { return p.done }

// busy reports whether a call waits for its client.
func (p *peer) busy() bool {
	m, ok := p.translator.(*era.Modern)
	return ok && m.Busy()
}

// Err is why that is.
func (p *peer) Err() error { return stdio.ErrStopped }

// peer makes the peer that a child of an Era is.
func (e *Era) peer(k *child) (connection, error) {
	p := newPeer()
	options := era.Options{Name: e.config.Name, Upstream: inside{e.watched}, Owner: k.owner, Emit: k.hearAbout,
		AskTime: e.config.AskTime, MaxAsking: e.config.MaxAsking, MaxMessage: e.config.MaxMessage, Log: e.config.Log}
	if !k.key.modern {
		p.translator = era.NewLegacy(options)
		return p, nil
	}
	modern, err := era.NewModern(options)
	if err != nil {
		return nil, err
	}
	p.translator = modern
	return p, nil
}

// hearAbout takes a message of a peer, which says what it is about.
func (k *child) hearAbout(line []byte, about string) {
	m, err := envelope.Read(line)
	if err != nil {
		k.log.Warn("message of the server not understood", "error", err)
		return
	}
	k.mu.Lock()
	x := k.calls[about]
	k.mu.Unlock()
	switch {
	case m.Kind == envelope.Response:
		k.hearResponse(m)
	case x != nil && k.shared:
		x.stream.add(event{data: m.Replace(envelope.Edit{At: m.Token, With: x.token}, envelope.Edit{At: m.Subscription, With: x.id})})
	case x != nil && x.stream.reachable() && x.stream.add(eventOf(m)):
	case m.Kind == envelope.Request:
		k.hearRequest(m)
	default:
		k.hearNotification(m)
	}
}

// eventOf is a message on its way to a client.
func eventOf(m *envelope.Message) event {
	e := event{data: m.Raw}
	if m.Kind == envelope.Request {
		e.asks = m.At(m.ID)
	}
	return e
}
