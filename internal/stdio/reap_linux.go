package stdio

import (
	"context"
	"encoding/binary"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// Reap collects orphans until ctx ends: processes whose parents died and which the
// kernel made our children, as it does for process number 1 in a container. Only
// for programs that start every process through this package: it would take the
// exit codes of others.
func Reap(ctx context.Context) {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	defer signal.Stop(died)
	for {
		again := reapOrphans()
		var soon <-chan time.Time
		if again {
			soon = time.After(50 * time.Millisecond)
		}
		select {
		case <-ctx.Done():
			return
		case <-died:
		case <-soon:
		}
	}
}

// reapOrphans reaps all that are not ours, and reports whether one of ours, which
// its own goroutine reaps, may have hidden others.
func reapOrphans() (again bool) {
	const waitAll, noHang = 0, 1
	for {
		var info [128]byte
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, waitAll, 0,
			uintptr(unsafe.Pointer(&info)), waitExited|waitNoReap|noHang, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		pid := pidOf(&info)
		if errno != 0 || pid == 0 {
			return false
		}
		children.Lock()
		ours := children.pids[pid]
		if !ours {
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
		children.Unlock()
		if ours {
			return true
		}
	}
}

// pidOf reads si_pid, which follows three integers, aligned to the word size.
func pidOf(info *[128]byte) int {
	at := 12
	if strconv.IntSize == 64 {
		at = 16
	}
	return int(int32(binary.NativeEndian.Uint32(info[at:])))
}
