package main

import (
	"runtime"
	"sync/atomic"
	"testing"
)

func TestCollectorPercent(t *testing.T) {
	tests := []struct {
		live uint64
		want int
	}{
		{0, 800}, {1, 800}, {3 << 20, 800}, {4 << 20, 800}, {8 << 20, 400}, {16 << 20, 200}, {32 << 20, 100},
		{50 << 20, 60}, {100 << 20, 60}, {1 << 40, 60},
	}
	for _, tt := range tests {
		if got := collectorPercent(tt.live); got != tt.want {
			t.Errorf("%d bytes alive: GOGC %d, want %d", tt.live, got, tt.want)
		}
	}
}

func TestAfterEachCollection(t *testing.T) {
	var calls atomic.Int64
	afterEachCollection(func() { calls.Add(1) })
	// The runtime calls finalizers when it comes to it, so one collection more may
	// be needed for each.
	for calls.Load() < 3 {
		runtime.GC()
	}
}
