package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a child under test.
type process struct {
	addr  string // where it listens
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{}
}

// spawn starts a child. Its stderr goes to the file log, or ours when log is nil.
func spawn(addr string, log *os.File, env []string, name string, args ...string) (*process, io.Reader, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	if log != nil {
		cmd.Stderr = log
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	return &process{addr: addr, cmd: cmd, stdin: stdin, done: make(chan struct{})}, stdout, nil
}

// reap reads what the child still says and waits for it.
func (p *process) reap(out io.Reader) {
	_, _ = io.Copy(io.Discard, out)
	_ = p.cmd.Wait()
	close(p.done)
}

// stop ends the child: children of this binary by the end of their stdin, stile
// by SIGTERM, and either by force after a while.
func (p *process) stop() {
	_ = p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// role starts this binary again as something else; see play.
func (b *bench) role(name, argument string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, out, err := spawn("", nil, []string{roleVariable + "=" + name, argumentVariable + "=" + argument}, self)
	if err != nil {
		return nil, err
	}
	b.children = append(b.children, p)
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	go p.reap(r)
	if err != nil {
		return nil, fmt.Errorf("%s did not start: %w", name, err)
	}
	p.addr = strings.TrimSpace(line)
	return p, nil
}

// freeAddress is a port of this machine that nobody listens on now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// memory is the resident memory of the child in bytes.
func (p *process) memory() (float64, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(data) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kib, err := strconv.ParseFloat(string(bytes.Fields(rest)[0]), 64)
			return kib * 1024, err
		}
	}
	return 0, errors.New("no VmRSS in /proc: the child has ended")
}

func loadAverage() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(data))[:3], " ")
}
