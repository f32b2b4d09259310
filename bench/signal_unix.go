//go:build unix

package main

import "syscall"

// profileSignal begins and ends a profile of the stile that was built for it.
const profileSignal = syscall.SIGUSR1
