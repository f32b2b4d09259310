package saved

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

// Where there is no bus, none is started to ask for a keyring on.
func TestNoBusIsStarted(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		t.Log("the keyring needs no bus there")
		return
	}
	none := func(string) (os.FileInfo, error) { return nil, os.ErrNotExist }
	there := func(path string) (os.FileInfo, error) {
		if !strings.HasPrefix(path, "/run/user/") {
			t.Errorf("looked at %s", path)
		}
		return nil, nil
	}
	unset := func(string) string { return "" }
	if err := reachable(unset, none); err == nil {
		t.Error("asks for a keyring without a bus")
	}
	if err := reachable(unset, there); err != nil {
		t.Error(err)
	}
	if err := reachable(func(string) string { return "unix:path=/x" }, none); err != nil {
		t.Error(err)
	}
}
