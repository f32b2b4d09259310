package stiletest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// flowSection is a request or answer as text: a first line, header lines in
// their order, names of headers that must be absent, and the body.
type flowSection struct {
	first  string
	header []string
	absent []string
	body   string
}

// parseSection reads a section. The line break at its end is not part of it.
func parseSection(text string) flowSection {
	text = strings.TrimSuffix(text, "\n")
	head, body, _ := strings.Cut(text, "\n\n")
	s := flowSection{body: body}
	for n, line := range strings.Split(head, "\n") {
		name, absent := strings.CutPrefix(line, "!")
		switch {
		case n == 0:
			s.first = line
		case absent:
			s.absent = append(s.absent, strings.TrimSpace(name))
		case line != "":
			s.header = append(s.header, line)
		}
	}
	return s
}

// String writes the section as it stands in a transcript.
func (s flowSection) String() string {
	var b strings.Builder
	b.WriteString(s.first + "\n")
	for _, line := range s.header {
		b.WriteString(line + "\n")
	}
	for _, name := range s.absent {
		b.WriteString("!" + name + "\n")
	}
	if s.body != "" {
		b.WriteString("\n" + s.body + "\n")
	}
	return b.String()
}

// has reports whether the section has a header line of that name.
func (s flowSection) has(name string) bool {
	for _, line := range s.header {
		if n, _, _ := strings.Cut(line, ":"); strings.EqualFold(strings.TrimSpace(n), name) {
			return true
		}
	}
	return false
}

// bytes is the request on the wire.
func (s flowSection) bytes(host string) string {
	var b strings.Builder
	b.WriteString(s.first)
	if !strings.Contains(s.first, " HTTP/") {
		b.WriteString(" HTTP/1.1")
	}
	b.WriteString("\r\n")
	if !s.has("Host") {
		fmt.Fprintf(&b, "Host: %s\r\n", host)
	}
	for _, line := range s.header {
		b.WriteString(line + "\r\n")
	}
	if s.body != "" && !s.has("Content-Length") && !s.has("Transfer-Encoding") {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(s.body))
	}
	b.WriteString("\r\n" + s.body)
	return b.String()
}

// flowAnswer is what came back.
type flowAnswer struct {
	status string // "HTTP/1.1 200 OK"
	header http.Header
	body   string
	open   bool // the stream was going on
}

// exchange sends a request as it stands and reads the answer: to its end, for as
// long as done says no to the body so far, or until the timeout where a stream
// has begun and does not end.
func exchange(address string, request flowSection, timeout time.Duration, done func(body string) bool) (flowAnswer, error) {
	conn, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return flowAnswer{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return flowAnswer{}, err
	}
	if _, err := io.WriteString(conn, request.bytes(address)); err != nil {
		return flowAnswer{}, fmt.Errorf("sending: %w", err)
	}
	method, _, _ := strings.Cut(request.first, " ")
	// The connection is closed instead of the body, which would wait for the rest
	// of a stream.
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method}) //nolint:bodyclose // see above
	if err != nil {
		return flowAnswer{}, fmt.Errorf("reading the answer: %w", err)
	}
	a := flowAnswer{status: res.Proto + " " + res.Status, header: res.Header}
	var body []byte
	buffer := make([]byte, 4096)
	for {
		if a.open = done(string(body)); a.open {
			break
		}
		n, err := res.Body.Read(buffer)
		body = append(body, buffer[:n]...)
		if a.open = errors.Is(err, os.ErrDeadlineExceeded) && len(body) > 0; a.open || errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return flowAnswer{}, fmt.Errorf("the answer ended badly after %q: %w", body, err)
		}
	}
	a.body = string(body)
	return a, nil
}
