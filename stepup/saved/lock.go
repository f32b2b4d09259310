package saved

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/stile-mcp/stile/stepup"
)

// errLocked says that somebody else holds a lock.
var errLocked = errors.New("locked")

// again is how often is looked whether a lock has become free. The kernel could wait
// for it, but would not stop when ctx ends.
const again = 50 * time.Millisecond

// Lock waits until nobody else, in this process or another, holds the lock of a name.
// The kernel takes a lock away from a process that ends, so none is left behind. The
// files of locks stay: to remove one is to give two processes different locks.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) {
	file, err := os.OpenFile(s.path(name, locked), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(again)
	defer ticker.Stop()
	for waited := false; ; waited = true {
		err := tryLock(file)
		if err == nil {
			return func() { _ = file.Close() }, nil // which lets go of it
		}
		if !errors.Is(err, errLocked) {
			_ = file.Close()
			return nil, fmt.Errorf("lock: %w", err)
		}
		if resource, ok := stepup.ResourceOf(name); ok && !waited {
			s.o.Tell("Another program is logging in to " + resource + "; waiting for it.")
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("another program holds the lock of %s: %w", name, ctx.Err())
		}
	}
}
