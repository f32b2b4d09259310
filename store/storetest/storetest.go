// Package storetest has what every engine of a store must pass.
package storetest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stile-mcp/stile/store"
)

// Run tests an engine. Open returns an empty store that Run closes.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for name, test := range map[string]func(*testing.T, store.Store){
		"values":            values,
		"revisions":         revisions,
		"expiry":            expiry,
		"keys":              keys,
		"bounds":            bounds,
		"one winner":        oneWinner,
		"no update is lost": noUpdateIsLost,
		"values are copies": copies,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			test(t, s)
		})
	}
}

func load(t *testing.T, s store.Store, key string) (string, string) {
	t.Helper()
	value, revision, err := s.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if (value == nil) != (revision == "") {
		t.Fatalf("value %q with revision %q", value, revision)
	}
	return string(value), revision
}

func swap(t *testing.T, s store.Store, key, revision, value string) bool {
	t.Helper()
	swapped, err := s.Swap(t.Context(), key, revision, []byte(value), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return swapped
}

func values(t *testing.T, s store.Store) {
	if got, _ := load(t, s, "a"); got != "" {
		t.Errorf("a new store has %q", got)
	}
	if !swap(t, s, "a", "", "1") || !swap(t, s, "b", "", "2") {
		t.Fatal("nothing was stored")
	}
	if got, _ := load(t, s, "a"); got != "1" {
		t.Errorf("%q", got)
	}
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Errorf("nothing to delete: %v", err)
	}
	if got, _ := load(t, s, "a"); got != "" {
		t.Errorf("deleted, but %q", got)
	}
	if got, _ := load(t, s, "b"); got != "2" {
		t.Errorf("%q", got)
	}
}

func revisions(t *testing.T, s store.Store) {
	swap(t, s, "a", "", "1")
	_, first := load(t, s, "a")
	if swap(t, s, "a", "", "x") || swap(t, s, "a", "nonsense", "x") || swap(t, s, "b", first, "x") {
		t.Error("stored on a revision that is not current")
	}
	if !swap(t, s, "a", first, "2") {
		t.Fatal("not stored on the current revision")
	}
	if swap(t, s, "a", first, "3") {
		t.Error("a revision was good twice")
	}
	_, second := load(t, s, "a")
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	swap(t, s, "a", "", "4")
	if swap(t, s, "a", second, "5") || swap(t, s, "a", first, "5") {
		t.Error("a revision of before is good again")
	}
	_, last := load(t, s, "a")
	if took, err := s.Swap(t.Context(), "a", last, nil, time.Time{}); err != nil || !took {
		t.Errorf("%v %v", took, err)
	}
	if got, _ := load(t, s, "a"); got != "" {
		t.Errorf("taken away, but %q", got)
	}
}

func expiry(t *testing.T, s store.Store) {
	past, future := time.Now().Add(-time.Second), time.Now().Add(time.Hour)
	for key, expires := range map[string]time.Time{"past": past, "future": future, "never": {}} {
		if _, err := s.Swap(t.Context(), key, "", []byte(key), expires); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := load(t, s, "past"); got != "" {
		t.Errorf("expired, but %q", got)
	}
	if got, _ := load(t, s, "future"); got != "future" {
		t.Errorf("%q", got)
	}
	if keys, err := s.Keys(t.Context(), "", 10); err != nil || strings.Join(keys, " ") != "future never" {
		t.Errorf("%q %v", keys, err)
	}
	if !swap(t, s, "past", "", "again") {
		t.Error("an expired value stands in the way")
	}
}

func keys(t *testing.T, s store.Store) {
	for _, key := range []string{"grant/b", "grant/a", "grants", "client/a", "grant/c"} {
		swap(t, s, key, "", "x")
	}
	got, err := s.Keys(t.Context(), "grant/", 2)
	if err != nil || strings.Join(got, " ") != "grant/a grant/b" {
		t.Errorf("%q %v", got, err)
	}
}

func bounds(t *testing.T, s store.Store) {
	for _, key := range []string{"", strings.Repeat("x", store.MaxKey+1)} {
		if _, err := s.Swap(t.Context(), key, "", []byte("x"), time.Time{}); err == nil {
			t.Errorf("a key of %d bytes", len(key))
		}
	}
	if _, err := s.Swap(t.Context(), "a", "", make([]byte, store.MaxValue+1), time.Time{}); err == nil {
		t.Error("a value that is too long")
	}
	if swapped, err := s.Swap(t.Context(), "a", "", []byte{}, time.Time{}); err != nil || !swapped {
		t.Errorf("an empty value: %v %v", swapped, err)
	}
}

// workers is how many write at once.
const workers = 64

func oneWinner(t *testing.T, s store.Store) {
	for round := range 5 {
		key := "code/" + strconv.Itoa(round)
		swap(t, s, key, "", "unused")
		_, revision := load(t, s, key)
		var won atomic.Int32
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				swapped, err := s.Swap(context.WithoutCancel(t.Context()), key, revision, nil, time.Time{})
				if err != nil {
					t.Error(err)
				}
				if swapped {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d of %d won", won.Load(), workers)
		}
	}
}

func noUpdateIsLost(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			err := store.Update(context.WithoutCancel(t.Context()), s, "sum", func(value []byte) ([]byte, time.Time, error) {
				n, _ := strconv.Atoi(string(value))
				return fmt.Append(nil, n+1), time.Time{}, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, _ := load(t, s, "sum"); got != strconv.Itoa(workers) {
		t.Errorf("%s after %d additions", got, workers)
	}
}

func copies(t *testing.T, s store.Store) {
	value := []byte("mine")
	if _, err := s.Swap(t.Context(), "a", "", value, time.Time{}); err != nil {
		t.Fatal(err)
	}
	value[0] = 'x'
	got, _, err := s.Load(t.Context(), "a")
	if err != nil || string(got) != "mine" {
		t.Fatalf("%q %v", got, err)
	}
	got[0] = 'x'
	if again, _ := load(t, s, "a"); again != "mine" {
		t.Errorf("%q", again)
	}
}
