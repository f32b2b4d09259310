package bridge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/internal/era"
	"github.com/stile-mcp/stile/internal/remote"
	"github.com/stile-mcp/stile/stepup"
)

// far is the server.
type far struct {
	b      *bridge
	server remote.Server
	detect *detect
	probes singleflight.Group

	mu     sync.Mutex
	modern answer3
	asked  time.Time
}

// answer3 is yes, no, or not known.
type answer3 uint8

const (
	unknown answer3 = iota
	yes
	no
)

func newFar(b *bridge) *far {
	u, _ := url.Parse(b.config.URL) // it was checked
	f := &far{b: b, detect: newDetect(b, &target{url: u, header: b.config.Header, base: b.config.Transport})}
	f.server = remote.Server{Transport: f.detect, Max: b.config.MaxMessage}
	return f
}

const (
	// probeTime is how long a server may be silent when it is asked for its revisions,
	// and tellTime how long it may take for a message that has no answer. What a login
	// takes does not count.
	probeTime = 10 * time.Second
	tellTime  = 30 * time.Second
	// doubtPause is how often a server that seems to be another one is asked again.
	doubtPause = 10 * time.Second
)

// speaksModern finds out whether the server speaks 2026-07-28 (2026-07-28
// basic/versioning "Backward Compatibility"). While that cannot be told, since the
// server cannot be reached or lets nobody in, it is unknown. The error is that of a
// login that failed: to send the request all the same would ask the person again.
func (f *far) speaksModern(ctx context.Context) (answer3, error) {
	if known := f.known(); known != unknown {
		return known, nil
	}
	probe := f.probes.DoChan("", func() (any, error) {
		// It does not end with the call that began it: others wait for it.
		p := newPatient(f.detect, probeTime)
		s, err := era.Probe(f.b.ctx, p, false)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.asked = time.Now()
		switch {
		case p.gaveUp():
			f.modern = no // it was there, and had nothing to say
		case err != nil:
			f.b.log.Info("not known which revisions the MCP server speaks", "error", err)
		case s.Modern:
			f.modern = yes
		default:
			f.modern = no
		}
		f.b.log.Debug("the MCP server was asked for its revisions", "2026-07-28", s.Modern, "older", s.Legacy)
		if login := new(stepup.Error); errors.As(err, &login) {
			return nil, login
		}
		return nil, nil
	})
	select {
	case r := <-probe:
		return f.known(), r.Err
	case <-ctx.Done():
		return f.known(), ctx.Err()
	}
}

func (f *far) known() answer3 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.modern
}

// doubt says that a server of 2026-07-28 may be another one now.
func (f *far) doubt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.modern == yes && time.Since(f.asked) > doubtPause {
		f.modern = unknown
	}
}

func (f *far) close() { f.detect.close() }

// target sends requests to the server's URL, or another one of the same origin, with
// the headers that were configured.
type target struct {
	url    *url.URL
	header http.Header
	base   http.RoundTripper
}

// RoundTrip sends a request to the server's URL, wherever it says.
func (t *target) RoundTrip(r *http.Request) (*http.Response, error) { return t.send(r, t.url) }

func (t *target) send(r *http.Request, to *url.URL) (*http.Response, error) {
	out := r.Clone(r.Context())
	u := *to
	out.URL, out.Host = &u, t.header.Get("Host")
	for name, values := range t.header {
		name = http.CanonicalHeaderKey(name)
		if name == "Host" || name == remote.HeaderLastEvent || strings.HasPrefix(name, "Mcp-") || out.Header[name] != nil {
			continue // what the protocol says is not for a configuration to say
		}
		out.Header[name] = values
	}
	if out.Header["User-Agent"] == nil {
		out.Header.Set("User-Agent", "stile")
	}
	return t.base.RoundTrip(out)
}

// explained is the server for who translates: what could not be done, or was not let
// in, it answers in words under the id of the request.
type explained struct{ b *bridge }

// RoundTrip sends one message.
func (e explained) RoundTrip(r *http.Request) (*http.Response, error) {
	m := messageOf(r)
	var sent atomic.Bool
	res, err := e.b.far.detect.RoundTrip(r.WithContext(onWire(r.Context(), func() { sent.Store(true) })))
	if m == nil || m.Kind != envelope.Request || r.Context().Err() != nil {
		return res, err
	}
	var said *refusal
	switch {
	case err != nil:
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		said = readRefusal(&remote.Reply{Status: res.StatusCode, Header: res.Header, Body: res.Body})
	default:
		return res, nil
	}
	line := e.b.explain(m, said, err, sent.Load())
	return &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(line)),
		ContentLength: int64(len(line)), Request: r}, nil
}
