//go:build linux

// Package faults_test puts faults between Stile and everything it talks to, and
// floods it: docs/faults.md is the table of what happens. It counts descriptors
// and resident memory in /proc, which is why it runs on Linux only.
package faults_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// limit bounds every wait. It is generous: nothing is asserted about how long a
// thing takes, and a slow machine must not fail.
const limit = 20 * time.Second

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run runs the tests and wants every goroutine and descriptor of theirs gone.
func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "stile-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	binary.path = filepath.Join(folder, "stile")
	// These tests wait more than they work, also where there are two processors.
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := goleak.Find(goleak.IgnoreAnyFunction(stuckStub), goleak.IgnoreAnyFunction(stuckRead)); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		code = 1
	}
	return code
}

// A link of toxiproxy whose far end goes first never ends these two of its own
// (chan send without a receiver, toxics/noop.go and link.go of v2.5.0).
const (
	stuckStub = "github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"
	stuckRead = "github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"
)

// ourGoroutines counts the goroutines that are not toxiproxy's, and shows them.
func ourGoroutines() (n int, stacks string) {
	buffer := make([]byte, 4<<20)
	var ours []string
	for stack := range strings.SplitSeq(string(buffer[:runtime.Stack(buffer, true)]), "\n\n") {
		if !strings.Contains(stack, stuckStub) && !strings.Contains(stack, stuckRead) {
			ours = append(ours, stack)
		}
	}
	return len(ours), strings.Join(ours, "\n\n")
}

// binary is `stile`, built once.
var binary struct {
	once sync.Once
	path string
	err  error
}

// stileBinary is the path of the real program: that of STILE_BINARY, or one built
// now.
func stileBinary(t *testing.T) string {
	t.Helper()
	binary.once.Do(func() {
		if other := os.Getenv("STILE_BINARY"); other != "" {
			binary.path = other
			return
		}
		out, err := exec.Command("go", "build", "-o", binary.path, "github.com/stile-mcp/stile/cmd/stile").CombinedOutput()
		if err != nil {
			binary.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return binary.path
}

// eventually waits until a condition holds, and fails when it never does.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !waitFor(holds) {
		t.Fatalf("never came: %s", what)
	}
}

// waitFor waits until a condition holds, and reports whether it did.
func waitFor(holds func() bool) bool {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			return false
		}
		<-tick.C
	}
	return true
}

// nothingLeft wants that this process has no more goroutines and descriptors when
// t and all that t cleans up are over than it has now. Call it first in a test
// that does not run in parallel with others.
func nothingLeft(t *testing.T) {
	t.Helper()
	descriptors := openDescriptors(t, os.Getpid())
	goroutines, _ := ourGoroutines()
	t.Cleanup(func() {
		gone := waitFor(func() bool {
			now, _ := ourGoroutines()
			return now <= goroutines && openDescriptors(t, os.Getpid()) <= descriptors
		})
		if now, stacks := ourGoroutines(); !gone {
			t.Errorf("%d descriptors and %d goroutines before, %d and %d now:\n%s", descriptors, goroutines,
				openDescriptors(t, os.Getpid()), now, stacks)
		}
	})
}

// openDescriptors counts those of a process.
func openDescriptors(t testing.TB, pid int) int {
	t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// residentKiB reads one field of /proc/PID/status, VmRSS or VmHWM.
func residentKiB(t testing.TB, pid int, field string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			var kib int
			fmt.Sscan(value, &kib)
			return kib
		}
	}
	t.Fatalf("no %s in the status of process %d", field, pid)
	return 0
}

// lockedBuffer is a writer that may be read meanwhile.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
