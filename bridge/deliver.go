package bridge

import (
	"context"
	"fmt"
	"net/http"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/era"
	"github.com/stile-mcp/stile/internal/remote"
)

// maxDeliveries is how many messages without an answer may be on their way. A server
// that takes them slower than the client says them loses the rest.
const maxDeliveries = 256

// deliver runs f, which sends a message that has no answer, in the background. It
// reports false when there are too many, or the end has come.
func (b *bridge) deliver(f func()) bool {
	if b.deliveries.Add(1) > maxDeliveries {
		b.deliveries.Add(-1)
		b.complain("message to the MCP server lost: too many are on their way")
		return false
	}
	b.posts.Add(1)
	if !b.spawn(func() {
		defer b.posts.Done()
		defer b.deliveries.Add(-1)
		f()
	}) {
		b.posts.Done()
		b.deliveries.Add(-1)
		return false
	}
	return true
}

// tell sends a message that has no answer, and returns the server's refusal, if it
// does not take it.
func (b *bridge) tell(ctx context.Context, h http.Header, line []byte) (*refusal, error) {
	server := remote.Server{Transport: newPatient(b.far.detect, tellTime), Max: b.config.MaxMessage}
	a, err := server.Post(ctx, h, line)
	if err != nil {
		return nil, err
	}
	if a.Status/100 == 2 && a.IsStream() {
		a.Close() // which need not end
		return nil, nil
	}
	if r := readRefusal(a); a.Status/100 != 2 {
		return r, nil
	}
	return nil, nil
}

// lost logs that a message did not get through, by a refusal or an error. There is
// nobody to tell.
func (b *bridge) lost(what string, r *refusal, err error) {
	if b.ctx.Err() != nil {
		return
	}
	if err == nil {
		err = fmt.Errorf("status %d", r.status)
		if said := r.message(); said != "" {
			err = fmt.Errorf("status %d: %s", r.status, said)
		}
	}
	b.complain("not taken by the MCP server: "+what, "error", err)
}

// translation is what whoever translates is made of.
func (b *bridge) translation() era.Options {
	return era.Options{Name: b.far.host(), Upstream: explained{b}, MaxMessage: b.config.MaxMessage, Log: b.log,
		Emit: func(line []byte, about string) { b.emit(line, about) }}
}

// translated has a request answered by who translates.
func (b *bridge) translated(c *call, t interface {
	Receive(ctx context.Context, line []byte)
}) {
	c.sent()
	t.Receive(onWire(b.ctx, func() {}), c.m.Raw)
	select {
	case <-c.done:
	case <-c.ctx.Done():
	}
}

// emit takes a message of who translates.
func (b *bridge) emit(line []byte, _ string) {
	m, err := envelope.Read(line)
	switch {
	case err != nil:
		b.complain("message of the MCP server skipped", "error", err)
	case m.Kind != envelope.Response:
		b.pass(line)
	case m.ID.Exists():
		if c := b.desk.find(envelope.Key(m.At(m.ID))); c != nil {
			c.answer(line)
		}
	}
}
