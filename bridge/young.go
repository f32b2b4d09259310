package bridge

import (
	"bytes"
	"context"
	"net/http"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/era"
	"github.com/stile-mcp/stile/internal/mirror"
	"github.com/stile-mcp/stile/internal/remote"
)

// newDoor serves a client of 2026-07-28: by requests that each stand alone, and
// through era.Modern at a server of the 2025 revisions.
type newDoor struct {
	b     *bridge
	tools mirror.Table

	mu         sync.Mutex
	open       bool
	translator *era.Modern
}

// isOpen reports whether a client of 2026-07-28 has shown itself.
func (d *newDoor) isOpen() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// translates returns who translates, if need be; nil where the server speaks
// 2026-07-28, or has not shown yet that it does not.
func (d *newDoor) translates(ctx context.Context) (*era.Modern, error) {
	d.mu.Lock()
	t := d.translator
	d.open = true
	d.mu.Unlock()
	if t != nil {
		return t, nil
	}
	if modern, err := d.b.far.speaksModern(ctx); err != nil || modern != no {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.translator == nil && d.b.ctx.Err() == nil {
		t, err := era.NewModern(d.b.translation())
		if err != nil {
			return nil, err
		}
		d.translator = t
		d.b.log.Info("the MCP server speaks an older revision than the client, which is translated")
	}
	return d.translator, nil
}

// serve has a request answered.
func (d *newDoor) serve(c *call) {
	t, err := d.translates(c.ctx)
	switch {
	case err != nil:
		c.refused(nil, err)
	case t != nil:
		d.b.translated(c, t)
	default:
		d.carry(c)
	}
}

// headerOf is the header of a request: what intermediaries go by repeats the body
// (2026-07-28 streamable-http "Request Metadata").
func (d *newDoor) headerOf(m *envelope.Message) http.Header {
	var said struct {
		Params jsontext.Value `json:"params"`
	}
	_ = json.Unmarshal(m.Raw, &said, lenient) // it was read before
	h := http.Header{}
	d.tools.Set(h, m.Method, said.Params)
	if m.Revision.Exists() {
		h.Set(remote.HeaderVersion, m.Text(m.Revision))
	}
	return h
}

// carry takes a request to the server; once more where it misses headers for
// arguments, after its list of tools has told which (2026-07-28 streamable-http
// "Custom Headers from Tool Parameters").
func (d *newDoor) carry(c *call) {
	for taught := false; ; taught = true {
		if !isHeader(d.headerOf(c.m)) {
			c.fail(codeInvalidRequest, "the method or the revision has characters that no header can carry")
			return
		}
		a, refused, err := d.post(c)
		switch {
		case a != nil && c.isListen() && a.IsStream():
			d.keep(c, a)
			return
		case a != nil:
			d.hearAnswer(c, a)
			return
		case refused != nil && refused.code == codeMismatch && c.m.Method == "tools/call" && !taught:
			d.learn(c)
			continue
		case refused != nil && refused.mayBeOld():
			d.b.far.doubt()
		}
		c.refused(refused, err)
		return
	}
}

// post sends a request: it returns the answer, a refusal, or why there is neither.
func (d *newDoor) post(c *call) (*remote.Reply, *refusal, error) {
	a, err := d.b.far.server.Post(onWire(c.ctx, c.sent), d.headerOf(c.m), c.m.Raw)
	if err != nil {
		return nil, nil, err
	}
	if a.Status/100 != 2 {
		return nil, readRefusal(a), nil
	}
	return a, nil, nil
}

// mayBeOld reports whether a server of the 2025 revisions could have said so.
func (r *refusal) mayBeOld() bool {
	return !r.isRPC && r.status/100 == 4 && r.status != http.StatusUnauthorized && r.status != http.StatusForbidden
}

func (d *newDoor) hearAnswer(c *call, a *remote.Reply) {
	h := hearing{b: d.b, call: c, answered: func(m *envelope.Message) {
		if c.m.Method == "tools/list" && !m.Failed {
			d.tools.Learn(resultOf(m.Raw))
		}
	}}
	err := a.Each(func(line []byte) bool { h.take(line); return !c.isCancelled() })
	c.incomplete(a, err)
}

// isHeader reports whether every value can be sent.
func isHeader(h http.Header) bool {
	for _, values := range h {
		for _, v := range values {
			if bytes.ContainsFunc([]byte(v), func(r rune) bool { return r < ' ' || r > '~' }) {
				return false
			}
		}
	}
	return true
}

func resultOf(raw []byte) jsontext.Value {
	var said struct {
		Result jsontext.Value `json:"result"`
	}
	_ = json.Unmarshal(raw, &said, lenient) // it was read before
	return said.Result
}

// learn asks the server for its tools, in the name of who called one.
func (d *newDoor) learn(c *call) {
	var said struct {
		Params struct {
			Meta map[string]jsontext.Value `json:"_meta"`
		} `json:"params"`
	}
	if json.Unmarshal(c.m.Raw, &said, lenient) != nil {
		return
	}
	delete(said.Params.Meta, "progressToken")
	delete(said.Params.Meta, "io.modelcontextprotocol/logLevel")
	cursor := ""
	for range mirror.MaxPages {
		params := map[string]any{"_meta": said.Params.Meta}
		if cursor != "" {
			params["cursor"] = cursor
		}
		line, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": "stile-tools", "method": "tools/list", "params": params}, lenient, json.Deterministic(true))
		if err != nil {
			return
		}
		h := http.Header{"Mcp-Method": {"tools/list"}, remote.HeaderVersion: {c.m.Text(c.m.Revision)}}
		a, err := d.b.far.server.Post(c.ctx, h, line)
		if err != nil {
			return
		}
		var result jsontext.Value
		err = a.Each(func(line []byte) bool {
			m, err := envelope.Read(line)
			if err == nil && m.Kind == envelope.Response {
				result = resultOf(m.Raw)
			}
			return result == nil
		})
		if cursor = d.tools.Learn(result); cursor == "" || err != nil {
			return
		}
	}
}

// cancel closes the stream of a request, which is how the server is told (2026-07-28
// streamable-http "Cancellation").
func (d *newDoor) cancel(c *call, m *envelope.Message) {
	d.mu.Lock()
	t := d.translator
	d.mu.Unlock()
	if t != nil {
		t.Receive(d.b.ctx, m.Raw)
	}
	c.cut()
}

// notify passes a notification on. The core protocol has none on HTTP.
func (d *newDoor) notify(m *envelope.Message) {
	d.b.deliver(func() {
		t, err := d.translates(d.b.ctx)
		if t != nil {
			t.Receive(d.b.ctx, m.Raw)
			return
		}
		var refused *refusal
		if err == nil {
			if h := d.headerOf(m); isHeader(h) {
				refused, err = d.b.tell(d.b.ctx, h, m.Raw)
			}
		}
		if err != nil || refused != nil {
			d.b.lost("notification "+m.Method, refused, err)
		}
	})
}

// close ends what is translated, and its sessions.
func (d *newDoor) close(context.Context) {
	d.mu.Lock()
	t := d.translator
	d.mu.Unlock()
	if t != nil {
		t.Close()
	}
}
