package people

import (
	"container/list"
	"crypto/sha256"
	"math"
	"net/netip"
	"sync"
	"time"
)

// limit is how often something may fail before it has to wait, and how long. Each
// further failure doubles the wait, up to most.
type limit struct {
	free        int
	first, most time.Duration
}

// What is counted at each attempt to sign in. A name is counted for each address
// apart, so that strangers elsewhere lock nobody out at once, and in all, so that
// many addresses do not help to guess. Unknown names count like known ones.
var (
	pairLimit    = limit{free: 5, first: time.Minute, most: 15 * time.Minute}
	nameLimit    = limit{free: 50, first: 5 * time.Minute, most: 15 * time.Minute}
	addressLimit = limit{free: 20, first: time.Minute, most: 15 * time.Minute}
	// nearLimit is that of private and loopback addresses, behind which stands a
	// reverse proxy as often as a person.
	nearLimit = limit{free: 200, first: time.Minute, most: 15 * time.Minute}
)

const (
	// forgetAfter is how long one failure counts: an office behind one address may
	// mistype five times an hour for ever.
	forgetAfter = 12 * time.Minute
	// maxCounted bounds what is remembered: some 2 MB. Beyond it the oldest is
	// forgotten. To have that happen to a name, ten thousand attempts have to be
	// made, each of which costs a password check.
	maxCounted = 10_000
)

// Limits counts attempts to sign in and says who has to wait. It lives in memory:
// a restart forgets, and replicas count apart. It is safe for concurrent use.
type Limits struct {
	mu      sync.Mutex // guards what follows
	entries map[[sha256.Size]byte]*list.Element
	order   *list.List // of *counted, the one counted last in front
}

type counted struct {
	key   [sha256.Size]byte
	times float64   // failures that count still, at
	at    time.Time // this time
	until time.Time // no attempt before
}

// NewLimits returns Limits that remember nothing yet.
func NewLimits() *Limits {
	return &Limits{entries: map[[sha256.Size]byte]*list.Element{}, order: list.New()}
}

// check is one thing that is counted.
type check struct {
	key [sha256.Size]byte
	limit
}

// checks are the things counted for a name at an address; the address is last.
func checks(name string, address netip.Addr) []check {
	if folded, err := Name(name); err == nil {
		name = folded
	}
	far := network(address)
	limit := addressLimit
	if address.IsPrivate() || address.IsLoopback() || !address.IsValid() {
		limit = nearLimit
	}
	return []check{
		{sha256.Sum256([]byte("pair\x00" + far + "\x00" + name)), pairLimit},
		{sha256.Sum256([]byte("name\x00" + name)), nameLimit},
		{sha256.Sum256([]byte("address\x00" + far)), limit},
	}
}

// network is what one household has of addresses: an IPv4 address, or 64 bits of
// IPv6.
func network(address netip.Addr) string {
	address = address.Unmap().WithZone("")
	if address.Is6() {
		return netip.PrefixFrom(address, 64).Masked().String()
	}
	return address.String()
}

// Attempt counts an attempt and returns 0, or how long to wait before the next;
// nothing may be checked then. It counts before the outcome is known, so that
// attempts side by side are no way around it.
func (l *Limits) Attempt(name string, address netip.Addr) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	all := checks(name, address)
	var wait time.Duration
	for _, c := range all {
		if e := l.find(c.key, now); e != nil {
			wait = max(wait, e.until.Sub(now))
		}
	}
	if wait > 0 {
		return wait
	}
	for _, c := range all {
		l.count(c, now)
	}
	return 0
}

// Succeeded takes back what the attempt counted, and forgets the failures of that
// name. Those of the address stay: who knows one password may guess at others.
func (l *Limits) Succeeded(name string, address netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := checks(name, address)
	for _, c := range all[:2] {
		l.remove(l.entries[c.key])
	}
	if e := l.find(all[2].key, time.Now()); e != nil {
		e.times--
		e.until = time.Time{}
	}
}

// find returns what is remembered of a key, brought to this time, or nil. The
// caller holds the lock.
func (l *Limits) find(key [sha256.Size]byte, now time.Time) *counted {
	element, ok := l.entries[key]
	if !ok {
		return nil
	}
	e := element.Value.(*counted)
	e.times -= now.Sub(e.at).Hours() / forgetAfter.Hours()
	e.at = now
	if e.times <= 0 && !now.Before(e.until) {
		l.remove(element)
		return nil
	}
	return e
}

// count adds one. The caller holds the lock.
func (l *Limits) count(c check, now time.Time) {
	e := l.find(c.key, now)
	if e == nil {
		for l.order.Len() >= maxCounted {
			l.remove(l.order.Back())
		}
		e = &counted{key: c.key, at: now}
		l.entries[c.key] = l.order.PushFront(e)
	}
	l.order.MoveToFront(l.entries[c.key])
	e.times = max(e.times, 0) + 1
	if over := int(math.Ceil(e.times)) - c.free; over >= 0 {
		e.until = now.Add(min(c.first<<min(over, 16), c.most))
	}
}

// remove forgets one, if it is there. The caller holds the lock.
func (l *Limits) remove(element *list.Element) {
	if element != nil {
		delete(l.entries, element.Value.(*counted).key)
		l.order.Remove(element)
	}
}
