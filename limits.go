package stile

import (
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/session"
)

// Defaults of the limits in Config.
const (
	DefaultChallengesPerMinute = 120
	DefaultFailuresPerMinute   = 600
	DefaultStreamsPerCaller    = 1000
	DefaultStreamMaxAge        = 24 * time.Hour
)

// limits bound what one caller, or one address, may have of this gateway
// (DES-28). A limit of the configuration below zero is none.
type limits struct {
	challenges rates[caller]
	failures   rates[netip.Addr]
	streams    counts[caller]
}

func newLimits(c *Config) *limits {
	return &limits{challenges: rates[caller]{perMinute: c.ChallengesPerMinute},
		failures: rates[netip.Addr]{perMinute: c.FailuresPerMinute}, streams: counts[caller]{most: c.StreamsPerCaller}}
}

// caller is who is counted: the owner of sessions or, without a token, an address.
type caller struct {
	owner   session.Owner
	address netip.Addr
}

func (x *exchange) caller() caller {
	if x.identity == nil {
		return caller{address: addressOf(x.r)}
	}
	return caller{owner: x.owner()}
}

// addressOf is whom a connection comes from: of IPv6 the network, since one machine
// may have all of its addresses. Behind a proxy it is the proxy's.
func addressOf(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		network, _ := addr.Prefix(64) // never fails for IPv6
		return network.Addr()
	}
	return addr
}

// limited turns a refusal into 429 where its caller has had too many of them: a
// challenge for more scopes, by caller, or a token that is not accepted, by address.
// The token of an honest client is looked at whatever others at its address do.
func (x *exchange) limited(r challenge.Refusal) challenge.Refusal {
	var wait time.Duration
	switch {
	case r.Challenge == nil:
		return r
	case x.identity != nil:
		wait = x.g.limits.challenges.take(x.caller(), time.Now())
	case r.Challenge.Error != "":
		wait = x.g.limits.failures.take(addressOf(x.r), time.Now())
	}
	if wait == 0 {
		return r
	}
	return tooMany("too many refused requests; try again later", wait)
}

func tooMany(text string, wait time.Duration) challenge.Refusal {
	return challenge.Refusal{Status: http.StatusTooManyRequests, Code: http.StatusTooManyRequests, Message: text, RetryAfter: wait}
}

// streamsRetry is what a caller with too many streams is told to wait.
const streamsRetry = 10 * time.Second

// waitsForNews reports whether the answer of this exchange only waits for news.
func (x *exchange) waitsForNews() bool {
	return x.call.Kind == message.Stream || x.call.Method == "subscriptions/listen"
}

// enterStream counts a stream that only waits for news in. The caller calls leave
// when it has ended.
func (x *exchange) enterStream() (leave func(), err error) {
	who := x.caller()
	if !x.g.limits.streams.enter(who) {
		return nil, &formError{status: http.StatusTooManyRequests, text: "too many event streams of this caller are open", retry: streamsRetry}
	}
	return func() { x.g.limits.streams.leave(who) }, nil
}

// rates bounds how often something happens for each key: perMinute at once, and as
// many in every minute after. It is bounded: the oldest half is forgotten when full.
// It is safe for concurrent use.
type rates[K comparable] struct {
	perMinute int

	mu           sync.Mutex // guards the maps
	current, old map[K]bucket
}

// bucket is how much of its rate a key had left at a moment.
type bucket struct {
	left float64
	at   time.Time
}

// maxRates bounds each of the two generations of a rates.
const maxRates = 10_000

// take uses one turn of a key. It returns how long to wait where there is none.
func (l *rates[K]) take(key K, now time.Time) time.Duration {
	if l.perMinute <= 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.current[key]
	if !ok {
		b, ok = l.old[key]
	}
	most, perSecond := float64(l.perMinute), float64(l.perMinute)/60
	if ok {
		b.left = min(most, b.left+now.Sub(b.at).Seconds()*perSecond)
	} else {
		b.left = most
	}
	b.at = now
	var wait time.Duration
	if b.left >= 1 {
		b.left--
	} else {
		wait = time.Duration(math.Ceil((1-b.left)/perSecond)) * time.Second
	}
	if len(l.current) >= maxRates || l.current == nil {
		l.old, l.current = l.current, map[K]bucket{}
	}
	l.current[key] = b
	return wait
}

// counts bounds how many of something each key has at once. It holds only keys that
// have some. It is safe for concurrent use.
type counts[K comparable] struct {
	most int

	mu  sync.Mutex // guards has
	has map[K]int
}

func (c *counts[K]) enter(key K) bool {
	if c.most <= 0 {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.has[key] >= c.most {
		return false
	}
	if c.has == nil {
		c.has = map[K]int{}
	}
	c.has[key]++
	return true
}

func (c *counts[K]) leave(key K) {
	if c.most <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.has[key]--; c.has[key] == 0 {
		delete(c.has, key)
	}
}
