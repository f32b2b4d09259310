package main

import (
	"github.com/stile-mcp/stile/internal/fetch"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stile-mcp/stile/internal/problem"
)

var transports = []string{transportStreamable, transportSSE, transportAuto}

// checkTransport looks at how a server is spoken to.
func (s *Server) checkTransport(list *problem.List, at string) {
	switch {
	case !slices.Contains(transports, s.Transport):
		list.Add(at+".transport", s.Transport, "expected streamable, sse or auto")
	case s.Transport != defaultTransport && s.Command != nil:
		list.Add(at+".transport", s.Transport, "expected only with url")
	}
	if s.Stateless {
		s.checkStateless(list, at)
	}
	t := &s.Timeouts
	if t.Connect != 0 && s.Command != nil {
		list.Add(at+".timeouts.connect", "", "expected only with url")
	}
	if most := t.maximum(); t.request() > 0 && most > 0 && most < t.request() {
		list.Add(at+".timeouts.maximum", "", "expected not less than request")
	}
	switch {
	case s.TLS == nil:
	case !strings.HasPrefix(s.URL, "https://"):
		list.Add(at+".tls", "", "expected only with a url of https")
	case (s.TLS.Certificate == "") != (s.TLS.Key == ""):
		list.Add(at+".tls", "", "expected certificate and key together")
	}
}

func (s *Server) checkStateless(list *problem.List, at string) {
	if s.SSE {
		list.Add(at+".stateless", "true", "expected not with sse, whose event streams are sessions")
	}
	if s.Command != nil && s.Isolation == defaultIsolation {
		list.Add(at+".isolation", s.Isolation, "expected caller or shared with stateless, since there are no sessions")
	}
}

// checkWeb looks at how clients come in.
func (f *File) checkWeb(list *problem.List) {
	if f.TLS != nil {
		if f.TLS.Certificate == "" {
			list.Add("tls.certificate", "", "expected the file of a certificate")
		}
		if f.TLS.Key == "" {
			list.Add("tls.key", "", "expected the file of a private key")
		}
	}
	for i, origin := range f.CORS.Origins {
		at := index("cors.origins", i)
		public, _ := url.Parse(f.PublicURL)
		switch {
		case origin == anyOrigin && f.CORS.Credentials:
			list.Add(at, origin, "expected origins by name with credentials: every page could call with the person's cookies")
		case origin == anyOrigin && public != nil && fetch.IsLoopback(public.Hostname()):
			list.Add(at, origin, "expected origins by name while public_url is on loopback: every page in the browser could call")
		case origin != anyOrigin && !isOrigin(origin):
			list.Add(at, origin, `expected "scheme://host" with an optional port and nothing after it, or "*"`)
		}
	}
	for _, names := range []struct {
		at   string
		list []string
	}{{"cors.headers", f.CORS.Headers}, {"cors.expose", f.CORS.Expose}} {
		for i, name := range names.list {
			if !isFieldName(name) {
				list.Add(index(names.at, i), name, "expected the name of a header field")
			}
		}
	}
}

// anyOrigin stands for pages of every origin.
const anyOrigin = "*"

// Defaults of Timeouts.
const (
	defaultRequestTimeout = 5 * time.Minute
	defaultRequestMaximum = time.Hour
)

// request and maximum are the bounds that count; 0: none.
func (t *Timeouts) request() time.Duration { return orDefault(t.Request, defaultRequestTimeout) }
func (t *Timeouts) maximum() time.Duration {
	return orDefault(t.Maximum, max(defaultRequestMaximum, t.request()))
}

func orDefault(d Duration, otherwise time.Duration) time.Duration {
	switch {
	case d == 0:
		return otherwise
	case d < 0:
		return 0
	default:
		return time.Duration(d)
	}
}
