package main

import "syscall"

// profileSignal stands in for SIGUSR1, which Windows does not have: no profiles
// are written there.
const profileSignal = syscall.SIGTERM
