package stdio

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"unsafe"
)

// setDeathSignal lets the kernel kill the child when this process is gone, also by
// SIGKILL.
func setDeathSignal(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }

// The kernel sends the death signal when the thread that started the child ends
// (prctl(2)), so all children are started by one that never does.
var (
	starter     sync.Once
	startOrders = make(chan startOrder)
)

type startOrder struct {
	cmd  *exec.Cmd
	done chan error
}

// start starts a child.
func start(cmd *exec.Cmd) error {
	starter.Do(func() { go runStarter() })
	order := startOrder{cmd, make(chan error, 1)}
	startOrders <- order
	return <-order.done
}

func runStarter() {
	runtime.LockOSThread()
	for order := range startOrders {
		order.done <- order.cmd.Start()
	}
}

// Options of waitid(2).
const (
	waitPID    = 1
	waitExited = 4
	waitNoReap = 0x01000000
)

// awaitExit returns when the child has ended, and leaves it to be reaped, so that
// its number, which is that of its group, is not another's yet.
func awaitExit(cmd *exec.Cmd) {
	var info [128]byte
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, waitPID, uintptr(cmd.Process.Pid),
			uintptr(unsafe.Pointer(&info)), waitExited|waitNoReap, 0, 0)
		if errno != syscall.EINTR {
			return
		}
	}
}
