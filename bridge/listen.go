package bridge

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/remote"
)

// subscription is a subscriptions/listen of the client. On stdio it lasts as long as
// the connection does (2026-07-28 basic/patterns/subscriptions), so that a stream of
// the server that breaks off is opened again; what may have been missed is then said
// to have changed.
type subscription struct {
	c     *call
	acked bool
	again bool // the stream is not the first
}

// take takes a message of the stream before the client does, and reports whether that
// has it already.
func (s *subscription) take(line []byte) bool {
	m, err := envelope.Read(line)
	if err != nil || m.Method != "notifications/subscriptions/acknowledged" {
		return false
	}
	known := s.acked
	s.acked = true
	if !known || !s.again {
		return false
	}
	s.missed(m)
	return true
}

// missed tells the client of everything that the server agreed to tell of.
func (s *subscription) missed(ack *envelope.Message) {
	var said struct {
		Params struct {
			Notifications struct {
				Tools     bool             `json:"toolsListChanged"`
				Prompts   bool             `json:"promptsListChanged"`
				Resources bool             `json:"resourcesListChanged"`
				URIs      []jsontext.Value `json:"resourceSubscriptions"`
			} `json:"notifications"`
		} `json:"params"`
	}
	if json.Unmarshal(ack.Raw, &said, lenient) != nil {
		return
	}
	tell := func(method string, more string) {
		s.c.b.pass(fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/%s","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}%s}}`, method, s.c.id, more))
	}
	agreed := said.Params.Notifications
	for _, one := range []struct {
		is     bool
		method string
	}{{agreed.Tools, "tools/list_changed"}, {agreed.Prompts, "prompts/list_changed"}, {agreed.Resources, "resources/list_changed"}} {
		if one.is {
			tell(one.method, "")
		}
	}
	for _, uri := range agreed.URIs {
		tell("resources/updated", `,"uri":`+string(uri))
	}
}

// keep opens the stream again, with longer and longer pauses, and gives up when
// nothing came on it for maxReturns times.
func (d *newDoor) keep(c *call, a *remote.Reply) {
	s := &subscription{c: c}
	wait := remote.MinPause
	for tries := 0; ; {
		h := hearing{b: d.b, call: c}
		began := time.Now()
		err := a.Each(func(line []byte) bool {
			if !s.take(line) {
				h.take(line)
			}
			return !c.isCancelled()
		})
		if time.Since(began) > wait {
			tries, wait = 0, remote.MinPause
		}
		var refused *refusal
		for a = nil; a == nil; {
			if tries++; c.over() || tries > maxReturns || isTooLarge(err) || !s.acked {
				c.unheard(refused, err)
				return
			}
			if !remote.Pause(c.ctx, wait) {
				return
			}
			wait = min(2*wait, remote.MaxPause)
			if a, refused, err = d.post(c); refused != nil && refused.status < 500 {
				c.refused(refused, err)
				return
			}
		}
		s.again = true
	}
}

// unheard answers a subscription that is over against the will of both sides.
func (c *call) unheard(refused *refusal, err error) {
	if refused != nil {
		c.refused(refused, nil)
		return
	}
	if !c.over() {
		c.b.log.Warn("a subscription broke off", "error", err)
		c.fail(502, fmt.Sprintf("the MCP server at %s broke the subscription off; subscribe again", c.b.far.host()))
	}
}
