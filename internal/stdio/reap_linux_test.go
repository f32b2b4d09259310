package stdio_test

import (
	"context"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stile-mcp/stile/internal/stdio"
)

// TestReapOrphans makes this process the reaper of its descendants' orphans, as
// process number 1 is, and leaves it an orphan that left its group.
func TestReapOrphans(t *testing.T) {
	const setChildSubreaper = 36 // prctl(2)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); errno != 0 {
		t.Fatal(errno)
	}
	defer func() { _, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 0, 0) }()
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		stdio.Reap(ctx)
		close(stopped)
	}()
	r := start(t, shell(`setsid sh -c 'echo "[$$]"; sleep 0.3; exit 4' & sleep 0.1; exit 6`))
	orphan, err := strconv.Atoi(strings.Trim(r.next(t), "[]"))
	if err != nil {
		t.Fatal(err)
	}
	<-r.Done()
	if got := r.Err().Error(); !strings.Contains(got, "code 6") {
		t.Errorf("the reaper took the child's exit code: %v", got)
	}
	waitGone(t, orphan)
	cancel()
	<-stopped
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	waitDead(t, pid)
	for range 1000 {
		if isGone(pid) {
			return
		}
		_ = isDead(t, pid) // takes its time
	}
	t.Errorf("process %d is a zombie", pid)
}
