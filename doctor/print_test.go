package doctor_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"github.com/stile-mcp/stile/doctor"
)

// FuzzText: whatever a server says, the report stays within its columns and loses
// nothing but white space.
func FuzzText(f *testing.F) {
	f.Add(`Bearer resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/some/very/long/path/mcp", scope="a b"`)
	f.Add(strings.Repeat("x", 300))
	f.Add(strings.Repeat("ü/", 90))
	f.Add("")
	f.Fuzz(func(t *testing.T, seen string) {
		seen = strings.ToValidUTF8(seen, "?")
		r := doctor.Report{URL: "https://mcp.example.com/mcp", Findings: []doctor.Finding{{ID: "open", Title: "a title", Seen: seen, Mend: "m", Rule: []string{"r"}}}}
		fits(t, r)
		var text bytes.Buffer
		if err := r.WriteText(&text, false); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(dense(text.String()), dense(seen)) {
			t.Errorf("%q is not whole in\n%s", seen, &text)
		}
	})
}

// dense is a text without white space.
func dense(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
}
