package main

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// side is one of the things compared: an address under a load of its own.
type side struct {
	name    string
	process *process // whose CPU is counted; nil: nobody's
	call    *call
	heads   [][]byte // used in turn
	clients []*client
	next    []int // by client: the head it uses next
	bare    bool  // Stile has no part in it
	// work makes a call in place of the clients, where that is not by HTTP.
	work func(connection int, n uint64) error
}

// newSide makes a side with that many connections. The tokens are used in turn;
// none means none is sent.
func newSide(name string, p *process, tool string, connections int, tokens ...string) *side {
	s := &side{name: name, process: p, call: callsByTool[tool]}
	if len(tokens) == 0 {
		tokens = []string{""}
	}
	for _, token := range tokens {
		s.heads = append(s.heads, s.call.head(p.addr, token))
	}
	for i := range connections {
		s.clients = append(s.clients, newClient(p.addr, s.call))
		s.next = append(s.next, i%len(s.heads))
	}
	return s
}

func (s *side) close() {
	for _, c := range s.clients {
		if c != nil {
			c.close()
		}
	}
}

// sample is what one side did in one round.
type sample struct {
	requests  int
	broken    int
	err       error // the first
	wall, cpu time.Duration
	latencies []time.Duration // sorted
}

// load has every connection call until the time is over, or until each head was
// used once when d is zero.
func (s *side) load(d time.Duration) (sample, error) {
	cpu, err := s.used()
	if err != nil {
		return sample{}, err
	}
	began := time.Now()
	parts := make([]sample, len(s.clients))
	var wg sync.WaitGroup
	for i := range s.clients {
		wg.Go(func() { parts[i] = s.drive(i, began, d) })
	}
	wg.Wait()
	all := sample{wall: time.Since(began)}
	after, err := s.used()
	all.cpu = after - cpu
	for _, p := range parts {
		all.requests += p.requests
		all.broken += p.broken
		all.latencies = append(all.latencies, p.latencies...)
		all.err = errors.Join(all.err, p.err)
	}
	slices.Sort(all.latencies)
	return all, err
}

// used is the CPU time of the side's process so far.
func (s *side) used() (time.Duration, error) {
	if s.process == nil {
		return 0, nil
	}
	return s.process.cpu()
}

func (s *side) drive(i int, began time.Time, d time.Duration) sample {
	var (
		c    = s.clients[i]
		p    sample
		step = len(s.clients)
		now  = began
	)
	for n := uint64(i); ; n += uint64(step) {
		if d == 0 && p.requests > (len(s.heads)-1)/step || d > 0 && now.Sub(began) >= d {
			return p
		}
		var err error
		if s.work != nil {
			err = s.work(i, n)
		} else {
			err = c.do(s.heads[s.next[i]], n)
			s.next[i] = (s.next[i] + step) % len(s.heads)
		}
		after := time.Now()
		p.requests++
		if err != nil {
			p.broken++
			if p.err == nil {
				p.err = err
			}
		}
		p.latencies = append(p.latencies, after.Sub(now))
		now = after
	}
}

func (s sample) rate() float64 { return float64(s.requests) / s.wall.Seconds() }

func (s sample) each() float64 { return s.cpu.Seconds() / float64(s.requests) }

func (s sample) at(quantile float64) float64 {
	return s.latencies[min(int(quantile*float64(len(s.latencies))), len(s.latencies)-1)].Seconds()
}

// rounds are the samples of several sides, by side and round.
type rounds map[*side][]sample

// compare loads the sides in turn; each round begins with another one.
func (b *bench) compare(sides ...*side) (rounds, error) {
	got := rounds{}
	for _, s := range sides { // connections, pools and caches as they are later on
		warm, err := s.load(b.options.round / 2)
		if err != nil {
			return nil, err
		}
		b.count(s, warm)
	}
	for i := range b.options.rounds {
		for j := range sides {
			s := sides[(i+j)%len(sides)]
			r, err := s.load(b.options.round)
			if err == nil {
				err = b.ctx.Err()
			}
			if err != nil {
				return nil, err
			}
			b.count(s, r)
			got[s] = append(got[s], r)
		}
	}
	for _, s := range sides {
		s.close()
	}
	b.show(sides, got)
	return got, nil
}

// ratio is the median over the rounds of a figure of s by that of base.
func (r rounds) ratio(s, base *side, figure func(sample) float64) float64 {
	var all []float64
	for i := range r[s] {
		all = append(all, figure(r[s][i])/figure(r[base][i]))
	}
	return median(all)
}

func (r rounds) median(s *side, figure func(sample) float64) float64 {
	var all []float64
	for _, one := range r[s] {
		all = append(all, figure(one))
	}
	return median(all)
}

func p50(s sample) float64 { return s.at(0.50) }
func p99(s sample) float64 { return s.at(0.99) }
