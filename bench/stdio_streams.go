package main

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// listenBody opens a stream of 2026-07-28 on which nothing happens.
const listenBody = `{"jsonrpc":"2.0","id":"000000000001","method":"subscriptions/listen","params":{"_meta":{` +
	`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}},"notifications":{"toolsListChanged":true}}}`

// stdioStreams measures the resident memory of idle streams: subscriptions of
// 2026-07-28, and GET streams of sessions that share a child.
func stdioStreams(b *bench) error {
	for _, n := range b.options.stdioStreams {
		for _, kind := range []string{"2026-07-28", "2025-11-25, with its session"} {
			each, err := b.idleStreams(kind, n)
			if err != nil {
				return err
			}
			b.table.add(row{what: fmt.Sprintf("command: memory of an idle stream of %s, %d open", kind, n), value: each / kib,
				unit: "KiB", must: 40, aim: 25, most: true})
		}
	}
	return nil
}

func (b *bench) idleStreams(kind string, n int) (float64, error) {
	p, err := b.command("isolation: shared", fmt.Sprintf("max_sessions: %d", 2*n), fmt.Sprintf("max_per_caller: %d", 2*n))
	if err != nil {
		return 0, err
	}
	defer p.stop()
	token := b.token(0, false)
	head := func() ([]byte, []byte, error) {
		if kind == "2026-07-28" {
			return listenHead(p.addr, token), []byte(listenBody), nil
		}
		id, err := b.session(p.addr, token)
		return fmt.Appendf(nil, "GET /mcp HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nMcp-Protocol-Version: 2025-11-25\r\n"+
			"Mcp-Session-Id: %s\r\nAuthorization: Bearer %s\r\n\r\n", p.addr, id, token), nil, err
	}
	warm := newSide("warm", p, "small", concurrency, token)
	if s, err := warm.load(b.options.round); err != nil || s.err != nil {
		return 0, errors.Join(err, s.err)
	}
	warm.close()
	if _, err := b.session(p.addr, token); err != nil {
		return 0, err
	}
	time.Sleep(settleTime)
	before, err := p.memory()
	if err != nil {
		return 0, err
	}
	stop := b.profiled(p, kind[:4])
	open := make([]*client, 0, n)
	defer func() {
		for _, c := range open {
			c.close()
		}
	}()
	for range n {
		first, body, err := head()
		if err != nil {
			return 0, err
		}
		c := newClient(p.addr, &call{body: body})
		open = append(open, c)
		if s, err := c.begin(first); err != nil || s.code != http.StatusOK {
			return 0, fmt.Errorf("stream %d: status %d, %w", len(open), s.code, err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	time.Sleep(settleTime)
	after, err := p.memory()
	return (after - before) / float64(n), errors.Join(err, stop())
}

func listenHead(addr, token string) []byte {
	return fmt.Appendf(nil, "POST /mcp HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"+
		"Mcp-Protocol-Version: 2026-07-28\r\nMcp-Method: subscriptions/listen\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n",
		addr, token, len(listenBody))
}

// stdioStart measures from exec to the first answered tools/call: of the child by
// itself, and of Stile that has to start it too.
func stdioStart(b *bench) error {
	var direct, through []float64
	for range startRuns {
		began := time.Now()
		p, err := pipeSide(1)
		if err == nil {
			err = p.work(0, 1)
		}
		if err != nil {
			return err
		}
		direct = append(direct, time.Since(began).Seconds())
		took, err := b.startCommand()
		if err != nil {
			return err
		}
		through = append(through, took.Seconds())
	}
	b.table.add(row{what: "command: exec of stile to the first answered call", value: 1e3 * median(through), unit: "ms", plain: true})
	b.table.add(row{what: "command: the same of the child alone", value: 1e3 * median(direct), unit: "ms", plain: true})
	return nil
}

func (b *bench) startCommand() (time.Duration, error) {
	config, addr, err := b.commandConfig()
	if err != nil {
		return 0, err
	}
	token := b.token(0, false)
	began := time.Now()
	p, err := b.exec(config, addr)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	if err := p.refuses(began.Add(10 * time.Second)); err != nil {
		return 0, err
	}
	s, err := b.sessionSide("start", p, sessionCall, 1, token)
	if err != nil {
		return 0, err
	}
	defer s.close()
	err = s.clients[0].do(s.heads[0], 1)
	return time.Since(began), err
}
