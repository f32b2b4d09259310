//go:build unix

package stdio_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/stile-mcp/stile/internal/stdio"
)

// childVar makes this test program a child that behaves in a certain way.
const childVar = "STDIO_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVar) {
	case "":
	case "echo":
		_, _ = io.Copy(os.Stdout, os.Stdin)
		return
	case "gigabyte":
		writeGigabyte()
		return
	case "gateway":
		beGateway()
		return
	}
	// The thread that starts children is kept for ever on purpose.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/stile-mcp/stile/internal/stdio.runStarter"))
}

// writeGigabyte writes a line of 1 GB between two messages.
func writeGigabyte() {
	w := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(w, `{"n":1}`)
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	_, _ = w.WriteString(`{"big":"`)
	for range 1 << 10 {
		_, _ = w.Write(chunk)
	}
	fmt.Fprintln(w, `"}`)
	fmt.Fprintln(w, `{"n":2}`)
	_ = w.Flush()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// beGateway starts a shell with a grandchild that both ignore everything but
// SIGKILL, says their numbers, and waits to be killed.
func beGateway() {
	p, err := stdio.Start(stdio.Config{Command: []string{"sh", "-c", stubborn + `sh -c '` + stubborn + loop + `' & echo "[$$,$!]"; ` + loop},
		Keeper: new(stdio.Keeper),
		Receive: func(line []byte) error {
			fmt.Println(string(line))
			return nil
		}})
	if err != nil {
		fmt.Println(err)
		return
	}
	<-p.Done()
}

const (
	stubborn = `trap "" HUP INT TERM; `
	loop     = `while :; do sleep 0.1; done`
)

func self(t *testing.T, mode string) stdio.Config {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return stdio.Config{Command: []string{exe}, Env: map[string]string{childVar: mode}}
}

func shell(script string) stdio.Config {
	return stdio.Config{Command: []string{"sh", "-c", script}}
}

// run is one child under test: what it said, and what was logged.
type run struct {
	*stdio.Process
	lines chan string
	log   *buffer
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func start(t *testing.T, c stdio.Config) *run {
	t.Helper()
	r := &run{lines: make(chan string, 1000), log: new(buffer)}
	if c.Receive == nil {
		c.Receive = func(line []byte) error {
			r.lines <- string(line)
			return nil
		}
	}
	c.Name, c.Log = "notes", slog.New(slog.NewTextHandler(r.log, nil))
	p, err := stdio.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	r.Process = p
	t.Cleanup(func() { p.Stop(cancelled()) })
	return r
}

// cancelled is for a Stop that must not wait.
func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func (r *run) next(t *testing.T) string {
	t.Helper()
	select {
	case line := <-r.lines:
		return line
	case <-r.Done():
		select {
		case line := <-r.lines:
			return line
		default:
			t.Fatalf("the child is gone: %v\n%s", r.Err(), r.log)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("nothing came\n%s", r.log)
	}
	return ""
}

func (r *run) rest(t *testing.T) []string {
	t.Helper()
	<-r.Done()
	close(r.lines)
	var all []string
	for line := range r.lines {
		all = append(all, line)
	}
	return all
}

func TestMessagesComeAsTheyAre(t *testing.T) {
	r := start(t, self(t, "echo"))
	long := `{"long":"` + strings.Repeat("é", 100<<10) + `"}`
	for _, message := range []string{`{"a":1}`, `  {"b" : "\u00e9é"}`, long, `[{"batch":1}]`} {
		if err := r.Send(t.Context(), []byte(message+"\n")); err != nil {
			t.Fatal(err)
		}
		if got := r.next(t); got != strings.TrimSpace(message) {
			t.Errorf("got %.80q, want %.80q", got, message)
		}
	}
}

func TestOutputIsSplitIntoMessages(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   []string
		logged []string
	}{
		"banner": {`echo "Welcome to the server"; echo '{"n":1}'; echo '=== ready'; echo '{"n":2}'`,
			[]string{`{"n":1}`, `{"n":2}`}, []string{"Welcome to the server", "=== ready", "not JSON"}},
		"carriage returns": {`printf '{"n":1}\r\n\r\n{"n":2}\r\n'`, []string{`{"n":1}`, `{"n":2}`}, nil},
		"split characters": {`printf '{"s":"\303'; sleep 0.05; printf '\251\360\237'; sleep 0.05; printf '\230\200"}\n'`,
			[]string{`{"s":"é😀"}`}, nil},
		"no last line end": {`printf '{"n":1}\n{"n":2}'`, []string{`{"n":1}`, `{"n":2}`}, nil},
		"exits mid-line":   {`printf '{"n":1}\n{"n":'`, []string{`{"n":1}`, `{"n":`}, nil},
		"stderr":           {`echo '{"n":1}'; echo 'disk is full' >&2`, []string{`{"n":1}`}, []string{"disk is full", "server=notes"}},
		"nothing":          {`exit 0`, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, shell(c.script))
			if got := r.rest(t); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			for _, want := range c.logged {
				if !strings.Contains(r.log.String(), want) {
					t.Errorf("not logged: %q\n%s", want, r.log)
				}
			}
		})
	}
}

func TestLongLinesAreSkippedWhole(t *testing.T) {
	c := shell(`printf '{"n":1}\n{"123456789":12}\n{"123456789":123}\n{"1234567890123456789012345678901234567890"}\n{"n":2}\n'`)
	c.MaxLine = len(`{"123456789":12}`)
	r := start(t, c)
	want := []string{`{"n":1}`, `{"123456789":12}`, `{"n":2}`}
	if got := r.rest(t); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !strings.Contains(r.log.String(), "too long") || !strings.Contains(r.log.String(), "bytes=17") {
		t.Errorf("not logged:\n%s", r.log)
	}
}

func TestGigabyteLineCostsNoMemory(t *testing.T) {
	r := start(t, self(t, "gigabyte"))
	r.next(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if got := r.next(t); got != `{"n":2}` {
		t.Errorf("got %.80q", got)
	}
	runtime.ReadMemStats(&after)
	// What the line took before it was known to be too long, in growing steps.
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("%d bytes were allocated for a line of 1 GB", grown)
	}
	if !strings.Contains(r.log.String(), "too long") {
		t.Errorf("not logged:\n%s", r.log)
	}
}

func TestRefusedLinesAreLogged(t *testing.T) {
	c := shell(`echo '{"half":'`)
	c.Receive = func([]byte) error { return errors.New("unexpected end") }
	r := start(t, c)
	<-r.Done()
	if !strings.Contains(r.log.String(), "unexpected end") {
		t.Errorf("not logged:\n%s", r.log)
	}
}

func TestStderrFloodIsBounded(t *testing.T) {
	r := start(t, shell(`i=0; while [ $i -lt 5000 ]; do echo "noise $i" >&2; i=$((i+1)); done; head -c 100000 /dev/zero | tr '\0' y >&2; echo '{"n":1}'`))
	if got := r.rest(t); len(got) != 1 {
		t.Errorf("got %q: a flood must not stop messages", got)
	}
	logged := r.log.String()
	if n := strings.Count(logged, "noise "); n > 2000 || n < 100 {
		t.Errorf("%d of 5000 lines were logged", n)
	}
	if !strings.Contains(logged, "left out") || len(logged) > 1<<20 {
		t.Errorf("%d bytes logged; want a record of what was left out", len(logged))
	}
}

// fullDisk is a log that cannot be written to.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestALogThatIsFullStopsNothing(t *testing.T) {
	got := make(chan string, 1)
	c := shell(`i=0; while [ $i -lt 3000 ]; do echo "noise $i" >&2; i=$((i+1)); done; echo '{"n":1}'`)
	c.Log = slog.New(slog.NewTextHandler(fullDisk{}, nil))
	c.Receive = func(line []byte) error {
		got <- string(line)
		return nil
	}
	p, err := stdio.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if line := <-got; line != `{"n":1}` {
		t.Errorf("got %q", line)
	}
}

func TestOnlyNamedVariables(t *testing.T) {
	t.Setenv("SECRET_OF_THE_GATEWAY", "x")
	t.Setenv("LC_TIME", "C")
	t.Setenv("TZ", "UTC")
	dir := t.TempDir()
	c := shell(`echo "[\"$SECRET_OF_THE_GATEWAY\",\"$LC_TIME\",\"$TZ\",\"$TOKEN\",\"$(pwd)\"]"; env >&2`)
	c.Env, c.Dir = map[string]string{"TOKEN": "t", "TZ": "CET"}, dir
	r := start(t, c)
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.next(t), `["","C","CET","t","`+real+`"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "server")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho '{}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config stdio.Config
		want   string
	}{
		"in PATH of Env":     {stdio.Config{Command: []string{"server"}, Env: map[string]string{"PATH": dir}}, program},
		"absolute":           {stdio.Config{Command: []string{program}}, program},
		"relative to dir":    {stdio.Config{Command: []string{"./server"}, Dir: dir}, "./server"},
		"not there":          {stdio.Config{Command: []string{"no-such-server"}}, ""},
		"not executable":     {stdio.Config{Command: []string{"./data"}, Dir: dir}, ""},
		"a folder":           {stdio.Config{Command: []string{dir}}, ""},
		"empty":              {stdio.Config{}, ""},
		"not in working dir": {stdio.Config{Command: []string{"server"}, Dir: dir, Env: map[string]string{"PATH": ".:"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.config.Find()
			if got != c.want || (err == nil) != (c.want != "") {
				t.Fatalf("got %q, %v; want %q", got, err, c.want)
			}
			if err != nil {
				if !errors.Is(err, stdio.ErrNotFound) {
					t.Errorf("%v is no ErrNotFound", err)
				}
				if _, err := stdio.Start(c.config); !errors.Is(err, stdio.ErrNotFound) {
					t.Errorf("Start: %v", err)
				}
				return
			}
			r := start(t, c.config)
			if got := r.next(t); got != "{}" {
				t.Errorf("it said %q", got)
			}
		})
	}
}

func TestWhyItEnded(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		stop   bool
		want   stdio.ExitError
	}{
		"code":           {`exit 3`, false, stdio.ExitError{Code: 3}},
		"signal":         {`kill -KILL $$`, false, stdio.ExitError{Code: -1, Signal: "killed"}},
		"input closed":   {`echo '{}'; cat >&2`, true, stdio.ExitError{Code: 0, Err: stdio.ErrStopped}},
		"ignores input":  {`echo '{}'; exec sleep 1000`, true, stdio.ExitError{Code: -1, Signal: "terminated", Err: stdio.ErrStopped}},
		"ignores TERM":   {stubborn + `echo '{}'; ` + loop, true, stdio.ExitError{Code: -1, Signal: "killed", Err: stdio.ErrStopped}},
		"closes output":  {`exec >&-; exec sleep 1000`, false, stdio.ExitError{Code: -1, Signal: "terminated", Err: stdio.ErrClosedOutput}},
		"cleans up late": {`trap 'exit 7' TERM; echo '{}'; ` + loop, true, stdio.ExitError{Code: 7, Err: stdio.ErrStopped}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := shell(c.script)
			config.Grace = 200 * time.Millisecond
			r := start(t, config)
			if c.stop {
				r.next(t)
				r.Stop(t.Context())
			}
			<-r.Done()
			var got *stdio.ExitError
			if !errors.As(r.Err(), &got) || got.Code != c.want.Code || got.Signal != c.want.Signal || !errors.Is(got.Err, c.want.Err) {
				t.Errorf("got %v, want %v", r.Err(), &c.want)
			}
			if err := r.Send(t.Context(), []byte("{}\n")); !errors.Is(err, stdio.ErrGone) {
				t.Errorf("Send afterwards: %v", err)
			}
			if !isGone(r.PID()) {
				t.Error("the process is still there, or a zombie")
			}
		})
	}
}

// isGone reports whether no process, not even a zombie, has that number.
func isGone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// isDead is isGone, or a zombie that somebody else has to reap: in a container the
// orphans of killed processes may have no reaper.
func isDead(t *testing.T, pid int) bool {
	t.Helper()
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err != nil || strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}

func waitDead(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !isDead(t, pid); {
		if time.Now().After(end) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d is still there", pid)
		}
		runtime.Gosched()
	}
}

func TestStopAtOnce(t *testing.T) {
	config := shell(stubborn + `echo '{}'; ` + loop)
	config.Grace = time.Hour
	r := start(t, config)
	r.next(t)
	r.Stop(cancelled())
	if !isGone(r.PID()) {
		t.Error("the process is still there")
	}
	r.Stop(t.Context()) // again, and at once
}

func TestGrandchildrenEndToo(t *testing.T) {
	for name, script := range map[string]string{
		"when the child is stopped":     stubborn + `sh -c '` + stubborn + loop + `' & echo "[$!]"; ` + loop,
		"when the child ends by itself": `sh -c '` + stubborn + loop + `' & echo "[$!]"; read -r line`,
	} {
		t.Run(name, func(t *testing.T) {
			config := shell(script)
			config.Grace = 50 * time.Millisecond
			r := start(t, config)
			pid, err := strconv.Atoi(strings.Trim(r.next(t), "[]"))
			if err != nil {
				t.Fatal(err)
			}
			r.Stop(t.Context())
			waitDead(t, pid)
		})
	}
}

// TestEscapedGrandchildHoldsNothingUp has a grandchild that leaves the group and
// keeps the pipes open.
func TestEscapedGrandchildHoldsNothingUp(t *testing.T) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Fatal(err)
	}
	r := start(t, shell(`setsid sh -c 'echo "[$$]"; exec sleep 1000' & sleep 0.2; exit 5`))
	pid, err := strconv.Atoi(strings.Trim(r.next(t), "[]"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	<-r.Done()
	var got *stdio.ExitError
	if !errors.As(r.Err(), &got) || got.Code != 5 {
		t.Errorf("got %v", r.Err())
	}
}

func TestKilledGatewayTakesChildrenWithIt(t *testing.T) {
	gateway := exec.Command(self(t, "gateway").Command[0])
	gateway.Env = append(os.Environ(), childVar+"=gateway")
	out, err := gateway.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var child, grandchild int
	if _, err := fmt.Sscanf(line, "[%d,%d]", &child, &grandchild); err != nil {
		t.Fatal(line, err)
	}
	if err := gateway.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = gateway.Wait()
	waitDead(t, child)
	waitDead(t, grandchild)
}

// TestKeeperIsReplaced kills the keeper: the next child has another one.
func TestKeeperIsReplaced(t *testing.T) {
	keeper := new(stdio.Keeper)
	defer keeper.Close()
	run := func() {
		c := shell(`echo '{}'; cat`)
		c.Keeper = keeper
		r := start(t, c)
		r.next(t)
		r.Stop(t.Context())
	}
	run()
	first := keeperPID(t)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitDead(t, first)
	run() // notices, when it tells it of the child
	run()
	if second := keeperPID(t); second == first || isDead(t, second) {
		t.Errorf("keeper %d was not replaced", first)
	}
}

// keeperPID finds the keeper among the children of this process.
func keeperPID(t *testing.T) int {
	t.Helper()
	out, err := exec.Command("ps", "-o", "pid=,args=", "--ppid", strconv.Itoa(os.Getpid())).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if pid := 0; strings.Contains(line, "read -r sign group") {
			fmt.Sscan(line, &pid)
			return pid
		}
	}
	t.Fatalf("no keeper among\n%s", out)
	return 0
}

func TestSendToAChildThatDoesNotRead(t *testing.T) {
	config := shell(`echo '{}'; exec sleep 1000`)
	config.WriteTimeout = 100 * time.Millisecond
	r := start(t, config)
	r.next(t)
	line := append(bytes.Repeat([]byte(" "), 256<<10), '\n')
	waiting := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		<-ctx.Done()
		waiting <- r.Send(ctx, []byte("{}\n"))
	}()
	if err := r.Send(t.Context(), line); !errors.Is(err, stdio.ErrGone) {
		t.Errorf("got %v", err)
	}
	if err := <-waiting; err == nil {
		t.Error("a Send whose context had ended wrote something")
	}
	<-r.Done()
	if !errors.Is(r.Err(), stdio.ErrNotReading) {
		t.Errorf("it ended because %v", r.Err())
	}
}

func TestConcurrentSendsKeepLinesWhole(t *testing.T) {
	r := start(t, self(t, "echo"))
	var senders sync.WaitGroup
	for i := range 20 {
		senders.Go(func() {
			line := fmt.Sprintf(`{"i":%d,"pad":"%s"}`+"\n", i, strings.Repeat("x", 20<<10))
			for range 10 {
				if err := r.Send(t.Context(), []byte(line)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	senders.Wait()
	for range 200 {
		if line := r.next(t); !strings.HasPrefix(line, `{"i":`) || !strings.HasSuffix(line, `x"}`) || len(line) > 20<<10+30 {
			t.Fatalf("a line was torn: %.60q", line)
		}
	}
}

// TestNothingLeaks counts processes, descriptors and goroutines around many
// children, some of which crash.
func TestNothingLeaks(t *testing.T) {
	keeper := new(stdio.Keeper)
	start(t, shell("exit 0")).Stop(t.Context()) // the starter thread
	before := count(t)
	var all []*run
	for i := range 200 {
		script := `echo '{}'; cat`
		if i%4 == 0 {
			script = `echo '{}'; kill -KILL $$`
		}
		config := shell(script)
		config.Keeper = keeper
		all = append(all, start(t, config))
		if i%20 == 19 {
			for _, r := range all {
				r.next(t)
				r.Stop(t.Context())
			}
			all = nil
		}
	}
	keeper.Close()
	if after := count(t); after.processes > before.processes || after.files > before.files || after.goroutines > before.goroutines {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

type counts struct{ processes, files, goroutines int }

func count(t *testing.T) counts {
	t.Helper()
	out, err := exec.Command("ps", "-o", "pid=", "--ppid", strconv.Itoa(os.Getpid())).Output()
	if err != nil && len(out) == 0 {
		t.Log(err)
	}
	files, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return counts{bytes.Count(out, []byte("\n")), len(files), runtime.NumGoroutine()}
}
