// Package saved is a stepup.Store that outlives the process: files in a folder of the
// person's own, sealed with a key that lies in the system's keyring. Where there is
// no keyring the files are as they are, for nobody else to read, and that is told.
//
// Several processes may use one folder at once. A lock is the kernel's: it ends with
// the process that held it, however that ended.
package saved

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stile-mcp/stile/stepup"
)

// Storage says where secrets lie.
type Storage string

// Where secrets lie.
const (
	Auto    Storage = "auto"    // in the keyring's care if there is one, else in files
	Keyring Storage = "keyring" // in the keyring's care; without one nothing works
	File    Storage = "file"    // in files that only their owner can read
)

// Options says where things are kept. The zero value is good.
type Options struct {
	// Dir is the folder. Default: DefaultDir.
	Dir string
	// Storage is Auto, Keyring or File. Default Auto.
	Storage Storage
	// Tell is told, in a line for the person, that there is no keyring, once, and
	// that somebody else's lock is waited for. It may be called by several
	// goroutines. Optional.
	Tell func(text string)
}

// Store is a stepup.Store. It is safe for concurrent use, by any number of processes.
type Store struct {
	o     Options
	vault *vault
	// Each is told once.
	unreadable, plain sync.Once
}

var _ stepup.Store = (*Store)(nil)

// DefaultDir is $STILE_HOME, or the folder stile where the system keeps settings.
func DefaultDir() (string, error) {
	if dir := os.Getenv("STILE_HOME"); dir != "" {
		return filepath.Abs(dir)
	}
	base, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("there is no folder to keep logins in: %w: set STILE_HOME", err)
	}
	return filepath.Join(base, "stile"), nil
}

// leftOver is how old a half-written file is that nobody writes any more.
const leftOver = time.Hour

// Open makes the folder if there is none. It refuses one that others may write to.
func Open(o Options) (*Store, error) {
	if o.Dir == "" {
		dir, err := DefaultDir()
		if err != nil {
			return nil, err
		}
		o.Dir = dir
	}
	switch o.Storage {
	case "":
		o.Storage = Auto
	case Auto, Keyring, File:
	default:
		return nil, fmt.Errorf("storage %q: expected auto, keyring or file", o.Storage)
	}
	if o.Tell == nil {
		o.Tell = func(string) {}
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder for logins: %w", err)
	}
	info, err := os.Stat(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("the folder for logins: %w", err)
	}
	if err := onlyOwner(info, 0o022, "change"); err != nil {
		return nil, fmt.Errorf("the folder for logins: %s: %w", o.Dir, err)
	}
	s := &Store{o: o}
	s.vault = &vault{lock: func(ctx context.Context) (func(), error) { return s.Lock(ctx, "the key in the keyring") }}
	s.sweep()
	return s, nil
}

// sweep removes what a process left half-written that was killed.
func (s *Store) sweep() {
	old, _ := filepath.Glob(filepath.Join(s.o.Dir, "*"+partial))
	for _, path := range old {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > leftOver {
			_ = os.Remove(path)
		}
	}
}

// entry is one file. One of Sealed and Value is set.
type entry struct {
	Name   string `json:"name"`
	Sealed []byte `json:"sealed,omitempty"` // with the key of the keyring
	Value  []byte `json:"value,omitempty"`
}

// Ends of file names.
const (
	whole   = ".json"
	partial = ".part"
	locked  = ".lock"
)

func (s *Store) path(name, ending string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(s.o.Dir, hex.EncodeToString(sum[:16])+ending)
}

// Get returns what was put under a name; nil where there is nothing, or where it is
// sealed with a key that is gone and Storage does not insist on the keyring.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	e, err := readEntry(s.path(name, whole))
	if errors.Is(err, os.ErrNotExist) {
		return nil, s.ready(ctx)
	}
	if err != nil {
		return nil, err
	}
	if e.Name != name {
		return nil, fmt.Errorf("%s: it was put there under another name", s.path(name, whole))
	}
	if e.Sealed == nil {
		return e.Value, nil
	}
	value, err := s.vault.open(ctx, name, e.Sealed)
	if err == nil || s.o.Storage == Keyring {
		return value, err
	}
	s.unreadable.Do(func() {
		s.o.Tell("A login that was saved earlier cannot be read, so you have to log in again: " + err.Error() + ".")
	})
	return nil, nil
}

// ready says before a person has logged in that the login could not be kept.
func (s *Store) ready(ctx context.Context) error {
	if s.o.Storage != Keyring {
		return nil
	}
	_, err := s.vault.cipher(ctx, true)
	return err
}

// Put keeps a value, whole or not at all.
func (s *Store) Put(ctx context.Context, name string, value []byte) error {
	e := entry{Name: name, Value: value}
	if s.o.Storage != File {
		sealed, err := s.vault.seal(ctx, name, value)
		if err != nil && s.o.Storage == Keyring {
			return err
		}
		if err != nil {
			s.plain.Do(func() {
				s.o.Tell("Logins are kept in plain files that only you can read, in " + s.o.Dir + ": " + err.Error() + ".")
			})
		} else {
			e = entry{Name: name, Sealed: sealed}
		}
	}
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return replace(s.path(name, whole), data)
}

// Delete forgets a value.
func (s *Store) Delete(_ context.Context, name string) error {
	err := os.Remove(s.path(name, whole))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Saved is one value without its content.
type Saved struct {
	Name   string
	Sealed bool // with the key of the keyring
}

// List returns all that is kept, by name. Files that cannot be read are the error,
// beside the others.
func (s *Store) List() ([]Saved, error) {
	paths, err := filepath.Glob(filepath.Join(s.o.Dir, "*"+whole))
	if err != nil {
		return nil, err
	}
	var (
		all  []Saved
		errs []error
	)
	for _, path := range paths {
		e, err := readEntry(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, Saved{e.Name, e.Sealed != nil})
	}
	slices.SortFunc(all, func(a, b Saved) int { return strings.Compare(a.Name, b.Name) })
	return all, errors.Join(errs...)
}

// Dir is the folder.
func (s *Store) Dir() string { return s.o.Dir }
