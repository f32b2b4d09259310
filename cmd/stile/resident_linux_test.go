package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUnchanged has the mappings of a program: only those that are its own, that
// nobody can write to and that are as in the file may be left.
func TestUnchanged(t *testing.T) {
	const smaps = `00400000-00500000 r-xp 00000000 08:01 42 /usr/bin/stile
Size:               1024 kB
Rss:                 800 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00500000-00600000 r--p 00100000 08:01 42 /usr/bin/stile
Anonymous:             0 kB
00600000-00601000 r--p 00200000 08:01 42 /usr/bin/stile
Anonymous:             4 kB
00601000-00700000 rw-p 00201000 08:01 42 /usr/bin/stile
Anonymous:             0 kB
00700000-00800000 r--s 00201000 08:01 42 /usr/bin/stile
Anonymous:             0 kB
7f0000000000-7f0000100000 r-xp 00000000 08:01 43 /usr/lib/libc.so.6
Anonymous:             0 kB
7f0000200000-7f0000300000 rw-p 00000000 00:00 0
Anonymous:             0 kB
nonsense-line r-xp 00000000 08:01 42 /usr/bin/stile
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x500000}, {0x500000, 0x600000}}
	if diff := cmp.Diff(want, unchanged([]byte(smaps), "/usr/bin/stile"), cmp.AllowUnexported(mapping{})); diff != "" {
		t.Error(diff)
	}
}

// TestLeaveProgramFile leaves the file this test runs from, and goes on.
func TestLeaveProgramFile(t *testing.T) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	if len(unchanged(smaps, program)) == 0 {
		t.Fatalf("no mapping of %s can be left", program)
	}
	leaveProgramFile()
	t.Run("what is used again is there", TestUnchanged)
}
