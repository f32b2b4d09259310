package authserver

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// rates is how often something that anybody may do is done: some at once, and one
// more each while after that, by one address and by all together.
type rates struct {
	burst    int
	each     time.Duration
	burstAll int
	eachAll  time.Duration
}

// Registrations and authorization requests are stored, and the latter may make us
// fetch a document that a stranger names.
var (
	registrations  = rates{burst: 20, each: 3 * time.Second, burstAll: 200, eachAll: time.Second / 2}
	authorizations = rates{burst: 120, each: time.Second / 2, burstAll: 2400, eachAll: time.Second / 40}
)

// maxAddresses bounds how many addresses are told apart.
const maxAddresses = 10_000

// limiter bounds what is done by address and in all. It lives in memory. The zero
// value but for its rates is ready, and safe for concurrent use.
type limiter struct {
	rates rates

	mu  sync.Mutex // guards what follows
	all *rate.Limiter
	by  map[netip.Prefix]*rate.Limiter
}

// take takes a turn for an address and port, or reports that there is none now.
// Private and loopback addresses, behind which a reverse proxy may stand for many,
// share the turns of all only.
func (l *limiter) take(remote string) bool {
	from, near := network(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil || len(l.by) >= maxAddresses {
		l.by = map[netip.Prefix]*rate.Limiter{}
	}
	if l.all == nil {
		l.all = rate.NewLimiter(rate.Every(l.rates.eachAll), l.rates.burstAll)
	}
	if near {
		return l.all.Allow()
	}
	one := l.by[from]
	if one == nil {
		one = rate.NewLimiter(rate.Every(l.rates.each), l.rates.burst)
		l.by[from] = one
	}
	return one.Allow() && l.all.Allow()
}

// network is what one caller has of addresses: one of IPv4, 2^64 of IPv6.
func network(remote string) (from netip.Prefix, near bool) {
	port, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}, false
	}
	address := port.Addr().Unmap().WithZone("")
	bits := 32
	if address.Is6() {
		bits = 64
	}
	from, err = address.Prefix(bits)
	if err != nil {
		return netip.Prefix{}, false
	}
	return from, address.IsPrivate() || address.IsLoopback()
}
