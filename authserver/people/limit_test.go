package people_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile/authserver/people"
)

var (
	far   = netip.MustParseAddr("203.0.113.5")
	other = netip.MustParseAddr("198.51.100.7")
	near  = netip.MustParseAddr("127.0.0.1")
)

// attempts makes n failed attempts and returns how many were let through.
func attempts(l *people.Limits, n int, name string, address netip.Addr) (through int) {
	for range n {
		if l.Attempt(name, address) == 0 {
			through++
		}
	}
	return through
}

func TestNameIsLockedAtOneAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := people.NewLimits()
		if n := attempts(l, 20, "ada", far); n != 5 {
			t.Errorf("%d attempts", n)
		}
		if wait := l.Attempt("ADA", far); wait != time.Minute {
			t.Errorf("in capitals: wait %v", wait)
		}
		if l.Attempt("ada", other) != 0 || l.Attempt("bob", far) != 0 {
			t.Error("somebody else is locked out too")
		}
		time.Sleep(time.Minute)
		if n := attempts(l, 20, "ada", far); n != 1 {
			t.Errorf("%d attempts after a minute", n)
		}
		if wait := l.Attempt("ada", far); wait != 2*time.Minute {
			t.Errorf("then wait %v", wait)
		}
		time.Sleep(2 * time.Hour)
		if n := attempts(l, 20, "ada", far); n != 5 {
			t.Errorf("%d attempts after two hours", n)
		}
	})
}

// However patient: no more than five guesses an hour at a name, and one lock never
// longer than a quarter of an hour.
func TestGuessesInADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, through := people.NewLimits(), 0
		for range 24 * 60 {
			through += attempts(l, 1, "ada", far)
			if wait := l.Attempt("ada", far); wait > 15*time.Minute {
				t.Fatalf("wait %v", wait)
			}
			time.Sleep(time.Minute)
		}
		if through > 10+24*5 || through < 24*4 {
			t.Errorf("%d guesses", through)
		}
	})
}

// Many addresses do not help to guess at one name, and one address not to guess at
// many names.
func TestNameAndAddressAreCountedInAll(t *testing.T) {
	l, through := people.NewLimits(), 0
	for i := range 100 {
		through += attempts(l, 3, "ada", netip.AddrFrom4([4]byte{203, 0, byte(i), 1}))
	}
	if through != 50 {
		t.Errorf("%d guesses at one name from 100 addresses", through)
	}
	for address, want := range map[netip.Addr]int{far: 20, near: 200, netip.MustParseAddr("10.0.0.1"): 200} {
		l, through := people.NewLimits(), 0
		for i := range 300 {
			through += attempts(l, 1, fmt.Sprint("name", i), address)
		}
		if through != want {
			t.Errorf("%d names from %s, want %d", through, address, want)
		}
	}
	l, through = people.NewLimits(), 0
	for i := range 100 {
		through += attempts(l, 1, fmt.Sprint("name", i), netip.MustParseAddr(fmt.Sprintf("2001:db8:0:1::%x", i+1)))
	}
	if through != 20 {
		t.Errorf("%d from one network of IPv6", through)
	}
}

func TestSuccessForgets(t *testing.T) {
	l := people.NewLimits()
	for range 4 {
		if n := attempts(l, 4, "ada", far); n != 4 {
			t.Fatalf("%d attempts", n)
		}
		l.Succeeded("Ada", far)
	}
}

// Somebody with an account of his own does not get more guesses at others.
func TestSuccessDoesNotClearTheAddress(t *testing.T) {
	l, guesses := people.NewLimits(), 0
	for i := range 100 {
		guesses += attempts(l, 1, fmt.Sprint("name", i), far)
		if l.Attempt("mallory", far) == 0 {
			l.Succeeded("mallory", far)
		}
	}
	if guesses > 20 {
		t.Errorf("%d guesses", guesses)
	}
}

func TestLimitsAreBounded(t *testing.T) {
	l := people.NewLimits()
	for i := range people.MaxCounted {
		l.Attempt(strings.Repeat("x", i%100)+fmt.Sprint(i), netip.AddrFrom4([4]byte{203, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if n := l.Counted(); n > people.MaxCounted {
		t.Errorf("%d are remembered", n)
	}
}
