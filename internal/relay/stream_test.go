package relay_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile/internal/relay"
	"github.com/stile-mcp/stile/internal/sse"
)

const streamType = "text/event-stream"

func broken() []byte { return []byte("data: \"broken\"\n\n") }

func TestStreams(t *testing.T) {
	long := strings.Repeat("x", 128<<10)
	tests := []struct {
		name string
		o    relay.Options
		h    http.HandlerFunc
		want string // what the client sees, in order
		err  error
		as   bool // an *UpstreamError
	}{
		{name: "unchanged, with its line ends", o: relay.Options{Message: keep}, h: answer(200, streamType, "id: 1\r\ndata:{\"a\":1}\r\n\r\n"),
			want: "OK|id: 1\r\ndata:{\"a\":1}\r\n\r\n|flush"},
		{name: "rewritten", o: relay.Options{Message: shout}, h: answer(200, streamType, "id: 1\ndata: {\"a\":\ndata: 1}\n\n"),
			want: "OK|id: 1\ndata: {\"A\":\ndata: 1}\n\n|flush"},
		{name: "cut anywhere", o: relay.Options{Message: shout}, h: answer(200, streamType, "da", "ta: {\"a\"", ":1}", "\n", "\ndata: {\"b\":2}\n\n"),
			want: "OK|data: {\"A\":1}\n\ndata: {\"B\":2}\n\n|flush"},
		{name: "a status other than 200", o: relay.Options{Message: shout}, h: answer(500, streamType, "data: {\"a\":1}\n\n"),
			want: "Internal Server Error|data: {\"A\":1}\n\n|flush"},
		{name: "odd case", o: relay.Options{Message: shout}, h: answer(200, "Text/Event-Stream; charset=utf-8", "data: {\"a\":1}\n\n"),
			want: "OK|data: {\"A\":1}\n\n|flush"},
		{name: "not labelled", o: relay.Options{Message: shout}, h: answer(200, "text/plain", "d", "ata: {\"a\":1}\n\n"),
			want: "OK|data: {\"A\":1}\n\n|flush"},
		{name: "not labelled, comment first", o: relay.Options{Message: shout}, h: answer(200, "", ": hi\n\ndata: {\"a\":1}\n\n"),
			want: "OK|: hi\n\ndata: {\"A\":1}\n\n|flush"},
		{name: "priming event waits for the message", o: relay.Options{Message: shout}, h: answer(200, streamType, "id: 1\ndata:\n\n", ": c\n\n", "data: {}\n\n"),
			want: "OK|id: 1\ndata:\n\n: c\n\ndata: {}\n\n|flush"},
		{name: "refused after the priming event", o: relay.Options{Message: shout}, h: answer(200, streamType, "id: 1\ndata:\n\n", "data: {\"bad\":1}\n\n"), err: errRefused},
		{name: "error after bytes", o: relay.Options{Message: shout, Broken: broken}, h: answer(200, streamType, "data: {}\n\n", "data: {\"bad\":1}\n\n", "data: {\"a\":1}\n\n"),
			want: "OK|data: {}\n\n|flush|data: \"broken\"\n\n|flush"},
		{name: "error behind what came with it", o: relay.Options{Message: shout, Broken: broken}, h: answer(200, streamType, "data: {\"a\":1}\n\ndata: {\"b\":1}\n\ndata: {\"bad\":1}\n\ndata: {\"c\":1}\n\n"),
			want: "OK|data: {\"A\":1}\n\ndata: {\"B\":1}\n\n|data: \"broken\"\n\n|flush"},
		{name: "too long to be sent together", o: relay.Options{Message: keep}, h: answer(200, streamType, "data: {}\n\n: "+long+"\n\n: c\n\n: d\n\n"),
			want: "OK|data: {}\n\n|: " + long + "\n\n|: c\n\n: d\n\n|flush"},
		{name: "dropped message keeps its id", o: relay.Options{Message: shout}, h: answer(200, streamType, "id: 1\ndata: {\"drop\":1}\n\n"),
			want: "OK|id: 1\n\n|flush"},
		{name: "data that is no message", o: relay.Options{Message: shout}, h: answer(200, streamType, "event: endpoint\ndata: /bad?x=1\n\n"),
			want: "OK|event: endpoint\ndata: /bad?x=1\n\n|flush"},
		{name: "any type is seen", o: relay.Options{Message: shout}, h: answer(200, streamType, "event: x\ndata: {\"bad\":1}\n\n"), err: errRefused},
		{name: "no blank line at the end", o: relay.Options{Message: shout}, h: answer(200, streamType, "data: {\"a\":1}"),
			want: "OK|data: {\"A\":1}\n\n|flush"},
		{name: "refused without a blank line", o: relay.Options{Message: shout}, h: answer(200, streamType, "data: {\"bad\":1}"), err: errRefused},
		{name: "unfinished comment", o: relay.Options{Message: shout}, h: answer(200, streamType, "data: {}\n\n: c"), want: "OK|data: {}\n\n|flush|: c|flush"},
		{name: "no events", h: answer(200, streamType), want: "OK"},
		{name: "byte order mark", o: relay.Options{Message: shout}, h: answer(200, streamType, "\xEF\xBB\xBFdata: {\"a\":1}\n\n"),
			want: "OK|\xEF\xBB\xBFdata: {\"A\":1}\n\n|flush"},
		{name: "opened at once", o: relay.Options{Stream: true, Message: shout}, h: answer(200, streamType, ": c\n\n"), want: "OK|flush|: c\n\n|flush"},
		{name: "opened at once, but no stream", o: relay.Options{Stream: true, Message: shout}, h: answer(405, "application/json", "{\"a\":1}"),
			want: "Method Not Allowed|{\"A\":1}"},
		{name: "opened stream that is JSON", o: relay.Options{Stream: true, Message: shout}, h: answer(200, streamType, "{\"bad\":1}\n\n"),
			want: "OK|flush|{\"bad\":1}\n\n|flush"}, // no client takes that for an event
		{name: "event over the limit", o: relay.Options{Message: keep, MaxMessage: 12}, h: answer(200, streamType, "data: {\"a\":1}\n\n"), as: true},
		{name: "event over the limit later", o: relay.Options{Message: keep, MaxMessage: 12, Broken: broken}, h: answer(200, streamType, "data: {}\n\n", "data: {\"a\":1}\n\n"),
			want: "OK|data: {}\n\n|flush|data: \"broken\"\n\n|flush"},
		{name: "content encoding", o: relay.Options{Stream: true}, h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			answer(200, streamType)(w, r)
		}, as: true},
		{name: "failed after bytes", o: relay.Options{Broken: broken}, h: func(w http.ResponseWriter, r *http.Request) {
			answer(200, streamType, "data: {}\n\n", "data: {")(w, r)
			w.(interface{ Fail(error) }).Fail(errors.New("gone"))
		}, want: "OK|data: {}\n\n|flush|data: \"broken\"\n\n|flush"},
		{name: "broke off before a message", o: relay.Options{Broken: broken}, h: func(w http.ResponseWriter, r *http.Request) {
			answer(200, streamType, "id: 1\ndata:\n\n", "data: {")(w, r)
			panic(http.ErrAbortHandler)
		}, as: true},
		{name: "expired before it began", o: relay.Options{Expire: time.Unix(1, 0), Last: func() []byte { return []byte("data: \"last\"\n\n") }},
			h: answer(200, streamType, "data: {}\n\n"), want: "OK|data: \"last\"\n\n|flush"},
		{name: "expired, but no stream", o: relay.Options{Expire: time.Unix(1, 0), Message: keep}, h: answer(200, "application/json", "{}"), want: "OK|{}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t)
			w := relay.New(c, tt.o)
			err := w.Serve(tt.h, httptest.NewRequest(http.MethodPost, "/", nil))
			var upstream *relay.UpstreamError
			if tt.as != errors.As(err, &upstream) || !tt.as && !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v (upstream error: %t)", err, tt.err, tt.as)
			}
			if got := c.seen(); got != tt.want {
				t.Errorf("the client saw\n%q, want\n%q", got, tt.want)
			}
		})
	}
}

func TestStreamHeader(t *testing.T) {
	c := newClient(t)
	h := withLength(answer(200, streamType, "data: {}\n\n"), 10)
	if err := relay.New(c, relay.Options{}).Serve(h, httptest.NewRequest(http.MethodPost, "/", nil)); err != nil {
		t.Fatal(err)
	}
	if c.header.Get("Content-Length") != "" || c.header.Get("X-Accel-Buffering") != "no" || c.header.Get("Content-Type") != streamType {
		t.Errorf("header %v", c.header)
	}
}

// FuzzStream holds that what no hook changes reaches the client byte for byte,
// however it is cut, and that the hook sees every message.
func FuzzStream(f *testing.F) {
	f.Add([]byte("id: 1\r\ndata: {}\r\n\r\n: c\n\ndata: [\ndata: ]\n\n"), uint8(3))
	f.Add([]byte("\xEF\xBB\xBF: c\r\rdata: {}\r\rdata: {"), uint8(1))
	f.Add([]byte(" {\"a\":1}\n\n"), uint8(2))
	f.Fuzz(func(t *testing.T, stream []byte, size uint8) {
		c := newClient(t)
		seen := 0
		w := relay.New(c, relay.Options{Message: func(msg []byte, _ bool) ([]byte, error) { seen++; return msg, nil }})
		w.Header().Set("Content-Type", streamType)
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), int(size)+1)
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Finish(); err != nil {
			t.Fatal(err)
		}
		got := strings.ReplaceAll(strings.Join(c.log, ""), "flush", "")
		got = strings.TrimPrefix(got, "OK")
		var s sse.Scanner
		messages := 0
		count := func(ev sse.Event) error {
			if d := strings.TrimLeft(strings.TrimPrefix(string(ev.Data), "\xEF\xBB\xBF"), " \t\r\n"); d != "" && strings.IndexByte("{[\x00\xFE\xFF", d[0]) >= 0 {
				messages++
			}
			return nil
		}
		_ = s.Feed(stream, count)
		if left, ok := s.End(); ok {
			_ = count(left)
		}
		if got != string(stream) {
			t.Errorf("the client saw %q, want %q", got, stream)
		}
		if isJSON := seen == 1 && messages != seen; !isJSON && messages != seen {
			t.Errorf("%d messages were seen, want %d", seen, messages)
		}
	})
}

// stream is a handler whose writes the test makes.
func stream(header http.Header, writes <-chan string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for name, v := range header {
			w.Header()[name] = v
		}
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		for {
			select {
			case s, ok := <-writes:
				if !ok {
					return
				}
				if _, err := io.WriteString(w, s); err != nil {
					panic(http.ErrAbortHandler)
				}
			case <-r.Context().Done():
				panic(http.ErrAbortHandler)
			}
		}
	}
}

func TestTime(t *testing.T) {
	type step struct {
		after time.Duration
		write string // nothing when empty
		want  string // all that the client has seen since
	}
	last := func() []byte { return []byte("data: \"last\"\n\n") }
	tests := []struct {
		name      string
		o         relay.Options
		mediaType string
		expire    time.Duration
		steps     []step
		cancelled bool
	}{
		{name: "header held for five seconds", o: relay.Options{Message: keep}, steps: []step{
			{after: 4999 * time.Millisecond, want: ""}, {after: time.Millisecond, want: "OK|flush"}}},
		{name: "held events go with the header", o: relay.Options{Message: keep}, steps: []step{
			{write: "id: 1\ndata:\n\n", want: ""}, {after: 5 * time.Second, want: "OK|id: 1\ndata:\n\n|flush"}}},
		{name: "not held", o: relay.Options{Hold: -1}, steps: []step{{want: "OK|flush"}}},
		{name: "keep-alive", o: relay.Options{Stream: true}, steps: []step{
			{want: "OK|flush"}, {after: 14999 * time.Millisecond, want: ""}, {after: time.Millisecond, want: ":\n\n|flush"},
			{after: 15 * time.Second, want: ":\n\n|flush"}}},
		{name: "keep-alive counts from the last event", o: relay.Options{Stream: true}, steps: []step{
			{want: "OK|flush"}, {after: 10 * time.Second, write: "data: {}\n\n", want: "data: {}\n\n|flush"},
			{after: 14 * time.Second, want: ""}, {after: time.Second, want: ":\n\n|flush"}}},
		{name: "keep-alive not inside an event", o: relay.Options{Stream: true}, steps: []step{
			{want: "OK|flush"}, {write: "data: {\"a\"", want: ""}, {after: 15 * time.Second, want: ":\n\n|flush"},
			{write: ":1}\n\n", want: "data: {\"a\":1}\n\n|flush"}}},
		{name: "keep-alive before a byte order mark", o: relay.Options{Stream: true}, steps: []step{
			{want: "OK|flush"}, {after: 15 * time.Second, want: ":\n\n|flush"}, {write: "\xEF\xBB\xBFdata: {}\n\n", want: "data: {}\n\n|flush"}}},
		{name: "keep-alive sooner than the hold", o: relay.Options{KeepAlive: time.Second}, steps: []step{
			{after: time.Second, want: "OK|:\n\n|flush"}}},
		{name: "no keep-alive", o: relay.Options{Stream: true, KeepAlive: -1}, steps: []step{{want: "OK|flush"}, {after: time.Hour, want: ""}}},
		{name: "no keep-alive in what is not called a stream", mediaType: "text/plain", steps: []step{
			{write: "data: {}\n\n", want: "OK|data: {}\n\n|flush"}, {after: time.Hour, want: ""}}},
		{name: "nothing is added to a body", mediaType: "application/json", o: relay.Options{Message: keep}, expire: time.Minute, steps: []step{
			{write: "{", want: ""}, {after: time.Hour, want: ""}, {write: "}", want: ""}}},
		{name: "JSON called a stream is a body", o: relay.Options{Message: keep}, expire: time.Minute, steps: []step{
			{write: "{", want: ""}, {after: time.Hour, want: ""}}},
		{name: "expiry", o: relay.Options{Stream: true, KeepAlive: -1, Last: last}, expire: time.Minute, cancelled: true, steps: []step{
			{want: "OK|flush"}, {after: time.Minute - 1, want: ""}, {after: 1, want: "data: \"last\"\n\n|flush"}, {after: time.Hour, want: ""}}},
		{name: "expiry while the header is held", o: relay.Options{Last: last}, expire: time.Second, cancelled: true, steps: []step{
			{write: "id: 1\ndata:\n\ndata: {", want: ""}, {after: time.Second, want: "OK|id: 1\ndata:\n\n|data: \"last\"\n\n|flush"}}},
		{name: "expiry without last words", o: relay.Options{Stream: true}, expire: time.Second, cancelled: true, steps: []step{
			{want: "OK|flush"}, {after: time.Second, want: ""}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := withCancel(t)
				cancelled := false
				tt.o.Cancel = func() { cancelled = true; cancel() }
				if tt.expire > 0 {
					tt.o.Expire = time.Now().Add(tt.expire)
				}
				if tt.mediaType == "" {
					tt.mediaType = streamType
				}
				c, writes, done := newClient(t), make(chan string), make(chan error, 1)
				h := stream(http.Header{"Content-Type": {tt.mediaType}}, writes)
				go func() {
					done <- relay.New(c, tt.o).Serve(h, httptest.NewRequestWithContext(ctx, "GET", "/", nil))
				}()
				before := 0
				for i, s := range tt.steps {
					if time.Sleep(s.after); s.write != "" {
						writes <- s.write
					}
					synctest.Wait()
					if got := c.seen(before); got != s.want {
						t.Errorf("step %d: the client saw %q, want %q", i, got, s.want)
					}
					before = c.entries()
				}
				if cancelled != tt.cancelled {
					t.Errorf("cancelled %t, want %t", cancelled, tt.cancelled)
				}
				close(writes)
				if err := <-done; err != nil {
					t.Errorf("Serve: %v", err)
				}
			})
		})
	}
}

// TestExpiryOfABlockedStream holds that a client that does not read cannot keep
// a stream open beyond its time.
func TestExpiryOfABlockedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := withCancel(t)
		c := newClient(t)
		c.blocked, c.deadline = make(chan struct{}), make(chan struct{})
		w := relay.New(c, relay.Options{Stream: true, Expire: time.Now().Add(time.Minute), KeepAlive: -1, Cancel: cancel})
		done := make(chan error, 1)
		go func() {
			done <- w.Serve(answer(200, streamType, "data: {}\n\n"), httptest.NewRequestWithContext(ctx, "GET", "/", nil))
		}()
		<-c.blocked
		start := time.Now()
		if err := <-done; err != nil || time.Since(start) > time.Minute {
			t.Errorf("Serve: %v after %v", err, time.Since(start))
		}
		if ctx.Err() == nil {
			t.Error("the upstream was not cancelled")
		}
	})
}

func TestEnd(t *testing.T) {
	tests := []struct {
		name, mediaType, write, want string
		ok                           bool
	}{
		{"stream", streamType, "data: {}\n\n", "OK|flush|data: {}\n\n|flush|data: \"bye\"\n\n|flush", true},
		{"before its first event", streamType, "", "OK|flush|data: \"bye\"\n\n|flush", true},
		{"body", "application/json", "{}", "OK|{}", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t)
			w := relay.New(c, relay.Options{Stream: true})
			err := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Type", tt.mediaType)
				rw.WriteHeader(http.StatusOK)
				_, _ = io.WriteString(rw, tt.write)
				if ok := w.End([]byte("data: \"bye\"\n\n")); ok != tt.ok {
					t.Errorf("End = %t, want %t", ok, tt.ok)
				}
				if _, err := rw.Write([]byte("\n")); (err != nil) != tt.ok {
					t.Errorf("Write after End: %v", err)
				}
			}), httptest.NewRequest(http.MethodGet, "/", nil))
			if got := strings.TrimSuffix(c.seen(), "\n"); err != nil || got != tt.want {
				t.Errorf("Serve %v, the client saw %q, want %q", err, got, tt.want)
			}
			if w.End(nil) {
				t.Error("End after the end = true")
			}
		})
	}
}

// TestConcurrency lets comments, events, flushes and an ending meet under the
// race detector; client fails when two of them write at once.
func TestConcurrency(t *testing.T) {
	c := newClient(t)
	w := relay.New(c, relay.Options{Stream: true, KeepAlive: 10 * time.Microsecond, Message: shout})
	err := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", streamType)
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 2000 {
				_, _ = rw.Write([]byte("data: {\"a\":1}\n\n"))
			}
		})
		wg.Go(func() {
			for range 2000 {
				rw.(http.Flusher).Flush()
			}
		})
		wg.Wait()
		w.End([]byte("data: \"bye\"\n\n"))
	}), httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(c.seen(), "data: {\"A\":1}\n\n"); n != 2000 || !strings.HasSuffix(c.seen(), "|data: \"bye\"\n\n|flush") {
		t.Errorf("%d events arrived, want 2000 and a last one", n)
	}
}

// sink is a ResponseWriter without memory.
type sink struct{ header http.Header }

func (s sink) Header() http.Header         { return s.header }
func (s sink) Write(p []byte) (int, error) { return len(p), nil }
func (s sink) WriteHeader(int)             {}

// TestIdleStreamIsSmall holds a stream that has sent a large event, and waits, to
// 10 KiB.
func TestIdleStreamIsSmall(t *testing.T) {
	const n, limit = 200, 10 << 10
	event := "data: {\"a\":\"" + strings.Repeat("x", 50<<10) + "\"}\n\n"
	writers := make([]*relay.Writer, 0, n)
	before := heap()
	for range n {
		w := relay.New(sink{http.Header{}}, relay.Options{Stream: true, Message: keep})
		w.Header().Set("Content-Type", streamType)
		for rest := event; rest != ""; {
			chunk := rest[:min(len(rest), 4<<10)]
			if _, err := io.WriteString(w, chunk); err != nil {
				t.Fatal(err)
			}
			rest = rest[len(chunk):]
		}
		writers = append(writers, w)
	}
	if each := (heap() - before) / n; each > limit {
		t.Errorf("an idle stream holds %d bytes, want at most %d", each, limit)
	}
	for _, w := range writers {
		if err := w.Finish(); err != nil {
			t.Fatal(err)
		}
	}
}

// heap is what lives on the heap, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC() // empties the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestPassThroughMethods(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rw := relay.New(w, relay.Options{})
		_ = rw.Serve(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			c := http.NewResponseController(rw)
			for name, err := range map[string]error{"read deadline": c.SetReadDeadline(time.Time{}), "write deadline": c.SetWriteDeadline(time.Time{}),
				"full duplex": c.EnableFullDuplex(), "flush": c.Flush()} {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, _, err := c.Hijack(); err == nil {
				t.Error("the connection could be taken over past the relay")
			}
		}), r)
	}))
	defer server.Close()
	defer server.Client().CloseIdleConnections()
	res, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
}
