package fetch

import (
	"net/url"
	"strconv"
	"strings"
)

// Error is why a document could not be had. It names the host and never the
// whole URL.
type Error struct {
	// Host is the host of the URL, with its port when it has one.
	Host string
	// Want is what was expected.
	Want string
	// Got is what came instead, empty where Err says it.
	Got string
	// Status is that of the answer, 0 when none came.
	Status int
	// Err is the cause, nil where the answer itself is at fault.
	Err error
}

// Error returns host, expectation and what came, on one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Host)
	b.WriteString(": expected ")
	b.WriteString(e.Want)
	if e.Got != "" {
		b.WriteString(", got ")
		b.WriteString(e.Got)
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// hostOf is the host of a URL, for messages.
func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		return "URL without a host"
	}
	return u.Host
}

// maxQuoted bounds what is repeated of a stranger's bytes.
const maxQuoted = 60

func quote(s string) string {
	if len(s) > maxQuoted {
		s = s[:maxQuoted] + "..."
	}
	return strconv.QuoteToASCII(s)
}
