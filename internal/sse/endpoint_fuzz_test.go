package sse_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/internal/sse"
)

// FuzzMessageURL wants no text to lead messages, and the credential with them, to
// another scheme, host or port than those of the event stream.
func FuzzMessageURL(f *testing.F) {
	for _, seed := range []string{"/messages?s=1", "messages", "?s=1", "//other/m", "http://a.example:8080/m", "HTTP://A.EXAMPLE:8080/m", "http://a.example/m",
		"https://a.example:8080/m", "http://a.example:8080@other/m", "http:/other", "http:other", "\\\\elsewhere\\m", "/\\elsewhere", "javascript:alert(1)", "#x", "http://a.example:8080\t.other/", ""} {
		f.Add(seed)
	}
	base, err := url.Parse("http://a.example:8080/base/sse?key=1")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := sse.MessageURL(base, text)
		if err != nil {
			return
		}
		// What counts is where a request goes that is made from its text.
		r, err := http.NewRequest(http.MethodPost, u.String(), http.NoBody)
		if err != nil {
			return
		}
		if r.URL.Scheme != "http" || !strings.EqualFold(r.URL.Hostname(), "a.example") || r.URL.Port() != "8080" || r.URL.User != nil || !strings.EqualFold(r.Host, "a.example:8080") {
			t.Errorf("%q leads to %s", text, r.URL)
		}
	})
}
