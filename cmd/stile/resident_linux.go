package main

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// leaveProgramFile takes the pages of the program file out of the process's resident
// memory. The kernel maps in far more of them around each that is touched at the
// start than are ever used again; those that are come back from its cache, without
// being read anew.
func leaveProgramFile() {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for _, m := range unchanged(smaps, program) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED)
	}
}

// unchanged are the mappings of a file that nobody can write to and in which no page
// differs from the file, as those do that a linker has filled in. What is in them can
// be had again from the file.
func unchanged(smaps []byte, file string) []mapping {
	var found []mapping
	var current *mapping
	lines := bufio.NewScanner(bytes.NewReader(smaps))
	for lines.Scan() {
		field := strings.Fields(lines.Text())
		switch {
		case len(field) >= 5 && strings.Contains(field[0], "-") && !strings.HasSuffix(field[0], ":"):
			if current = nil; len(field) == 6 && field[5] == file && (field[1] == "r-xp" || field[1] == "r--p") {
				current = parseMapping(field[0])
			}
		case current != nil && len(field) == 3 && field[0] == "Anonymous:" && field[1] == "0":
			found = append(found, *current)
		}
	}
	return found
}

// mapping is a range of addresses.
type mapping struct{ start, end uintptr }

// parseMapping reads a range such as 00400000-0041a000; nil for anything else.
func parseMapping(text string) *mapping {
	from, to, _ := strings.Cut(text, "-")
	start, err1 := strconv.ParseUint(from, 16, strconv.IntSize)
	end, err2 := strconv.ParseUint(to, 16, strconv.IntSize)
	if err1 != nil || err2 != nil || end <= start {
		return nil
	}
	return &mapping{uintptr(start), uintptr(end)}
}
