package loopback

import (
	"os"
	"sync"
)

var console = sync.OnceValue(func() liner {
	file, err := os.OpenFile("CONIN$", os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	return newPump(file)
})

// openTerminal opens the console of this process; nil if it has none. It is read by
// one goroutine as long as the process lives: a read cannot be broken off.
func openTerminal() liner { return console() }
