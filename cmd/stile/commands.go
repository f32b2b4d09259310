package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/stile-mcp/stile/forward"
)

// commandConfig is how the command of a server is run.
func (f *File) commandConfig(e *entry[Server], log *slog.Logger) forward.CommandConfig {
	s := &e.Value
	c := forward.CommandConfig{
		Name: e.Name, Command: s.Command, Env: s.Env, Isolation: forward.Isolation(s.Isolation), Stateless: s.Stateless && s.Isolation != defaultIsolation,
		StartTimeout: time.Duration(s.StartTimeout), IdleTimeout: time.Duration(s.IdleTimeout),
		MaxChildren: s.MaxProcesses, MaxPerCaller: s.MaxPerCaller, MaxSessions: s.MaxSessions, MaxMessage: int(f.MaxBody), Log: log,
	}
	if s.Dir != "" {
		c.Dir = f.source.within(s.Dir)
	}
	return c
}

// commandPool keeps the processes of commands over a reload that does not change
// how they are run, and with them the sessions of clients. A nil pool keeps none.
type commandPool struct {
	mu   sync.Mutex
	used map[string]*usedCommand // by how they are run
}

type usedCommand struct {
	*forward.Era
	command *forward.Command
	uses    int
}

// Close ends what is translated first, and then the processes.
func (u *usedCommand) Close() {
	u.Era.Close()
	u.command.Close()
}

// newCommand makes the upstream for a command.
func newCommand(c forward.CommandConfig, protocol forward.Protocol) (*usedCommand, error) {
	command, err := forward.NewCommand(c)
	if err != nil {
		return nil, err
	}
	either, err := forward.NewEra(forward.EraConfig{Name: c.Name, Upstream: command, Protocol: protocol, IdleTimeout: c.IdleTimeout,
		MaxPerCaller: c.MaxPerCaller, MaxMessage: c.MaxMessage, Log: c.Log})
	if err != nil {
		return nil, err
	}
	return &usedCommand{Era: either, command: command}, nil
}

// get returns the upstream for a command, and what lets go of it again: after the
// last use its processes end.
func (p *commandPool) get(c forward.CommandConfig, protocol forward.Protocol) (http.Handler, io.Closer, error) {
	if p == nil {
		one, err := newCommand(c, protocol)
		if err != nil {
			return nil, nil, err
		}
		return one, closerFunc(one.Close), nil
	}
	log := c.Log
	c.Log = nil
	how, err := json.Marshal(c)
	if err != nil {
		return nil, nil, err
	}
	c.Log = log
	key := string(how) + string(protocol)
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.used[key]
	if one == nil {
		if one, err = newCommand(c, protocol); err != nil {
			return nil, nil, err
		}
		if p.used == nil {
			p.used = map[string]*usedCommand{}
		}
		p.used[key] = one
	}
	one.uses++
	return one, closerFunc(func() { p.release(key) }), nil
}

func (p *commandPool) release(key string) {
	p.mu.Lock()
	one := p.used[key]
	one.uses--
	last := one.uses == 0
	if last {
		delete(p.used, key)
	}
	p.mu.Unlock()
	if last {
		one.Close()
	}
}
