package forward

import (
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/internal/stdio"
)

// Isolation says which callers share a child process.
type Isolation string

const (
	// IsolateSession gives every session of the 2025 revisions a child of its own,
	// whose messages pass unchanged. 2026-07-28 has no sessions: there it is
	// IsolateCaller.
	IsolateSession Isolation = "session"
	// IsolateCaller gives every caller (session.Owner) one child.
	IsolateCaller Isolation = "caller"
	// IsolateShared has one child for everybody. The server must be one that keeps
	// nothing about who asks.
	IsolateShared Isolation = "shared"
)

// Defaults of CommandConfig.
const (
	DefaultStartTimeout = time.Minute
	DefaultIdleTimeout  = 30 * time.Minute
	DefaultMaxChildren  = 100
	DefaultMaxPerCaller = 16
	DefaultMaxSessions  = 10_000
	DefaultReplayEvents = 1000
	DefaultReplayBytes  = 1 << 20
)

// CommandConfig says which program is run, for whom, and how much of it.
type CommandConfig struct {
	// Name is what the log calls the server.
	Name string
	// Command is the program and its arguments; no shell reads them. Required.
	Command []string
	// Env are the only variables the child sees, besides those of InheritedEnv.
	Env map[string]string
	// Dir is the working directory. Default: that of this process.
	Dir string
	// Isolation says which callers share a child. Default IsolateSession.
	Isolation Isolation
	// Stateless gives clients of the 2025 revisions no sessions: each request stands
	// alone, as in 2026-07-28, with what the server says beside the answer only as
	// far as a request's own stream carries it. It needs IsolateCaller or
	// IsolateShared.
	Stateless bool
	// StartTimeout is how long a child may take to answer for the first time.
	// Default 1 min.
	StartTimeout time.Duration
	// IdleTimeout is how long a session, or a child that several requests share, is
	// kept when nothing is asked of it. A client that only listens is sent a ping
	// before. Default 30 min; negative: for ever. The one child of IsolateShared
	// stays.
	IdleTimeout time.Duration
	// MaxChildren is how many children there may be at once, those that are being
	// ended among them. Default 100.
	MaxChildren int
	// MaxPerCaller is how many sessions, and children, one caller may have. A new
	// session ends the caller's oldest idle one. Default 16.
	MaxPerCaller int
	// MaxSessions is how many sessions there may be in all. Default 10,000.
	MaxSessions int
	// ReplayEvents and ReplayBytes bound what is kept of the streams of a session
	// for clients that lost the connection, and what waits for slow ones. Default
	// 1000 events and 1 MiB.
	ReplayEvents int
	ReplayBytes  int
	// StopGrace is how long a child may take to end after its input was closed, and
	// again after SIGTERM. Default 2 s.
	StopGrace time.Duration
	// MaxMessage is the longest message of a child, in bytes. Default 4 MiB.
	MaxMessage int
	// Log receives what children write to standard error, and what goes wrong.
	// Default slog.Default().
	Log *slog.Logger
}

// InheritedEnv are the variables that a child gets from this process where they
// are set; "*" stands for any ending. All others have to be named.
func InheritedEnv() []string { return slices.Clone(stdio.Inherited) }

func (c *CommandConfig) setDefaults() {
	setDefault(&c.Isolation, IsolateSession)
	setDefault(&c.StartTimeout, DefaultStartTimeout)
	setDefault(&c.IdleTimeout, DefaultIdleTimeout)
	setDefault(&c.MaxChildren, DefaultMaxChildren)
	setDefault(&c.MaxPerCaller, DefaultMaxPerCaller)
	setDefault(&c.MaxSessions, DefaultMaxSessions)
	setDefault(&c.ReplayEvents, DefaultReplayEvents)
	setDefault(&c.ReplayBytes, DefaultReplayBytes)
	setDefault(&c.StopGrace, stdio.DefaultGrace)
	setDefault(&c.MaxMessage, stdio.DefaultMaxLine)
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

func setDefault[T comparable](value *T, to T) {
	var zero T
	if *value == zero {
		*value = to
	}
}

// check returns every mistake.
func (c *CommandConfig) check() error {
	var list problem.List
	if len(c.Command) == 0 || c.Command[0] == "" {
		list.Add("command", "", "a program and its arguments, such as [npx, -y, some-server]")
	}
	for i, argument := range c.Command {
		if strings.ContainsRune(argument, 0) {
			list.Add("command["+strconv.Itoa(i)+"]", "", "an argument without NUL")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			list.Add("env", name, "a name of a variable, without =")
		case strings.ContainsRune(c.Env[name], 0):
			list.Add("env."+name, "", "a value without NUL")
		}
	}
	switch c.Isolation {
	case "", IsolateSession, IsolateCaller, IsolateShared:
	default:
		list.Add("isolation", string(c.Isolation), "session, caller or shared")
	}
	if c.Stateless && (c.Isolation == "" || c.Isolation == IsolateSession) {
		list.Add("isolation", string(c.Isolation), "caller or shared, since there are no sessions")
	}
	for _, d := range []struct {
		at    string
		value time.Duration
	}{{"start_timeout", c.StartTimeout}, {"stop_grace", c.StopGrace}} {
		if d.value < 0 {
			list.Add(d.at, d.value.String(), "a duration that is not negative")
		}
	}
	for _, n := range []struct {
		at    string
		value int
	}{{"max_children", c.MaxChildren}, {"max_per_caller", c.MaxPerCaller}, {"max_sessions", c.MaxSessions},
		{"replay_events", c.ReplayEvents}, {"replay_bytes", c.ReplayBytes}, {"max_message", c.MaxMessage}} {
		if n.value < 0 {
			list.Add(n.at, strconv.Itoa(n.value), "a number that is not negative")
		}
	}
	return list.Err()
}
