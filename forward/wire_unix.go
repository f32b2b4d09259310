//go:build unix

package forward

import (
	"errors"
	"net"
	"syscall"
)

// ownConnections says that quiet can tell.
const ownConnections = true

// quiet returns what reports whether nothing has come on an idle connection: neither
// its end, nor bytes nobody asked for.
func quiet(c net.Conn) func() bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return func() bool { return false }
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return func() bool { return false }
	}
	var (
		one   [1]byte
		still bool
	)
	look := func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		still = errors.Is(err, syscall.EAGAIN)
		return true
	}
	return func() bool {
		still = false
		return raw.Read(look) == nil && still
	}
}
