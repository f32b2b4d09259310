package message_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/message"
)

// insides are beginnings of strings, with and without what makes them bad. Each
// is put among plain text, so that what goes eight bytes at a time meets it at
// every place.
var insides = []string{"", `\n`, `\"`, `\\`, `\/\b\f\r\t`, `\u0041`, `\uD83D\uDE00`, `\ud83d\ude00`, "é", "“", "😀", "\x7f",
	`\uD83D`, `\uD83Dx`, `\uDE00`, `\uD83D\uD83D`, `\uD83D\u0041`, `\u12`, `\u12G4`, `\x`, `\`, "\x00", "\x1f", "\n", "\xff", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80"}

func TestStringEnd(t *testing.T) {
	for _, inside := range insides {
		for before := range 18 {
			for _, after := range []int{0, 1, 7, 8, 20} {
				checkStringEnd(t, []byte(strings.Repeat("x", before)+inside+strings.Repeat("y", after)))
			}
		}
	}
	if end := message.StringEnd([]byte(`abc`), 0); end != -1 {
		t.Errorf("a string without an end: %d", end)
	}
}

// checkStringEnd holds that a string is taken exactly when the decoder does.
func checkStringEnd(t *testing.T, inside []byte) {
	t.Helper()
	quoted := append(append([]byte{'"'}, inside...), '"')
	end := message.StringEnd(quoted, 1)
	if ok := end == len(quoted)-1; ok != message.DecoderTakes(quoted) {
		t.Errorf("%q: the end is %d of %d, the decoder takes it: %t", quoted, end, len(quoted), !ok)
	}
}

// FuzzShorten holds that leaving long strings out changes nothing: neither what
// is understood nor what is refused, nor the words of the refusal.
func FuzzShorten(f *testing.F) {
	long := strings.Repeat(`The quick brown fox. \"“\u0041\n`, 20)
	for _, tt := range seeds(long) {
		f.Add([]byte(tt.body))
	}
	for _, tt := range accepted {
		f.Add([]byte(strings.ReplaceAll(tt.body, "x", long)))
	}
	for _, tt := range refused {
		f.Add([]byte(strings.ReplaceAll(tt.body, "x", long)))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		checkStringEnd(t, body)
		for _, b := range [][]byte{body, bytes.ReplaceAll(body, []byte(`"`), []byte(`"`+strings.Repeat("~", 200)))} {
			got, refusal := message.Read(b)
			want, wanted := message.ReadWhole(b)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%q is read differently:\n%s", b, diff)
			}
			if diff := cmp.Diff(wanted, refusal); diff != "" {
				t.Fatalf("%q is refused differently:\n%s", b, diff)
			}
		}
	})
}

// seeds are bodies with a long text at every kind of place.
func seeds(long string) []struct{ name, body string } {
	call := func(params string) string {
		return `{"jsonrpc":"2.0","id":"1","method":"tools/call","params":{` + params + `}}`
	}
	return []struct{ name, body string }{
		{"argument", call(`"name":"a","arguments":{"text":"` + long + `"}`)},
		{"before the name", call(`"arguments":{"text":"` + long + `","n":[1,"` + long + `"]}, "name" : "a"`)},
		{"name of an argument", call(`"name":"a","arguments":{"` + long + `" : 1}`)},
		{"twice the same name", call(`"name":"a","arguments":{"` + long + `":1,"` + long + `":2}`)},
		{"tool name", call(`"name":"` + long + `"`)},
		{"id", `{"jsonrpc":"2.0","method":"ping","id":"` + long + `"}`},
		{"unknown member", `{"x":"` + long + `","jsonrpc":"2.0","id":7,"method":"ping"}`},
		{"cut off", call(`"name":"a","arguments":{"text":"` + long)},
		{"broken behind it", call(`"name":"a","arguments":{"text":"` + long + `",}`)},
		{"broken inside", call(`"name":"a","arguments":{"text":"` + long + "\x01" + `"}`)},
		{"twice", call(`"name":"a","arguments":{"text":"` + long + `"},"name":"b"`)},
		{"folded", call(`"name":"a","arguments":{"text":"` + long + `"},"Name":"b"`)},
		{"deep", call(`"name":"a","arguments":{"text":"` + long + `","d":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`)},
		{"only text", `"` + long + `"`},
		{"bare", long},
	}
}

func TestShorten(t *testing.T) {
	for _, tt := range seeds(strings.Repeat(`text with \" and “ `, 30)) {
		t.Run(tt.name, func(t *testing.T) {
			got, refusal := message.Read([]byte(tt.body))
			want, wanted := message.ReadWhole([]byte(tt.body))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("read differently:\n%s", diff)
			}
			if diff := cmp.Diff(wanted, refusal); diff != "" {
				t.Errorf("refused differently:\n%s", diff)
			}
		})
	}
}
