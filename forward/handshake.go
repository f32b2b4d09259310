package forward

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/session"
)

// What Stile says to a child that several clients share, in their place. It offers
// nothing that only one of them could do: no sampling, no elicitation, no roots.
const (
	ownInitialize = `{"jsonrpc":"2.0","id":"stile","method":"initialize","params":{"protocolVersion":"2025-11-25",` +
		`"capabilities":{},"clientInfo":{"name":"stile","version":"1"}}}`
	ownInitialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n"
	// ownMeta is what Stile says of itself in a request of 2026-07-28.
	ownMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},` +
		`"io.modelcontextprotocol/clientInfo":{"name":"stile","version":"1"}}`
	// ownDiscover is the probe by which a server of 2026-07-28 is known (2026-07-28
	// stdio "Backward Compatibility").
	ownDiscover = `{"jsonrpc":"2.0","id":"stile","method":"server/discover","params":{` + ownMeta + `}}`
)

// errSlowStart says that a child did not answer in time.
var errSlowStart = &refusal{status: http.StatusGatewayTimeout, text: "the MCP server did not answer in time after it was started"}

// pooled is the child that an owner's requests share, started and greeted if need
// be. The zero owner's is everybody's.
func (c *Command) pooled(ctx context.Context, owner session.Owner, modern bool) (*child, error) {
	if c.config.Isolation == IsolateShared {
		owner = session.Owner{}
	}
	key := poolKey{owner, modern}
	k, err := c.pick(owner, key)
	if err != nil {
		return nil, err
	}
	select {
	case <-k.opened:
		return k, k.openErr
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pick finds the child of a key, or starts one.
func (c *Command) pick(owner session.Owner, key poolKey) (*child, error) {
	c.starting.Lock() // one child a key
	defer c.starting.Unlock()
	c.mu.Lock()
	k, legacy := c.pools[key], c.legacy
	c.mu.Unlock()
	switch {
	case k != nil:
		return k, nil
	case legacy && key.modern:
		return nil, errLegacy
	}
	k, err := c.launch(owner, key, true)
	if err == nil {
		go k.greet()
	}
	return k, err
}

// greet is the handshake with a shared child.
func (k *child) greet() {
	err := k.shakeHands()
	if errors.Is(err, errSlowStart) && !k.key.modern {
		k.c.backoff.failed(k.owner, time.Now(), err)
	}
	k.openErr = err
	close(k.opened)
	if err != nil || k.welcome != nil && k.welcome.Failed {
		k.c.abandon(k)
		return
	}
	k.mu.Lock()
	if k.c.config.IdleTimeout > 0 && k.c.config.Isolation != IsolateShared && !k.gone {
		k.idle = time.AfterFunc(k.c.config.IdleTimeout, k.checkIdle)
	}
	k.mu.Unlock()
}

func (k *child) shakeHands() error {
	if k.c.peer != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.c.config.StartTimeout)
	defer cancel()
	greeting := ownInitialize
	if k.key.modern {
		greeting = ownDiscover
	}
	answer, err := k.ask(ctx, greeting)
	switch {
	case errors.Is(err, errSlowStart) && k.key.modern:
		// Silence is an answer too (2026-07-28 stdio "Backward Compatibility").
		_ = k.isLegacy()
		return err
	case err != nil:
		return err
	case k.key.modern:
		if err = k.judge(answer); err == nil {
			k.askTools(ctx)
		}
		return err
	}
	k.welcome = answer
	if answer.Failed {
		return nil
	}
	return k.send(ctx, []byte(ownInitialized))
}

// judge tells from the answer to the probe whether the server is of 2026-07-28.
func (k *child) judge(answer *envelope.Message) error {
	if !answer.Failed || answer.Code <= -32020 && answer.Code >= -32022 {
		return nil
	}
	return k.isLegacy()
}

func (k *child) isLegacy() error {
	k.c.mu.Lock()
	k.c.legacy = true
	k.c.mu.Unlock()
	k.log.Info("the MCP server does not speak 2026-07-28")
	return errLegacy
}

// ForgetEra lets the next request of 2026-07-28 find out anew whether the program
// speaks it: it may have been exchanged for another.
func (c *Command) ForgetEra() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.legacy = false
}

// ask sends a request of Stile's own and waits for the answer.
func (k *child) ask(ctx context.Context, body string) (*envelope.Message, error) {
	m, err := envelope.Read([]byte(body))
	if err != nil {
		return nil, err
	}
	x := &call{stream: newStream(&k.c.config)}
	e, err := k.await(ctx, x, m)
	if err != nil {
		return nil, err
	}
	return envelope.Read(e.data)
}

// await sends a request and waits for the one event that is its answer.
func (k *child) await(ctx context.Context, x *call, m *envelope.Message) (event, error) {
	r := x.stream.attach()
	defer x.stream.detach(r)
	line, err := k.expect(x, m)
	if err != nil {
		return event{}, err
	}
	if err := k.send(ctx, line); err != nil {
		k.forget(x)
		return event{}, err
	}
	for {
		for events, _ := x.stream.next(r); len(events) > 0; events = events[1:] {
			switch e := events[0]; {
			case e.lost:
				return event{}, errStarting
			case e.final:
				return e, nil
			}
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			k.forget(x)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return event{}, errSlowStart
			}
			return event{}, ctx.Err()
		}
	}
}

// abandon ends a child that several would have shared, and lets the next request
// start another one.
func (c *Command) abandon(k *child) {
	c.mu.Lock()
	if c.pools[k.key] == k {
		delete(c.pools, k.key)
	}
	c.mu.Unlock()
	k.stop()
}

// checkIdle ends a caller's child when nothing has been asked of it for long.
func (k *child) checkIdle() {
	k.mu.Lock()
	left := k.c.config.IdleTimeout - time.Since(k.used)
	p, ok := k.process.(*peer)
	if len(k.calls) > 0 || len(k.sessions) > 0 || ok && p.busy() {
		left = k.c.config.IdleTimeout
	}
	if left > 0 || k.gone {
		if !k.gone {
			k.idle.Reset(left)
		}
		k.mu.Unlock()
		return
	}
	k.mu.Unlock()
	k.log.Info("idle child ended")
	k.c.abandon(k)
}
