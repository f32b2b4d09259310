package forward

import (
	"fmt"
	"sync"
	"time"

	"github.com/stile-mcp/stile/session"
)

const (
	firstPause = time.Second
	longPause  = time.Minute
	// manyFailures is how many starts must fail, with none between that worked, for
	// the program to count as broken for everyone.
	manyFailures = 3
	// freeCrashes is how many children of a caller may end by themselves, each soon
	// after the one before, until the next has to wait.
	freeCrashes = 2
	// maxTroubled is how many callers are remembered.
	maxTroubled = 1000
)

// backoff makes starts rarer that fail, and those of children that do not last: for
// each caller by itself, since a caller may be why. Its methods may be called
// concurrently.
type backoff struct {
	mu      sync.Mutex
	callers map[session.Owner]*trouble
	all     failures // starts alone: what callers do to their children is theirs
}

// trouble is what a caller had.
type trouble struct{ starts, crashes failures }

type failures struct {
	count int
	until time.Time
	why   error
}

// add counts one more; the first ones are free. After a quiet time it begins anew.
func (f *failures) add(now time.Time, why error, free int) {
	if now.Sub(f.until) > longPause {
		f.count = 0
	}
	f.count++
	f.until, f.why = now, why
	if n := f.count - free; n > 0 {
		f.until = now.Add(min(firstPause<<min(n-1, 10), longPause))
	}
}

// failed remembers a start that did not lead to an answer.
func (b *backoff) failed(owner session.Owner, now time.Time, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all.add(now, why, 0)
	b.of(owner).starts.add(now, why, 0)
}

// crashed remembers a child that had answered and ended by itself; after how many
// of them the next start waits is given.
func (b *backoff) crashed(owner session.Owner, now time.Time, why error, free int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.of(owner).crashes.add(now, why, free)
}

func (b *backoff) of(owner session.Owner) *trouble {
	if b.callers == nil || len(b.callers) >= maxTroubled {
		b.callers = map[session.Owner]*trouble{}
	}
	t := b.callers[owner]
	if t == nil {
		t = new(trouble)
		b.callers[owner] = t
	}
	return t
}

// worked forgets the starts of a caller that failed.
func (b *backoff) worked(owner session.Owner) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = failures{}
	if t := b.callers[owner]; t != nil {
		t.starts = failures{}
	}
}

// wait is how long a caller must wait before the next start.
func (b *backoff) wait(owner session.Owner, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.callers[owner]
	if t == nil {
		return 0
	}
	return max(0, t.starts.until.Sub(now), t.crashes.until.Sub(now))
}

// failing is why the program counts as broken, nil when it does not, or is due to
// be tried again.
func (b *backoff) failing(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all.count >= manyFailures && now.Before(b.all.until) {
		return fmt.Errorf("%d starts in a row failed: %w", b.all.count, b.all.why)
	}
	return nil
}
