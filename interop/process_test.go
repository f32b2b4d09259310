package interop_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// How long a program may take before the test gives it up for hung. Generous:
// nothing is asserted about it, and a slow machine must not fail.
const (
	startLimit = 60 * time.Second
	runLimit   = 2 * time.Minute
	stopLimit  = 30 * time.Second
)

// program is a child process that serves until it is told to end.
type program struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  chan string // standard output; closed at its end
	stderr *syncBuffer
	exited chan struct{}
}

// syncBuffer collects what a process writes while others read it.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// start runs a program and ends it with the test at the latest.
func start(t *testing.T, env []string, name string, args ...string) *program {
	t.Helper()
	p := &program{
		t: t, name: filepath.Base(name), cmd: exec.Command(name, args...),
		lines: make(chan string, 64), stderr: &syncBuffer{}, exited: make(chan struct{}),
	}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = p.stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", p.name, err)
	}
	go p.wait(stdout)
	t.Cleanup(p.kill)
	return p
}

// wait passes the lines of standard output on until the process has ended.
func (p *program) wait(stdout io.Reader) {
	scanner := bufio.NewScanner(stdout)
	for scanner.Scan() {
		p.lines <- scanner.Text()
	}
	close(p.lines)
	_ = p.cmd.Wait() // the state tells the exit code
	close(p.exited)
}

// line answers the next line of standard output that holds want.
func (p *program) line(want string) string {
	p.t.Helper()
	limit := time.After(startLimit)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("%s ended before it wrote %q; standard error:\n%s", p.name, want, p.stderr)
			}
			if strings.Contains(line, want) {
				return line
			}
		case <-limit:
			p.t.Fatalf("%s did not write %q; standard error:\n%s", p.name, want, p.stderr)
		}
	}
}

// awaitListening waits for a program that says nothing once it listens.
func (p *program) awaitListening(address string) {
	p.t.Helper()
	limit := time.After(startLimit)
	for {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			_ = connection.Close()
			return
		}
		select {
		case <-p.exited:
			p.t.Fatalf("%s ended:\n%s", p.name, p.stderr)
		case <-limit:
			p.t.Fatalf("%s does not listen: %v\n%s", p.name, err, p.stderr)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// terminate sends SIGTERM and answers the exit code.
func (p *program) terminate() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("ending %s: %v", p.name, err)
	}
	for {
		select {
		case <-p.lines: // drained, so that the process is not held up
		case <-p.exited:
			return p.cmd.ProcessState.ExitCode()
		case <-time.After(stopLimit):
			p.t.Fatalf("%s did not end after SIGTERM; standard error:\n%s", p.name, p.stderr)
		}
	}
}

// kill ends the process if it still runs.
func (p *program) kill() {
	_ = p.stdin.Close()
	_ = p.cmd.Process.Kill() // an error means that it has ended
	for range p.lines {
		continue
	}
	<-p.exited
}

// run runs a program to its end and answers its standard output. An exit code
// other than 0 is an error that tells what it wrote to standard error.
func run(t *testing.T, env []string, name string, args ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = stopLimit
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, &stderr)
	}
	return stdout.Bytes(), nil
}

// freeAddress answers an address on loopback that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// node answers the path of the Node binary, and fails where it or the packages
// of package-lock.json are missing.
func node(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("node is not installed, and the interop tests drive Node programs: %v", err)
	}
	if _, err := os.Stat("node_modules/oidc-provider/package.json"); err != nil {
		t.Fatalf("interop/node_modules is missing or stale: run `make interop`, or `npm ci` in interop/ (%v)", err)
	}
	return path
}

// build compiles a main package once for all tests and answers the binary's path.
func build(t *testing.T, importPath string) string {
	t.Helper()
	b := built(importPath)
	b.once.Do(func() {
		b.path = filepath.Join(binaries, fmt.Sprintf("%s-%d", filepath.Base(importPath), len(importPath)))
		out, err := exec.Command("go", "build", "-o", b.path, importPath).CombinedOutput()
		if err != nil {
			b.err = fmt.Errorf("go build %s: %w\n%s", importPath, err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

// binary is the result of one build.
type binary struct {
	once sync.Once
	path string
	err  error
}

var (
	binaries string // the folder of what was built, for the whole test run
	binaryMu sync.Mutex
	binaryOf = map[string]*binary{}
)

func built(importPath string) *binary {
	binaryMu.Lock()
	defer binaryMu.Unlock()
	if binaryOf[importPath] == nil {
		binaryOf[importPath] = &binary{}
	}
	return binaryOf[importPath]
}

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	folder, err := os.MkdirTemp("", "stile-interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	binaries = folder
	return m.Run()
}
