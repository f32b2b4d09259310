package bridge

import (
	"log/slog"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Voice tells the person at the client something that is not an answer, such as how
// a login goes on. The zero Voice is ready; it speaks through the Run whose Config
// holds it, one at a time. Its methods may be called concurrently.
type Voice struct {
	mu    sync.Mutex
	print func(line []byte) // nil: nobody listens
	log   *slog.Logger

	// The client of the 2025 revisions: what its server offered, and what it wants.
	offered bool // log messages, and the client knows of it
	level   int
	// opted are the requests of 2026-07-28 under way that ask for log messages, with
	// the least severe level.
	opted map[string]int
}

// The log levels, from the least severe (2025-11-25 server/utilities/logging). What
// is said here wants a person to do something.
var levels = map[string]int{"debug": 1, "info": 2, "notice": 3, "warning": 4, "error": 5, "critical": 6, "alert": 7, "emergency": 8}

const voiceLevel = "warning"

// Say tells the person text, as a log message of the server where the client can take
// one: for a client of the 2025 revisions once initialize has been answered by a
// server that offers log messages, of a level the client has not turned off; for one
// of 2026-07-28 while a request is under way that asked for them. It reports whether
// that was so. Otherwise only the log has it.
func (v *Voice) Say(text string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.print == nil || !v.heard() {
		if v.log != nil {
			v.log.Info("not told to the client", "text", text)
		}
		return false
	}
	quoted, _ := jsontext.AppendQuote(nil, text) // what is no UTF-8 is mended
	line := append([]byte(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"`+voiceLevel+`","logger":"stile","data":`), quoted...)
	v.print(append(line, "}}"...))
	return true
}

func (v *Voice) heard() bool {
	if v.offered && v.level <= levels[voiceLevel] {
		return true
	}
	for _, level := range v.opted {
		if level <= levels[voiceLevel] {
			return true
		}
	}
	return false
}

// attach lets the voice speak through a printer, until detach.
func (v *Voice) attach(print func([]byte), log *slog.Logger) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.print, v.log, v.offered, v.level, v.opted = print, log, false, 0, map[string]int{}
}

func (v *Voice) detach() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.print, v.offered, v.opted = nil, false, nil
}

// greeted says that the client has the answer to initialize.
func (v *Voice) greeted(logging bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.offered = logging
}

// setLevel takes over what the client wants to hear from now on.
func (v *Voice) setLevel(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if levels[name] > 0 {
		v.level = levels[name]
	}
}

// begin and end say which requests of 2026-07-28 ask for log messages.
func (v *Voice) begin(key, level string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.opted != nil && levels[level] > 0 {
		v.opted[key] = levels[level]
	}
}

func (v *Voice) end(key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.opted, key)
}
