package message_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stile-mcp/stile/message"
)

func TestReadBody(t *testing.T) {
	text := func(n int) string { return strings.Repeat("x", n) }
	for _, tt := range []struct {
		name     string
		body     string
		declared int64
		max      int64
		status   int // 0: read
	}{
		{"declared", "abc", 3, 10, 0},
		{"declared at the limit", text(10), 10, 10, 0},
		{"declared over the limit", "", 11, 10, 413},
		{"declared over the default limit", "", message.DefaultMaxBody + 1, 0, 413},
		{"declared empty", "", 0, 10, 0},
		{"declared, longer than the first chunk", text(200_000), 200_000, 1 << 20, 0},
		{"cut off", "abc", 4, 10, 400},
		{"nothing came", "", 4, 10, 400},
		{"cut off in the second chunk", text(100_000), 200_000, 1 << 20, 400},
		{"cut off between chunks", text(64 << 10), 200_000, 1 << 20, 400},
		{"more than declared", "abcd", 3, 10, 400},
		{"chunked", "abc", -1, 10, 0},
		{"chunked empty", "", -1, 10, 0},
		{"chunked at the limit", text(10), -1, 10, 0},
		{"chunked over the limit", text(11), -1, 10, 413},
		{"chunked and long", text(300_001), -1, 1 << 20, 0},
		{"chunked at a long limit", text(1 << 20), -1, 1 << 20, 0},
		{"chunked over a long limit", text(1<<20 + 1), -1, 1 << 20, 413},
		{"chunked at the default limit", text(message.DefaultMaxBody), -1, 0, 0},
		{"chunked over the default limit", text(message.DefaultMaxBody + 1), -1, -5, 413},
	} {
		for kind, wrap := range map[string]func(io.Reader) io.Reader{
			"plain": func(r io.Reader) io.Reader { return r }, "one byte": iotest.OneByteReader,
			"half": iotest.HalfReader, "data with EOF": iotest.DataErrReader,
		} {
			t.Run(tt.name+"/"+kind, func(t *testing.T) {
				got, err := message.ReadBody(wrap(strings.NewReader(tt.body)), tt.declared, tt.max)
				if tt.status == 0 {
					if err != nil || string(got) != tt.body {
						t.Fatalf("got %d bytes, error %v", len(got), err)
					}
					return
				}
				if err == nil || err.Status != tt.status || err.Code != message.CodeInvalidRequest || got != nil {
					t.Fatalf("got %d bytes, error %+v, want %d", len(got), err, tt.status)
				}
			})
		}
	}
}

// countingReader says how much was asked of it.
type countingReader struct {
	r    io.Reader
	read int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.read += n
	return n, err
}

// endless never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestReadBodyReadsNoMoreThanItMust(t *testing.T) {
	c := &countingReader{r: endless{}}
	if _, err := message.ReadBody(c, 1<<30, 1000); err == nil || c.read != 0 {
		t.Errorf("declared over the limit: read %d bytes, error %v", c.read, err)
	}
	if _, err := message.ReadBody(c, -1, 1000); err == nil || c.read != 1001 {
		t.Errorf("chunked: read %d bytes, error %v", c.read, err)
	}
}

// TestReadBodyAllocates checks that a declared length is allocated exactly, a
// promised but absent one hardly, and that the limit bounds every buffer.
func TestReadBodyAllocates(t *testing.T) {
	for _, n := range []int{1, 2000, 64 << 10, 1 << 20} {
		got, err := message.ReadBody(bytes.NewReader(make([]byte, n)), int64(n), 1<<20)
		if err != nil || cap(got) != n {
			t.Errorf("declared %d: capacity %d, error %v", n, cap(got), err)
		}
	}
	if got, err := message.ReadBody(bytes.NewReader(make([]byte, 900)), -1, 1000); err != nil || cap(got) > 1000 {
		t.Errorf("chunked: capacity %d over the limit, error %v", cap(got), err)
	}
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			message.ReadBody(strings.NewReader("{"), 4<<20, 4<<20)
		}
	})
	if got := r.AllocedBytesPerOp(); got > 128<<10 {
		t.Errorf("a promise of 4 MiB cost %d bytes", got)
	}
}

func TestReadBodyTellsTheCause(t *testing.T) {
	for _, declared := range []int64{-1, 5} {
		_, err := message.ReadBody(iotest.ErrReader(os.ErrDeadlineExceeded), declared, 10)
		if err == nil || err.Status != 400 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("declared %d: %+v", declared, err)
		}
		if strings.Contains(err.Message, "timeout") || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("the cause belongs in Error, not in Message: %q, %q", err.Error(), err.Message)
		}
	}
	if _, err := message.ReadBody(strings.NewReader("a"), 2, 10); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off: %+v", err)
	}
	if _, err := message.ReadBody(strings.NewReader(""), 2, 10); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("nothing came: %+v", err)
	}
	limited := http.MaxBytesReader(httptest.NewRecorder(), io.NopCloser(endless{}), 5)
	if _, err := message.ReadBody(limited, -1, 10); err == nil || err.Status != 413 || !strings.Contains(err.Message, "over 5 bytes") {
		t.Errorf("a reader with a limit of its own: %+v", err)
	}
}
