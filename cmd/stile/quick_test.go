package main

import (
	"bufio"
	"bytes"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestServePortTaken says what to do about it.
func TestServePortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"serve", "--listen", address, "--", self(t)}, nil, &out, &errs)
	want := "stile: " + address + " is taken: give another address with --listen, such as 127.0.0.1:0\n"
	if code != exitFailed || errs.String() != want || out.Len() > 0 {
		t.Errorf("exit code %d, %q, %q", code, out.String(), errs.String())
	}
}

// TestServeURLThatIsNotThere warns, serves all the same, in lines of a terminal, and
// ends in good order with the terminal.
func TestServeURLThatIsNotThere(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	cmd := exec.Command("stile", "serve", "--listen", "127.0.0.1:0", "http://"+gone.Addr().String()+"/mcp")
	errs := newTold()
	cmd.Stderr = errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	errs.wait(t, "does not take connections yet", 1)
	lines := bufio.NewScanner(out)
	for _, want := range []string{"stile serves http://127.0.0.1:", "API key, shown only now: stile_", "  send it as "} {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) || len(lines.Text()) > 80 {
			t.Errorf("%q, want %q and at most 80 columns", lines.Text(), want)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGHUP: %v", err)
	}
}
