package main

import (
	"syscall"
	"time"
	"unsafe"
)

// cpu is the CPU time the child has used, all threads, user and system, by its
// CPU-time clock (clock_getcpuclockid(3)).
func (p *process) cpu() (time.Duration, error) {
	const processClock = 2 // CPUCLOCK_SCHED of the kernel's posix-timers.h
	var t syscall.Timespec
	clock := uint32(^p.cmd.Process.Pid<<3 | processClock)
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return 0, errno
	}
	return time.Duration(t.Nano()), nil
}
