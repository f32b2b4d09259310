package pages_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stile-mcp/stile/authserver/pages"
)

func TestNamesOfStrangers(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"Claude", "Claude"},
		{"  Visual \t Studio\r\nCode ", "Visual Studio Code"},
		{"Claude\u202e\u2066 fdp.exe\u2069", "Claude fdp.exe"},
		{"Cl\u200bau\u00adde\ufeff\u2060", "Claude"},
		{"ada\x00\x1b[31m", "ada[31m"},
		{"Hangul\u3164filler\u115f", "Hangulfiller"},
		{"Bra\u2800ille", "Braille"},
		{"tag\U000e0041\U000e007f", "tag"},
		{"bad\xff\xfe", "bad"},
		{"Z\u0301\u0302\u0303\u0304\u0305algo", "Z\u0301\u0302algo"},
		{"\u0301Claude \u0301", "Claude"},
		{"שלום", "שלום"},
		{"नमस्ते", "नमस्ते"},
		{"", "A program without a name"},
		{"\u202e \u200b", "A program without a name"},
		{strings.Repeat("é", 81), strings.Repeat("é", 80) + "…"},
	} {
		if got := pages.Name(c.name); got != c.want {
			t.Errorf("%q: %q, want %q", c.name, got, c.want)
		}
	}
	if pages.Sentence("") != "" || utf8.RuneCountInString(pages.Sentence(strings.Repeat("x ", 500))) > 301 {
		t.Error("sentences are not bounded as they should be")
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"Claude", "a\u202eb", "x\u0301\u0301\u0301", strings.Repeat("漢", 200), " \n "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := pages.Name(s)
		if n := utf8.RuneCountInString(got); n == 0 || n > 81 || !utf8.ValidString(got) || strings.TrimSpace(got) != got {
			t.Errorf("%q became %q", s, got)
		}
		for _, r := range got {
			if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs) {
				t.Errorf("%q became %q, with %U", s, got, r)
			}
		}
		if again := pages.Name(got); again != got && !strings.HasSuffix(got, "…") {
			t.Errorf("%q, and again %q", got, again)
		}
	})
}
