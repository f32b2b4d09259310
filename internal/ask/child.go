package ask

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/stile-mcp/stile/internal/stdio"
)

// child speaks stdio with a process.
type child struct {
	process *stdio.Process
	said    lastWords
	replies chan *reply // those that answer nothing any more are dropped by call

	closing chan struct{}
	mu      sync.Mutex
	left    int // of maxBytes
	tooMuch chan struct{}
}

func startChild(t Target) (*child, error) {
	c := &child{replies: make(chan *reply), left: maxBytes, tooMuch: make(chan struct{}), closing: make(chan struct{})}
	started := make(chan struct{})
	p, err := stdio.Start(stdio.Config{Name: "server", Command: t.Command, Env: t.Env, Dir: t.Dir, MaxLine: 2 * maxBytes,
		Log: slog.New(&c.said), Receive: func(line []byte) error {
			<-started
			return c.receive(line)
		}})
	if err != nil {
		return nil, err
	}
	c.process = p
	close(started) // so that receive sees it
	return c, nil
}

// receive takes one line. It waits for call to take the reply, or for the end.
func (c *child) receive(line []byte) error {
	c.mu.Lock()
	before := c.left
	c.left -= len(line)
	c.mu.Unlock()
	if before < len(line) {
		if before >= 0 {
			close(c.tooMuch)
		}
		return errTooMuch
	}
	var m reply
	if err := json.Unmarshal(line, &m); err != nil {
		return err
	}
	if ours := answerTo(&m); ours != nil {
		go func() { _ = c.send(context.Background(), ours) }() // nobody waits for it
		return nil
	}
	if m.Method == "" && (m.Result != nil || m.Error != nil) {
		select {
		case c.replies <- &m:
		case <-c.closing:
		}
	}
	return nil
}

func (c *child) send(ctx context.Context, message any) error {
	line, err := json.Marshal(message)
	if err != nil {
		return err
	}
	return c.process.Send(ctx, append(line, '\n'))
}

func (c *child) notify(ctx context.Context, r *request) error { return c.send(ctx, r) }

func (c *child) call(ctx context.Context, r *request) (*reply, error) {
	if err := c.send(ctx, r); err != nil && !errors.Is(err, stdio.ErrGone) {
		return nil, err
	}
	for {
		select {
		case m := <-c.replies:
			if m.answers(r) {
				return m, nil
			}
		case <-c.tooMuch:
			return nil, errTooMuch
		case <-c.process.Done():
			return nil, fmt.Errorf("the command %w%s", c.process.Err(), c.said.String())
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *child) close() {
	close(c.closing)
	c.process.Stop(context.Background())
}

// lastWords keeps the last lines that the command wrote to its standard error, to
// be told when it fails.
type lastWords struct {
	mu    sync.Mutex
	lines []string
}

const (
	keptLines = 5
	keptBytes = 200
)

// Enabled takes everything.
func (l *lastWords) Enabled(context.Context, slog.Level) bool { return true }

// Handle keeps the line of a record that has one.
func (l *lastWords) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if r.Message == "stderr" && a.Key == "line" {
			line := a.Value.String()
			l.mu.Lock()
			l.lines = append(l.lines, line[:min(len(line), keptBytes)])
			l.lines = l.lines[max(0, len(l.lines)-keptLines):]
			l.mu.Unlock()
		}
		return true
	})
	return nil
}

// WithAttrs changes nothing: only the line counts.
func (l *lastWords) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup changes nothing.
func (l *lastWords) WithGroup(string) slog.Handler { return l }

// String is what was said, ready to stand behind an error.
func (l *lastWords) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == 0 {
		return ""
	}
	return "; it said: " + strings.Join(l.lines, " / ")
}
