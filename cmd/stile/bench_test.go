package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkOpen is what a start does before it listens, by the number of rules.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{20, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			file := filepath.Join(b.TempDir(), "stile.yaml")
			text := "listen: 127.0.0.1:0\nissuers:\n  - issuer: https://idp.example.com\nservers:\n  notes:\n    path: /mcp\n    url: http://127.0.0.1:9/mcp\n    policy_file: policy.yaml\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(filepath.Dir(file), "policy.yaml"), []byte(manyRules(n)), 0o600); err != nil {
				b.Fatal(err)
			}
			p := &process{ctx: b.Context(), stdout: io.Discard, stderr: io.Discard, around: system()}
			b.ReportAllocs()
			for b.Loop() {
				s := newServer(file, p)
				s.log = slog.New(slog.DiscardHandler)
				if err := s.open(); err != nil {
					b.Fatal(err)
				}
				if err := errors.Join(s.listener.Close(), s.current.Load().opened.Close()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// manyRules is a policy of n rules, one in ten with a glob and one with a
// condition.
func manyRules(n int) string {
	var y strings.Builder
	y.WriteString("baseline: notes:read\nrules:\n")
	for i := range n {
		switch i % 10 {
		case 8:
			fmt.Fprintf(&y, "  - tools: [\"group_%d_*\"]\n    scopes: notes:write\n", i)
		case 9:
			fmt.Fprintf(&y, "  - tools: [delete_%d]\n    when: args.permanent == true\n    scopes: notes:admin\n", i)
		default:
			fmt.Fprintf(&y, "  - tools: [tool_%d]\n    scopes: notes:write\n", i)
		}
	}
	return y.String()
}
