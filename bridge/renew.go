package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/remote"
)

// greeting is what came of an initialize: a session and the answer, the answer alone
// where it began none, or a refusal.
type greeting struct {
	session *session
	answer  *envelope.Message
	refused *refusal
}

// initialize sends an initialize, under the id it has. Other messages on the way are
// h's.
func (b *bridge) initialize(ctx context.Context, server *remote.Server, m *envelope.Message, h *hearing) (greeting, error) {
	a, err := server.Post(ctx, http.Header{}, m.Raw)
	if err != nil {
		return greeting{}, err
	}
	if a.Status/100 != 2 {
		return greeting{refused: readRefusal(a)}, nil
	}
	key := envelope.Key(m.At(m.ID))
	var g greeting
	err = a.Each(func(line []byte) bool {
		said, err := envelope.Read(line)
		if err == nil && said.Kind == envelope.Response && (!said.ID.Exists() || envelope.Key(said.At(said.ID)) == key) {
			g.answer = said
		} else {
			h.take(line)
		}
		return g.answer == nil
	})
	switch {
	case g.answer == nil && err != nil:
		return greeting{}, err
	case g.answer == nil:
		return greeting{refused: &refusal{status: http.StatusUnsupportedMediaType, header: a.Header}}, nil
	case !g.answer.Failed && g.answer.Version.Exists():
		g.session = b.newSession(a.Header.Get(remote.HeaderSession), g.answer.Text(g.answer.Version))
	}
	return g, nil
}

// renew begins a session in place of one that the server has forgotten, by the
// client's own initialize, and tells it what the old one was told. It does so once,
// however many calls find that out.
func (d *oldDoor) renew(ctx context.Context, lost *session) (*session, error) {
	done := d.renews.DoChan("", func() (any, error) {
		if s := d.current(); s != lost {
			return s, nil
		}
		return d.replace(lost)
	})
	select {
	case r := <-done:
		s, _ := r.Val.(*session)
		return s, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *oldDoor) replace(lost *session) (*session, error) {
	d.mu.Lock()
	init := d.init
	d.mu.Unlock()
	if init == nil {
		return nil, errors.New("the client has sent no initialize")
	}
	d.b.log.Info("the MCP server ended the session; a new one is begun")
	lost.cut()
	d.withdraw(lost)
	own, err := envelope.Read(init.Replace(envelope.Edit{At: init.ID, With: []byte(`"stile-initialize"`)}))
	if err != nil {
		return nil, err
	}
	server := &remote.Server{Transport: newPatient(d.b.far.detect, tellTime), Max: d.b.config.MaxMessage}
	g, err := d.b.initialize(d.b.ctx, server, own, &hearing{b: d.b, asked: func(m *envelope.Message) { d.note(m, nil) }})
	switch {
	case err != nil:
		return nil, err
	case g.refused != nil:
		return nil, fmt.Errorf("it refused that with status %d", g.refused.status)
	case g.session == nil:
		return nil, fmt.Errorf("it refused that: %s", (&refusal{body: g.answer.Raw}).message())
	case g.session.version != lost.version:
		return nil, fmt.Errorf("it speaks revision %s now, not %s", plain(g.session.version), plain(lost.version))
	}
	d.restore(server, g.session)
	d.begin(g.session, nil)
	d.hear(g.session)
	return g.session, nil
}

// restore tells a new session what the client had told the one before.
func (d *oldDoor) restore(server *remote.Server, s *session) {
	d.mu.Lock()
	begun, again := d.begun, [][]byte{}
	if d.level != nil {
		again = append(again, d.level)
	}
	for _, line := range d.watched {
		again = append(again, line)
	}
	d.mu.Unlock()
	if begun == nil {
		begun = []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	}
	if refused, err := d.tell(s, begun); err != nil || refused != nil {
		d.b.lost("notifications/initialized", refused, err)
	}
	for i, line := range again {
		m, err := envelope.Read(line)
		if err != nil {
			continue // it was read before
		}
		line = m.Replace(envelope.Edit{At: m.ID, With: strconv.AppendQuote(nil, "stile-again-"+strconv.Itoa(i))})
		a, err := server.Post(d.b.ctx, s.header(), line)
		if err == nil {
			err = a.Each(func([]byte) bool { return true })
		}
		if err != nil {
			d.b.log.Warn("not made again in the new session", "method", m.Method, "error", err)
		}
	}
}

// withdraw takes back from the client what a session that is over has asked it.
func (d *oldDoor) withdraw(s *session) {
	d.mu.Lock()
	var lines [][]byte
	for key, q := range d.asked {
		if q.session == s {
			delete(d.asked, key)
			lines = append(lines, fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s,"reason":"the session with the MCP server has ended"}}`, q.id))
		}
	}
	d.mu.Unlock()
	for _, line := range lines {
		d.b.pass(line)
	}
}
