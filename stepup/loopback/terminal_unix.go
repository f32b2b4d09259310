//go:build unix

package loopback

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is the terminal of this process.
type terminal struct{ file *os.File }

// openTerminal opens the terminal of this process; nil if it has none, or if this
// process is not in its foreground and would be stopped for reading it.
func openTerminal() liner {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	t := terminal{os.NewFile(uintptr(fd), "/dev/tty")}
	if fd >= unix.FD_SETSIZE {
		t.close() // select knows no such number
		return nil
	}
	if group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err != nil || group != unix.Getpgrp() {
		t.close()
		return nil
	}
	return t
}

// look is how often is looked whether the line is still waited for.
const look = 200 * time.Millisecond

// line waits with select: a read would go on when nobody waits any more, and take
// what is typed for others. A line ends at the newline, for which terminals wait.
func (t terminal) line(ctx context.Context) (string, error) {
	var text strings.Builder
	buffer := make([]byte, 4096)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		fd := int(t.file.Fd())
		var ready unix.FdSet
		ready.Set(fd)
		limit := unix.NsecToTimeval(int64(look))
		n, err := unix.Select(fd+1, &ready, nil, nil, &limit)
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return "", err
		}
		n, err = t.file.Read(buffer)
		if err != nil {
			return "", err
		}
		text.Write(buffer[:n])
		if line, _, ended := strings.Cut(text.String(), "\n"); ended {
			return line, nil
		}
		if text.Len() > maxLine {
			text.Reset()
		}
	}
}

func (t terminal) close() { _ = t.file.Close() }
