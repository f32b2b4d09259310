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
	// maxTroubled is how many callers are remembered.
	maxTroubled = 1000
)

// backoff makes starts that fail rarer: for each caller by itself, since a caller
// may be why they fail.
type backoff struct {
	mu      sync.Mutex
	callers map[session.Owner]*failures
	all     failures
}

type failures struct {
	count int
	until time.Time
	why   error
}

func (f *failures) add(now time.Time, why error) {
	f.count++
	f.until = now.Add(min(firstPause<<min(f.count-1, 10), longPause))
	f.why = why
}

// failed remembers a start that did not lead to an answer.
func (b *backoff) failed(owner session.Owner, now time.Time, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all.add(now, why)
	if b.callers == nil || len(b.callers) >= maxTroubled {
		b.callers = map[session.Owner]*failures{}
	}
	f := b.callers[owner]
	if f == nil {
		f = new(failures)
		b.callers[owner] = f
	}
	f.add(now, why)
}

// worked forgets the failures of a caller.
func (b *backoff) worked(owner session.Owner) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = failures{}
	delete(b.callers, owner)
}

// wait is how long a caller must wait before the next start.
func (b *backoff) wait(owner session.Owner, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f := b.callers[owner]; f != nil {
		return max(0, f.until.Sub(now))
	}
	return 0
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
