package message_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/message"
)

// nested returns a modern tools/call of about n bytes with many small values.
func nested(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` + modernMeta + `,"name":"import_rows","arguments":{"rows":[`)
	for i := 0; b.Len() < n-100; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":%d,"title":"row number %d","tags":["red","blue"],"nested":{"done":true,"weight":1.5}}`, i, i)
	}
	b.WriteString(`]}}}`)
	return []byte(b.String())
}

// flat returns a modern tools/call of about n bytes that is mostly one string.
func flat(n int) []byte {
	return []byte(modern("tools/call", `"name":"write_note","arguments":{"text":"`+strings.Repeat("The quick brown fox. ", n/21)+`"}`))
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []struct {
		name string
		n    int
	}{{"2KB", 2 << 10}, {"64KB", 64 << 10}, {"1MB", 1 << 20}} {
		for shape, body := range map[string][]byte{"nested": nested(size.n), "flat": flat(size.n)} {
			b.Run(size.name+"/"+shape, func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := message.Read(body); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkCheckHeaders(b *testing.B) {
	c, err := message.Read([]byte(modern("tools/call", `"name":"get_note"`)))
	if err != nil {
		b.Fatal(err)
	}
	h := headers(version, "2026-07-28", method, "tools/call", name, "get_note", "Accept", "application/json, text/event-stream",
		"Content-Type", "application/json", "User-Agent", "x", "Accept-Encoding", "gzip", "Authorization", "Bearer x")
	b.ReportAllocs()
	for b.Loop() {
		if err := message.CheckHeaders(h, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStripCredentials(b *testing.B) {
	h := http.Header{}
	for _, n := range []string{"Accept", "Content-Type", "User-Agent", "Accept-Encoding", "Content-Length", "Mcp-Method", "Mcp-Name",
		"Mcp-Protocol-Version", "X-Request-Id", "Traceparent"} {
		h.Set(n, "x")
	}
	b.ReportAllocs()
	for b.Loop() {
		message.StripCredentials(h)
	}
}

// TestReadAllocations is the budget that the benchmark reports: the call, its
// name, and nothing that grows with the body.
func TestReadAllocations(t *testing.T) {
	for what, body := range map[string][]byte{"2 KB": nested(2 << 10), "64 KB": nested(64 << 10)} {
		if n := testing.AllocsPerRun(100, func() {
			if _, err := message.Read(body); err != nil {
				t.Fatal(err)
			}
		}); n > allocationBudget {
			t.Errorf("%s: %v allocations, want at most %d", what, n, allocationBudget)
		}
	}
}

// BenchmarkReadText is a body of text as people write it: with line ends, quotes
// and characters beyond ASCII.
func BenchmarkReadText(b *testing.B) {
	body := []byte(modern("tools/call", `"name":"write_note","arguments":{"text":"`+
		strings.Repeat(`The quick brown fox jumps over the “lazy” dog. Größe: \"42\"\n`, 1<<20/65)+`"}`))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := message.Read(body); err != nil {
			b.Fatal(err)
		}
	}
}
