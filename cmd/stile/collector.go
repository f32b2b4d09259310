package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

const (
	// collectorRoom is what may be allocated between two garbage collections
	// however little is alive, in bytes. A gateway at rest keeps 3 MiB alive; at
	// the runtime's own pace, a collection each 4 MiB, a sixth of its CPU would go
	// into collecting (docs/performance.md).
	collectorRoom = 32 << 20
	// fewestPercent is GOGC where much is alive, as with thousands of open
	// streams: there memory is what counts.
	fewestPercent = 60
	// mostPercent is GOGC where next to nothing is alive. The runtime then first
	// collects at 4 MiB × 800 %, which is collectorRoom.
	mostPercent = 800
	// startRoom is what may be alive and dead before anything is collected while a
	// process starts, in bytes. Most of what a large policy leaves behind then is
	// dead as soon as it is served.
	startRoom = 256 << 20
)

// tuneCollector paces the garbage collector by how much is alive, for as long as
// the process runs, and lets it rest until endRest is called. GOGC in the
// environment overrides it; with GOMEMLIMIT, which works beside it, there is no rest.
func tuneCollector() {
	if os.Getenv("GOGC") != "" {
		return
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		paceCollector()
		return
	}
	debug.SetGCPercent(-1)
	before := debug.SetMemoryLimit(startRoom)
	endRest = sync.OnceFunc(func() {
		debug.SetMemoryLimit(before)
		paceCollector()
		go func() { // what the start left behind
			debug.FreeOSMemory()
			leaveProgramFile()
		}()
	})
}

// endRest says that the process has what it needs and serves. It is set by
// tuneCollector, before anything else runs.
var endRest = func() {}

func paceCollector() {
	debug.SetGCPercent(mostPercent)
	now := mostPercent
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	afterEachCollection(func() {
		metrics.Read(live)
		if next := collectorPercent(live[0].Value.Uint64()); next != now {
			now = next
			debug.SetGCPercent(now)
		}
	})
}

// collectorPercent is GOGC for so many bytes alive, in steps of 20, so that it is
// not set anew after each collection.
func collectorPercent(live uint64) int {
	percent := int(min(100*collectorRoom/max(live, 1), mostPercent))
	return max(percent/20*20, fewestPercent)
}

// collected is garbage on purpose.
type collected struct{ then func() }

// afterEachCollection calls f after each garbage collection, one call at a time.
func afterEachCollection(f func()) {
	var again func(*collected)
	again = func(c *collected) {
		c.then()
		runtime.SetFinalizer(c, again)
	}
	runtime.SetFinalizer(&collected{f}, again)
}
