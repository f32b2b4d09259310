package interop_test

import (
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/stepup"
	"github.com/stile-mcp/stile/stepup/loopback"
)

// TestCallbackPages looks at the page at which a login on a desk ends, in each of its
// states, where it came through its content policy with its style.
func TestCallbackPages(t *testing.T) {
	b := startBrowser(t)
	long := strings.Repeat("Donaudampfschifffahrtsgesellschaft", 5)
	first := stepup.Request{URL: "https://idp.example.com/authorize?state=s1", Resource: "https://mcp.example.com/mcp"}
	step, wide := first, first
	step.Operation, step.New = "tools/call delete_note", []string{"notes:write"}
	wide.Operation, wide.New = "tools/call "+long, []string{"notes:write", "notes:item:" + long}
	for _, tc := range []struct {
		picture string
		request stepup.Request
		err     error
		heading string
		says    string
	}{
		{"", first, nil, "You are logged in", "mcp.example.com"},
		{"callback-step-up", step, nil, "Your program tries again", "notes:write"},
		{"callback-refused", step, &stepup.DeniedError{Code: "access_denied", Description: "the person refused"}, "Nothing was allowed", "the person refused"},
		{"", wide, nil, "Your program tries again", "notes:write"},
		{"", wide, &stepup.DeniedError{Code: "access_denied", Description: "<b>No</b> " + long}, "Nothing was allowed", "<b>No</b>"},
		{"", first, errors.New("the token endpoint answered 400 invalid_grant " + long), "The login did not work", "invalid_grant"},
	} {
		sent := make(chan struct{})
		v, err := loopback.New(loopback.Config{Out: io.Discard, Browser: func(string) error { close(sent); return nil }}).Begin(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		answered := make(chan url.Values, 1)
		go func() {
			answer, err := v.Authorize(t.Context(), tc.request)
			if err != nil {
				t.Error(err)
			}
			v.(stepup.Teller).Told(tc.err)
			answered <- answer
		}()
		<-sent
		b.open(v.RedirectURI() + "?code=c1&state=s1")
		b.heading(tc.heading)
		b.mustSay(tc.says)
		if evaluate[string](b, "getComputedStyle(document.querySelector('main')).borderTopWidth") == "0px" {
			t.Errorf("%q came without its style", tc.heading)
		}
		if answer := <-answered; answer.Get("code") != "c1" {
			t.Errorf("%q: %v", tc.heading, answer)
		}
		b.look(tc.picture)
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
}
