package forward

import (
	"errors"
	"testing"
	"time"

	"github.com/stile-mcp/stile/session"
)

func TestBackoff(t *testing.T) {
	ada, bob, everybody := session.Owner{Subject: "ada"}, session.Owner{Subject: "bob"}, session.Owner{}
	why := errors.New("exit code 1")
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var (
		b   backoff
		now = began
	)
	want := func(owner session.Owner, pause time.Duration) {
		t.Helper()
		if got := b.wait(owner, now); got != pause {
			t.Errorf("after %v: %s waits %v, want %v", now.Sub(began), owner.Subject, got, pause)
		}
	}
	// Starts that fail wait for 1, 2, 4 s and so on, up to a minute.
	for _, n := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		pause := time.Duration(n) * time.Second
		b.failed(ada, now, why)
		want(ada, pause)
		now = now.Add(pause)
		want(ada, 0)
	}
	want(bob, 0)
	b.failed(bob, now, why)
	if b.failing(now) == nil {
		t.Error("nine starts failed, and the program counts as healthy")
	}
	b.worked(bob)
	want(bob, 0)
	if err := b.failing(now); err != nil {
		t.Errorf("a start that worked does not count: %v", err)
	}
	b.failed(ada, now.Add(2*longPause), why)
	now = now.Add(2 * longPause)
	want(ada, firstPause) // the last failure is long ago

	// Children that crash after they worked: the first restarts are free, in
	// whatever time each lived, and the program does not count as broken.
	for _, n := range []int{0, 0, 1, 2, 4} {
		pause := time.Duration(n) * time.Second
		b.crashed(bob, now, why, freeCrashes)
		b.worked(bob) // the next one starts
		want(bob, pause)
		now = now.Add(pause + 30*time.Second)
	}
	if err := b.failing(now); err != nil {
		t.Errorf("crashes of one caller's children count for all: %v", err)
	}
	now = now.Add(2 * longPause)
	b.crashed(bob, now, why, freeCrashes)
	want(bob, 0)

	// A child of everybody waits from the first crash on.
	for _, n := range []int{1, 2, 4} {
		pause := time.Duration(n) * time.Second
		b.crashed(everybody, now, why, 0)
		want(everybody, pause)
		now = now.Add(pause + 50*time.Second)
	}
	for i := range maxTroubled + 10 {
		b.failed(session.Owner{Subject: string(rune('a' + i))}, now, why)
	}
	if len(b.callers) > maxTroubled {
		t.Errorf("%d callers are remembered", len(b.callers))
	}
}
