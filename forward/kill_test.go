package forward_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stile-mcp/stile/forward"
)

const goneText = "ended before it answered"

func kill(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err == nil {
		err = syscall.Kill(n, syscall.SIGKILL)
	}
	if err != nil {
		t.Fatalf("process %q: %v", pid, err)
	}
}

// underway waits until the server has a call that is held by a name.
func underway(t *testing.T, ask func() string, name string) {
	t.Helper()
	await(t, func() bool { return strings.Contains(ask(), `"`+name+`"`) })
}

// TestKilledInACall has the child killed with SIGKILL while calls wait that have
// been sent nothing: each gets an answer, in both eras.
func TestKilledInACall(t *testing.T) {
	f := command(t, "", nil)
	old, modern := f.open("ada"), f.modern("ada")
	for name, c := range map[string]struct {
		client    *client
		call, ask string
		accept    string
		after     int // what the next request is answered with
	}{
		"2025":            {old, tool("w", "hold", "name", "one"), tool("q", "holding"), bothTypes, http.StatusNotFound},
		"2026":            {modern, call("w", modernMeta, "hold", "name", "two"), call("q", modernMeta, "holding"), bothTypes, http.StatusOK},
		"2025, JSON only": {f.open("bob"), tool("w", "hold", "name", "three"), tool("q", "holding"), "application/json", http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			process := pid(t, c.client)
			answers := make(chan string)
			go func() {
				_, body, _ := c.client.post(c.call, "Accept", c.accept)
				answers <- body
			}()
			underway(t, func() string { _, body, _ := c.client.post(c.ask); return body }, regexp.MustCompile(`"name":"(\w+)"}`).FindStringSubmatch(c.call)[1])
			kill(t, process)
			if body := <-answers; member(t, body, "id") != "w" || !strings.Contains(body, goneText) {
				t.Errorf("the call was answered with %s", body)
			}
			if status, body, _ := c.client.post(c.ask); status != c.after {
				t.Errorf("the next request: %d %s, want %d", status, body, c.after)
			}
		})
	}
}

// TestKilledInAStream has it killed while answers are streamed, and while clients
// only listen.
func TestKilledInAStream(t *testing.T) {
	const note = `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}`
	f := command(t, "", nil)
	t.Run("2025", func(t *testing.T) {
		c := f.open("ada")
		process := pid(t, c)
		news, _ := c.listen()
		answer, _ := c.stream(tool("w", "hold", "name", "x", "first", note))
		answer.message()
		kill(t, process)
		if got := answer.rest(); len(got) != 1 || member(t, got[0].data, "id") != "w" || !strings.Contains(got[0].data, goneText) {
			t.Errorf("the stream ended with %q", got)
		}
		if got := news.rest(); len(got) != 0 {
			t.Errorf("the GET stream got %q", got)
		}
	})
	t.Run("2026", func(t *testing.T) {
		c := f.modern("ada")
		process := pid(t, c)
		subscription, _ := c.stream(`{"jsonrpc":"2.0","id":"sub","method":"subscriptions/listen","params":{"notifications":{},"_meta":{` + modernMeta + `}}}`)
		subscription.message()
		answer, _ := c.stream(call("w", modernMeta+`,"io.modelcontextprotocol/logLevel":"info"`, "hold", "name", "x", "first", note))
		answer.message()
		kill(t, process)
		for id, r := range map[string]*eventReader{"w": answer, "sub": subscription} {
			if got := r.rest(); len(got) != 1 || member(t, got[0].data, "id") != id || !strings.Contains(got[0].data, goneText) {
				t.Errorf("the stream of %s ended with %q", id, got)
			}
		}
	})
}

// TestKilledDuringStart has it killed before it has said a word.
func TestKilledDuringStart(t *testing.T) {
	started := regexp.MustCompile(`child started" server=fake pid=(\d+)`)
	for _, era := range []string{"2025", "2026"} {
		for _, by := range []forward.Isolation{forward.IsolateSession, forward.IsolateShared} {
			t.Run(era+" "+string(by), func(t *testing.T) {
				f := command(t, "silent", isolated(by))
				c, body := &client{f: f, owner: "ada"}, initialize("2025-11-25")
				if era == "2026" {
					c, body = f.modern("ada"), call(1, modernMeta, "who")
				}
				answer := make(chan int)
				go func() {
					status, _, _ := c.post(body)
					answer <- status
				}()
				await(t, func() bool { return started.MatchString(f.log.String()) })
				kill(t, started.FindStringSubmatch(f.log.String())[1])
				if status := <-answer; status != http.StatusBadGateway {
					t.Errorf("answered with %d", status)
				}
			})
		}
	}
}

// TestAbandonedSessions opens 200 sessions whose clients never come back, some with
// a call or a stream that was cut, and wants everything gone but what was there
// before: by the idle timeout alone, since nobody sends DELETE.
func TestAbandonedSessions(t *testing.T) {
	f := command(t, "", func(c *forward.CommandConfig) {
		c.MaxChildren, c.StopGrace, c.IdleTimeout = 1000, 50*time.Millisecond, 400*time.Millisecond
	})
	f.open("first").send(t.Context(), http.MethodDelete, "").Body.Close()
	await(t, func() bool { return census(t).processes == 1 }) // the keeper
	http.DefaultClient.CloseIdleConnections()
	settled(t)
	before := census(t)
	var all sync.WaitGroup
	for lane := range 4 {
		all.Go(func() {
			for i := range 50 {
				c := f.open(fmt.Sprintf("caller %d %d", lane, i))
				switch i % 5 {
				case 0:
					_, cancel := c.listen()
					cancel()
				case 1:
					_, cancel := c.stream(tool(1, "hold", "name", "x", "first", `{"jsonrpc":"2.0","method":"notifications/message","params":{}}`))
					cancel()
				case 2:
					c.post(tool(1, "who"))
				}
			}
		})
	}
	all.Wait()
	http.DefaultClient.CloseIdleConnections()
	var after counts
	await(t, func() bool {
		after = census(t)
		return after.processes <= before.processes && after.files <= before.files && after.goroutines <= before.goroutines
	})
	t.Logf("before %+v, after %+v", before, after)
}

// settled waits until the number of goroutines does not change.
func settled(t *testing.T) {
	t.Helper()
	same, last := 0, 0
	await(t, func() bool {
		if n := runtime.NumGoroutine(); n == last {
			same++
		} else {
			same, last = 0, n
		}
		return same > 1000
	})
}

// TestGigabyteAnswer has the answer of one call be a line of 1 GB: it is not held,
// the call is answered with an error, and the session goes on.
func TestGigabyteAnswer(t *testing.T) {
	for _, order := range []string{"id last", "no id"} {
		t.Run(order, func(t *testing.T) {
			c := command(t, "", nil).open("ada")
			before := peak(t)
			status, body, _ := c.post(tool("big", "gigabyte", "order", order), "Accept", "application/json")
			if status != http.StatusOK || member(t, body, "id") != "big" || !strings.Contains(member(t, body, "error", "message"), "longer than") {
				t.Errorf("%d %.300s", status, body)
			}
			if grown := peak(t) - before; grown > 128<<10 {
				t.Errorf("the memory grew by %d KiB", grown)
			}
			if status, body, _ := c.post(tool(2, "who")); status != http.StatusOK {
				t.Errorf("the next call: %d %s", status, body)
			}
		})
	}
}

// TestAnswerThatIsNoMessage has the answer of a call be no JSON, or no message.
func TestAnswerThatIsNoMessage(t *testing.T) {
	c := command(t, "", nil).open("ada")
	for _, line := range []string{`{"jsonrpc":"2.0","id":"b","result":{oops}}`, `{"jsonrpc":"2.0","id":"b"}`, `{"result":{"text":"tab	"},"id":"b"}`} {
		answers := make(chan string)
		go func() {
			_, body, _ := c.post(tool("b", "hold", "name", "x"), "Accept", "application/json")
			answers <- body
		}()
		underway(t, func() string { _, body, _ := c.post(tool("q", "holding")); return body }, "x")
		c.post(tool("s", "say", "line", line))
		if body := <-answers; member(t, body, "id") != "b" || !strings.Contains(body, "no JSON-RPC message") {
			t.Errorf("%s: the call was answered with %s", line, body)
		}
	}
}

// peak is the most memory that this process had at once, in KiB.
func peak(t *testing.T) int {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	kib := int(usage.Maxrss)
	if runtime.GOOS == "darwin" {
		kib /= 1024
	}
	return kib
}

// TestDiskFullForTheChild gives the child a standard error that is written to a log
// on a full disk.
func TestDiskFullForTheChild(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	f := command(t, "", func(c *forward.CommandConfig) { c.Log = slog.New(slog.NewTextHandler(full, nil)) })
	c := f.open("ada")
	for i := range 3 {
		if status, body, _ := c.post(tool(i, "stderr")); status != http.StatusOK || member(t, body, "result", "wrote") != "10000" {
			t.Errorf("%d %s", status, body)
		}
	}
}
