// Package stdio runs an MCP server as a child process and exchanges messages with
// it, one on each line of its standard input and output (2025-11-25 and
// 2026-07-28, transports, "stdio"). Messages are bytes here: what they say is for
// others to read.
package stdio

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Defaults of Config.
const (
	DefaultMaxLine      = 4 << 20
	DefaultGrace        = 2 * time.Second
	DefaultWriteTimeout = 30 * time.Second
)

// Config says which program a child is, and how it is run.
type Config struct {
	// Name is what the log calls the server.
	Name string
	// Command is the program and its arguments, which no shell reads. A name
	// without a slash is looked for in PATH, that of Env if it is there. Required.
	Command []string
	// Env are the variables of the child, besides those of Inherited that are set
	// here; a value of Env wins.
	Env map[string]string
	// Dir is the working directory. Default: that of this process.
	Dir string
	// MaxLine is the longest line taken, in bytes. A longer one is skipped whole,
	// with no more than this much memory, and logged. Default 4 MiB.
	MaxLine int
	// Grace is how long each step of Stop waits before the next: after the input
	// was closed, and after SIGTERM. Default 2 s.
	Grace time.Duration
	// WriteTimeout is how long the child may leave a message unread, at least,
	// before it counts as hung and is killed; twice as long at most. Default 30 s.
	WriteTimeout time.Duration
	// Receive is called for each line that may be a message, in order and by one
	// goroutine; the child's output is not read meanwhile. It must not keep line.
	// An error says that the line is no message; it is logged. Required.
	Receive func(line []byte) error
	// TooLong is called, as Receive is, for each line over MaxLine, with the first
	// and the last 512 bytes of it, or what there is. Optional.
	TooLong func(head, tail []byte)
	// Keeper ends what is left of the child's process group when this process was
	// killed. Optional.
	Keeper *Keeper
	// Log receives what the child writes to its standard error, and what goes
	// wrong. Default slog.Default().
	Log *slog.Logger
}

func (c *Config) setDefaults() {
	if c.MaxLine == 0 {
		c.MaxLine = DefaultMaxLine
	}
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = DefaultWriteTimeout
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	c.Log = c.Log.With("server", c.Name)
}

// Environment is what a child with these variables of its own sees, sorted: Env,
// and those of Inherited that are set in this process.
func (c *Config) Environment() []string {
	all := map[string]string{}
	for _, entry := range os.Environ() {
		if name, value, ok := strings.Cut(entry, "="); ok && isInherited(name) {
			all[name] = value
		}
	}
	maps.Copy(all, c.Env)
	list := make([]string, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list = append(list, name+"="+all[name])
	}
	return list
}

func isInherited(name string) bool {
	for _, known := range Inherited {
		if prefix, ok := strings.CutSuffix(known, "*"); name == known || ok && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// ErrNotFound is inside the error of Find and Start when there is no such program.
var ErrNotFound = errors.New("no such program")

// Find returns the file that Command runs.
func (c *Config) Find() (string, error) {
	if len(c.Command) == 0 || c.Command[0] == "" {
		return "", fmt.Errorf("an empty command: %w", ErrNotFound)
	}
	name := c.Command[0]
	if filepath.Base(name) != name {
		at := name
		if c.Dir != "" && !filepath.IsAbs(at) {
			at = filepath.Join(c.Dir, at)
		}
		if !isProgram(at) {
			return "", fmt.Errorf("%s: %w", at, ErrNotFound)
		}
		return name, nil
	}
	path, ok := c.Env["PATH"]
	if !ok {
		path = os.Getenv("PATH")
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // the working directory is not searched
		}
		for _, file := range programNames(filepath.Join(dir, name)) {
			if isProgram(file) {
				return file, nil
			}
		}
	}
	return "", fmt.Errorf("%s is not in PATH: %w", name, ErrNotFound)
}
