package stile

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// slowFile takes one write for each value of turns, and fails with it.
type slowFile struct {
	turns  chan error
	writes []string
}

func (f *slowFile) Write(p []byte) (int, error) {
	f.writes = append(f.writes, string(p))
	if err := <-f.turns; err != nil {
		return 1, err
	}
	return len(p), nil
}

// TestRecordsThatComeTogether has records that come while one is being written: they
// leave in one write, each whole and once, and each caller hears how it ended.
func TestRecordsThatComeTogether(t *testing.T) {
	const together = 9
	full := errors.New("the disk is full")
	for name, outcome := range map[string]error{"written": nil, "failed": full} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := &slowFile{turns: make(chan error)}
				log := newAuditLog(file)
				x := &exchange{r: httptest.NewRequest("GET", "/", nil)}
				heard := make([]error, 1+together)
				var all sync.WaitGroup
				record := func(i int) {
					all.Go(func() { heard[i] = log.write(auditRecord{requestID: fmt.Sprint("id", i), x: x}) })
				}
				record(0)
				synctest.Wait() // it is in the file's hands
				for i := range together {
					record(1 + i)
				}
				synctest.Wait()
				file.turns <- nil
				file.turns <- outcome
				all.Wait()

				if len(file.writes) != 2 {
					t.Fatalf("%d writes, want 2: %q", len(file.writes), file.writes)
				}
				if heard[0] != nil {
					t.Errorf("the first heard %v", heard[0])
				}
				for i, err := range heard[1:] {
					if !errors.Is(err, outcome) {
						t.Errorf("caller %d heard %v, want %v", i+1, err, outcome)
					}
					if n := strings.Count(file.writes[1], fmt.Sprintf(`"id%d"`, i+1)); n != 1 {
						t.Errorf("record %d is there %d times", i+1, n)
					}
				}
				if lines := strings.Count(file.writes[1], "\n"); lines != together {
					t.Errorf("%d lines, want %d", lines, together)
				}
				checkNext(t, log, file, x, outcome != nil)
			})
		})
	}
}

// checkNext has one more record, which stands on a line of its own.
func checkNext(t *testing.T, log *auditLog, file *slowFile, x *exchange, torn bool) {
	t.Helper()
	go func() { file.turns <- nil }()
	if err := log.write(auditRecord{requestID: "next", x: x}); err != nil {
		t.Fatal(err)
	}
	last := file.writes[len(file.writes)-1]
	if strings.HasPrefix(last, "\n") != torn || strings.Contains(last, `"id`) {
		t.Errorf("the next write is %q", last)
	}
}

// panics is a writer with a fault.
type panics struct{ turns chan struct{} }

func (p panics) Write([]byte) (int, error) {
	<-p.turns
	panic("a fault of the writer")
}

// TestNobodyWaitsForAPanic has a writer that panics while others wait for it.
func TestNobodyWaitsForAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := panics{make(chan struct{})}
		log := newAuditLog(file)
		x := &exchange{r: httptest.NewRequest("GET", "/", nil)}
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				defer func() { _ = recover() }()
				if err := log.write(auditRecord{x: x}); err == nil {
					t.Error("a record that was not written is taken for one that was")
				}
			})
			synctest.Wait()
		}
		close(file.turns)
		all.Wait()
	})
}
