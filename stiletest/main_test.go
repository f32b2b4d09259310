package stiletest_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"

	"github.com/stile-mcp/stile/stiletest"
)

// TestMain wants every goroutine of every fake gone.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// withUpdate runs f as if -update had been given.
func withUpdate(t *testing.T, f func()) {
	t.Helper()
	was := flag.Lookup("update").Value.String()
	flag.Set("update", "true")
	defer flag.Set("update", was)
	if !stiletest.Update() {
		t.Error("Update() is false with -update")
	}
	f()
}
