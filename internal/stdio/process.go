package stdio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"
)

// drainTime is how long output that is still in a pipe is read after the child
// ended: a process that left the group may keep the pipe open.
const drainTime = 500 * time.Millisecond

// Process is one child. Its methods may be called concurrently.
type Process struct {
	config Config
	cmd    *exec.Cmd
	group  *group
	log    *slog.Logger

	stdin   *os.File
	writing chan struct{} // held by the writer
	writeBy time.Time     // the deadline that stdin has, of the writer
	stdout  *os.File
	stderr  *os.File

	stop     chan struct{} // closed by the first Stop
	now      chan struct{} // closed when it must be killed at once
	exited   chan struct{} // the child itself has ended
	done     chan struct{} // and all of it has been read
	stopOnce sync.Once
	nowOnce  sync.Once

	mu   sync.Mutex
	why  error // why it was ended from here, if it was
	exit error
}

// What an ExitError may wrap.
var (
	// ErrStopped says that Stop was called.
	ErrStopped = errors.New("stopped")
	// ErrNotReading says that the child left its input unread for WriteTimeout.
	ErrNotReading = errors.New("does not read its input")
	// ErrClosedOutput says that the child closed its standard output.
	ErrClosedOutput = errors.New("closed its output")
)

// ExitError is why a child is gone.
type ExitError struct {
	// Code is its exit code, -1 when a signal ended it.
	Code int
	// Signal is the name of the signal, or empty.
	Signal string
	// Err is what ended it from here, nil when it went by itself.
	Err error
}

// Error says how it ended, and why where that is known.
func (e *ExitError) Error() string {
	text := fmt.Sprintf("exited with code %d", e.Code)
	if e.Signal != "" {
		text = "ended by signal: " + e.Signal
	}
	if e.Err != nil {
		text = e.Err.Error() + ", " + text
	}
	return text
}

// Unwrap returns Err.
func (e *ExitError) Unwrap() error { return e.Err }

// Start starts a child. It lives until it ends by itself or Stop is called;
// somebody has to call Stop, or wait for Done.
func Start(c Config) (*Process, error) {
	c.setDefaults()
	file, err := c.Find()
	if err != nil {
		return nil, err
	}
	p := &Process{config: c, log: c.Log, writing: make(chan struct{}, 1),
		stop: make(chan struct{}), now: make(chan struct{}), exited: make(chan struct{}), done: make(chan struct{})}
	p.cmd = &exec.Cmd{Path: file, Args: c.Command, Env: c.Environment(), Dir: c.Dir}
	setGroup(p.cmd)
	if err := p.launch(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Command[0], err)
	}
	c.Keeper.add(p.cmd.Process.Pid)
	go p.run()
	return p, nil
}

// launch makes the pipes and starts the program.
func (p *Process) launch() error {
	var theirs [3]*os.File
	defer func() {
		for _, f := range theirs {
			if f != nil {
				f.Close()
			}
		}
	}()
	var err error
	if theirs[0], p.stdin, err = os.Pipe(); err != nil {
		return err
	}
	if p.stdout, theirs[1], err = os.Pipe(); err == nil {
		p.stderr, theirs[2], err = os.Pipe()
	}
	if err == nil {
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirs[0], theirs[1], theirs[2]
		children.Lock()
		if err = start(p.cmd); err == nil {
			children.pids[p.cmd.Process.Pid] = true
			p.group = newGroup(p.cmd.Process)
		}
		children.Unlock()
	}
	if err != nil {
		p.closePipes()
	}
	return err
}

func (p *Process) closePipes() {
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
		if f != nil {
			f.Close()
		}
	}
}

// children are the processes started here that have not been reaped, which Reap
// must leave to us.
var children = struct {
	sync.Mutex
	pids map[int]bool
}{pids: map[int]bool{}}

// run sees the child through to its end.
func (p *Process) run() {
	var readers sync.WaitGroup
	readers.Go(p.readOutput)
	readers.Go(p.readErrors)
	go p.reapChild()
	p.supervise()
	deadline := time.Now().Add(drainTime)
	_ = p.stdout.SetReadDeadline(deadline)
	_ = p.stderr.SetReadDeadline(deadline)
	readers.Wait()
	p.closePipes()
	p.config.Keeper.remove(p.cmd.Process.Pid)
	p.log.Info("child ended", "pid", p.cmd.Process.Pid, "reason", p.exit)
	close(p.done)
}

// reapChild waits for the child, ends what is left of its group, and reaps it.
func (p *Process) reapChild() {
	pid := p.cmd.Process.Pid
	p.group.reap(p.cmd)
	children.Lock()
	delete(children.pids, pid)
	children.Unlock()
	p.mu.Lock()
	p.exit = &ExitError{Code: p.cmd.ProcessState.ExitCode(), Signal: signalName(p.cmd.ProcessState), Err: p.why}
	p.mu.Unlock()
	close(p.exited)
}

// supervise takes the steps of the specification when the child is to end
// (2025-11-25 lifecycle, "Shutdown"), and returns when it has.
func (p *Process) supervise() {
	select {
	case <-p.exited:
		return
	case <-p.stop:
	}
	p.stdin.Close()
	if p.ends(p.config.Grace) {
		return
	}
	p.group.terminate()
	if p.ends(p.config.Grace) {
		return
	}
	p.group.kill()
	<-p.exited
}

// ends reports whether the child ends within d, or whether waiting is over.
func (p *Process) ends(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.exited:
		return true
	case <-timer.C:
	case <-p.now:
	}
	return false
}

// end lets supervise begin; the first reason given counts.
func (p *Process) end(why error) {
	p.mu.Lock()
	if p.why == nil {
		p.why = why
	}
	p.mu.Unlock()
	p.stopOnce.Do(func() { close(p.stop) })
}

// Stop ends the child: its input is closed, then its group gets SIGTERM, then
// SIGKILL, with Config.Grace between the steps. When ctx ends, the group is killed
// at once. It returns when the child is gone; what it still said has been received.
func (p *Process) Stop(ctx context.Context) {
	p.end(ErrStopped)
	select {
	case <-p.done:
	case <-ctx.Done():
		p.nowOnce.Do(func() { close(p.now) })
		<-p.done
	}
}

// Done is closed when the child is gone and all it said has been received.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is why the child is gone, an *ExitError; nil while Done is open.
func (p *Process) Err() error {
	select {
	case <-p.done:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.exit
	default:
		return nil
	}
}

// PID is the number of the child's process and of its group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// ErrGone is what Send returns for a child that is gone or going.
var ErrGone = errors.New("the child process is gone")

// Send writes one message; line ends with the only line feed in it. Concurrent
// calls are served one after the other. It returns an error and writes nothing
// when ctx ends before its turn, and ErrGone when the child is gone. A child that
// leaves its input unread for WriteTimeout, or twice as long at most, is ended. line
// is not kept.
func (p *Process) Send(ctx context.Context, line []byte) error {
	select {
	case p.writing <- struct{}{}: // most often
	default:
		select {
		case p.writing <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		case <-p.stop:
			return ErrGone
		case <-p.exited:
			return ErrGone
		}
	}
	defer func() { <-p.writing }()
	select {
	case <-p.stop: // perhaps after half a message
		return ErrGone
	default:
	}
	if now := time.Now(); p.writeBy.Sub(now) < p.config.WriteTimeout {
		p.writeBy = now.Add(2 * p.config.WriteTimeout) // not anew for each message
		_ = p.stdin.SetWriteDeadline(p.writeBy)
	}
	_, err := p.stdin.Write(line)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.end(ErrNotReading)
		p.nowOnce.Do(func() { close(p.now) })
	}
	// The pipe is closed, or holds half a message: nothing more can be sent.
	return fmt.Errorf("%w: %w", ErrGone, err)
}
