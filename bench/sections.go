package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/stile-mcp/stile/stiletest"
)

// concurrency is how many connections the sections about throughput use.
const concurrency = 16

// many is the large policy.
const many = 10_000

// calls compares 2 KiB calls at 16 connections: the bare proxy, one token, many
// tokens that have been seen, and a policy of 10,000 rules.
func calls(b *bench) error {
	gateway, err := b.gateway(gatewayOptions{rules: b.options.rules})
	if err != nil {
		return err
	}
	large, err := b.gateway(gatewayOptions{rules: many})
	if err != nil {
		return err
	}
	tokens := make([]string, b.options.tokens)
	for i := range tokens {
		tokens[i] = b.token(i, false)
	}
	bare := newSide("bare", b.proxy, "small", concurrency)
	one := newSide("1 token", gateway, "small", concurrency, tokens[0])
	distinct := newSide("many tokens", gateway, "small", concurrency, tokens...)
	rules := newSide("10,000 rules", large, "small", concurrency, tokens[0])
	seen, err := distinct.load(0)
	if err != nil {
		return err
	}
	b.count(distinct, seen)
	stop := b.profiled(gateway, "small")
	got, err := b.compare(bare, one, distinct, rules)
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	b.table.add(row{what: "calls/s, 16 connections, 2 KiB, 20 rules, × bare proxy", value: got.ratio(one, bare, sample.rate), must: 0.85, aim: 1})
	b.table.add(row{what: "own CPU per call, × bare proxy", value: got.ratio(one, bare, sample.each), must: 1.15, aim: 1, most: true})
	b.table.add(row{what: "p99, 16 connections, × bare proxy", value: got.ratio(one, bare, p99), must: 1.2, aim: 1, most: true})
	b.table.add(row{what: fmt.Sprintf("calls/s with %d tokens once seen, × one token", len(tokens)), value: got.ratio(distinct, one, sample.rate), must: 0.95, aim: 1})
	b.table.add(row{what: "calls/s with 10,000 rules, × 20 rules", value: got.ratio(rules, one, sample.rate), must: 0.95, aim: 1})
	return nil
}

// latency compares one connection; direct is without any proxy.
func latency(b *bench) error {
	gateway, err := b.gateway(gatewayOptions{rules: b.options.rules})
	if err != nil {
		return err
	}
	direct := newSide("direct", b.upstream, "small", 1)
	bare := newSide("bare", b.proxy, "small", 1)
	stile := newSide("stile", gateway, "small", 1, b.token(0, false))
	stop := b.profiled(gateway, "small")
	got, err := b.compare(direct, bare, stile)
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	added := func(s *side) float64 { return got.median(s, p50) - got.median(direct, p50) }
	b.table.add(row{what: "p50, one connection, × bare proxy", value: got.ratio(stile, bare, p50), must: 1.15, aim: 1.05, most: true})
	b.table.add(row{what: "p50 added over no proxy, one connection, × bare proxy's", value: added(stile) / added(bare), must: 1.15, aim: 1.05, most: true})
	b.table.add(row{what: "p99, one connection, × bare proxy", value: got.ratio(stile, bare, p99), must: 1.3, aim: 1, most: true})
	return nil
}

// introspection compares opaque tokens that have been asked about, and counts
// how often each was, with 16 callers at once.
func introspection(b *bench) error {
	gateway, err := b.gateway(gatewayOptions{rules: b.options.rules, introspection: true})
	if err != nil {
		return err
	}
	const opaque = 20
	before := b.issuer.Count(stiletest.EndpointIntrospect)
	tokens := make([]string, opaque)
	for i := range tokens {
		tokens[i] = b.token(i, true)
		// One head for all connections: every one of them calls with it at once.
		together := newSide("together", gateway, "small", concurrency, tokens[i])
		seen, err := together.load(0)
		if err != nil {
			return err
		}
		b.count(together, seen)
		together.close()
	}
	asked := b.issuer.Count(stiletest.EndpointIntrospect) - before
	bare := newSide("bare", b.proxy, "small", concurrency)
	cached := newSide("opaque", gateway, "small", concurrency, tokens...)
	got, err := b.compare(bare, cached)
	if err != nil {
		return err
	}
	all := b.issuer.Count(stiletest.EndpointIntrospect) - before
	b.table.add(row{what: "calls/s with opaque tokens, cached, × bare proxy", value: got.ratio(cached, bare, sample.rate), must: 0.85, aim: 1})
	b.table.add(row{what: "introspections per token, 16 callers at once", value: float64(asked) / opaque, must: 1, aim: 1, most: true})
	b.table.add(row{what: "introspections per token and lifetime", value: float64(all) / opaque, must: 1, aim: 1, most: true})
	return nil
}

// bodies compares larger bodies, and watches the memory while large answers pass.
func bodies(b *bench) error {
	gateway, err := b.gateway(gatewayOptions{rules: b.options.rules})
	if err != nil {
		return err
	}
	token := b.token(0, false)
	for _, one := range []struct {
		tool, what string
		must, aim  float64
	}{
		{"both64k", "calls/s, 64 KiB both ways, × bare proxy", 0.85, 1},
		{"get1m", "calls/s, 1 MiB answers, × bare proxy", 0.95, 1},
		{"put1m", "calls/s, 1 MiB requests, × bare proxy", 0.65, 0.8},
	} {
		before, err := gateway.memory()
		if err != nil {
			return err
		}
		bare := newSide("bare", b.proxy, one.tool, concurrency)
		stile := newSide("stile", gateway, one.tool, concurrency, token)
		stop := b.profiled(gateway, one.tool)
		got, err := b.compare(bare, stile)
		if err = errors.Join(err, stop()); err != nil {
			return err
		}
		b.table.add(row{what: one.what, value: got.ratio(stile, bare, sample.rate), must: one.must, aim: one.aim})
		if one.tool != "get1m" {
			continue
		}
		after, err := gateway.memory()
		if err != nil {
			return err
		}
		// Less than one answer for each connection: they are not held.
		b.table.add(row{what: "memory that 16 × 1 MiB answers at once add", value: (after - before) / mib, unit: "MiB", must: 8, aim: 4, most: true})
	}
	return nil
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

// events compares answers that are event streams.
func events(b *bench) error {
	gateway, err := b.gateway(gatewayOptions{rules: b.options.rules})
	if err != nil {
		return err
	}
	token := b.token(0, false)
	for _, one := range []struct{ tool, what string }{
		{"event", "calls/s, answer is one event, × bare proxy"},
		{"events1000", "calls/s, answer has 1,000 events, × bare proxy"},
	} {
		bare := newSide("bare", b.proxy, one.tool, concurrency)
		stile := newSide("stile", gateway, one.tool, concurrency, token)
		stop := b.profiled(gateway, one.tool)
		got, err := b.compare(bare, stile)
		if err = errors.Join(err, stop()); err != nil {
			return err
		}
		b.table.add(row{what: one.what, value: got.ratio(stile, bare, sample.rate), must: 0.85, aim: 1})
		b.table.add(row{what: "own CPU per such call, × bare proxy", value: got.ratio(stile, bare, sample.each), must: 1.15, aim: 1, most: true})
	}
	return nil
}

// settleTime is how long memory is left to settle before it is read.
const settleTime = 1500 * time.Millisecond

// streams measures the resident memory of idle event streams in fresh processes.
func streams(b *bench) error {
	for _, n := range b.options.streams {
		gateway, err := b.gateway(gatewayOptions{rules: b.options.rules})
		if err != nil {
			return err
		}
		bare, err := b.role("proxy", b.upstream.addr)
		if err != nil {
			return err
		}
		each, err := b.idle(gateway, n, b.token(0, false))
		if err != nil {
			return err
		}
		base, err := b.idle(bare, n, "")
		if err != nil {
			return err
		}
		b.table.add(row{what: fmt.Sprintf("memory of an idle stream, %d open (bare proxy: %.0f KiB)", n, base/kib), value: each / kib,
			unit: "KiB", must: 74, aim: 50, most: true})
		gateway.stop()
		bare.stop()
	}
	return nil
}

// idle opens n streams that have sent one event and wait, and returns what each
// adds to the memory of the process, in bytes.
func (b *bench) idle(p *process, n int, token string) (float64, error) {
	c := callsByTool["wait"]
	s := newSide("warm", p, "small", concurrency, token)
	if warm, err := s.load(b.options.round); err != nil || warm.err != nil {
		return 0, errors.Join(err, warm.err)
	}
	s.close()
	time.Sleep(settleTime)
	before, err := p.memory()
	if err != nil {
		return 0, err
	}
	head, want := c.head(p.addr, token), c.answer(nil, nil)
	open := make([]*client, 0, n)
	defer func() {
		for _, one := range open {
			one.close()
		}
	}()
	for range n {
		one := newClient(p.addr, c)
		open = append(open, one)
		if err := one.first(head, len(want)); err != nil {
			return 0, fmt.Errorf("stream %d: %w", len(open), err)
		}
		one.r = nil // ours, not the child's
	}
	time.Sleep(settleTime)
	after, err := p.memory()
	return (after - before) / float64(n), err
}

// first opens a stream and reads n bytes of events.
func (c *client) first(head []byte, n int) error {
	s, err := c.begin(head)
	for err == nil && s.code == 200 && len(c.got) < n {
		_, err = c.readChunk()
	}
	if err == nil && s.code != 200 {
		err = fmt.Errorf("status %d", s.code)
	}
	return err
}

// startRuns is how often each configuration is started.
const startRuns = 15

// start measures the time from exec to the first 401, and the memory after it.
func start(b *bench) error {
	var small, large, idle []float64
	for range startRuns {
		for _, rules := range []int{b.options.rules, many} {
			took, memory, err := b.startOnce(rules)
			if err != nil {
				return err
			}
			if rules == many {
				large = append(large, took.Seconds())
				continue
			}
			small, idle = append(small, took.Seconds()), append(idle, memory/mib)
		}
	}
	b.table.add(row{what: "exec to the first 401", value: 1e3 * median(small), unit: "ms", must: 25, aim: 12, most: true})
	b.table.add(row{what: "added to it by 10,000 rules", value: 1e3 * (median(large) - median(small)), unit: "ms", must: 50, aim: 50, most: true})
	b.table.add(row{what: "idle memory", value: median(idle), unit: "MiB", must: 20, aim: 14, most: true})
	return nil
}

// idleTime is how long after its start a gateway counts as idle.
const idleTime = 300 * time.Millisecond

func (b *bench) startOnce(rules int) (time.Duration, float64, error) {
	config, addr, err := b.config(gatewayOptions{rules: rules})
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	p, err := b.exec(config, addr)
	if err != nil {
		return 0, 0, err
	}
	defer p.stop()
	if err := p.refuses(began.Add(10 * time.Second)); err != nil {
		return 0, 0, err
	}
	took := time.Since(began)
	time.Sleep(idleTime)
	memory, err := p.memory()
	return took, memory, err
}
