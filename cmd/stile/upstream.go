package main

import (
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/stile-mcp/stile/forward"
)

// newUpstream makes what reaches the MCP server, and what ends that again.
func (f *File) newUpstream(e *entry[Server], log *slog.Logger) (http.Handler, io.Closer, error) {
	s := &e.Value
	if s.Command != nil {
		return f.commands.get(f.commandConfig(e, log), forward.Protocol(s.Protocol))
	}
	upstream, err := f.newRemote(e, log)
	if err != nil {
		return nil, nil, err
	}
	either, err := forward.NewEra(forward.EraConfig{Name: e.Name, Upstream: upstream, Protocol: forward.Protocol(s.Protocol),
		IdleTimeout: time.Duration(s.IdleTimeout), MaxPerCaller: s.MaxPerCaller, Log: log})
	if err != nil {
		return nil, nil, err
	}
	return either, closerFunc(func() {
		either.Close()
		upstream.Close()
	}), nil
}

// remote is a server behind a URL.
type remote interface {
	http.Handler
	Close()
}

// newRemote makes what sends requests to a URL, by the transport it is spoken to in.
func (f *File) newRemote(e *entry[Server], log *slog.Logger) (remote, error) {
	s := &e.Value
	header := http.Header{}
	for name, value := range s.Headers {
		header.Set(name, value)
	}
	to := forward.HTTPConfig{URL: s.URL, Header: header, TLS: f.upstreamTLS[e.Name], ConnectTimeout: time.Duration(s.Timeouts.Connect),
		ResponseHeaderTimeout: s.Timeouts.request(), Log: log}
	if to.ResponseHeaderTimeout == 0 {
		to.ResponseHeaderTimeout = -1 // without end
	}
	old := forward.SSEConfig{Name: e.Name, HTTP: to, Sessions: f.commandConfig(e, log)}
	switch s.Transport {
	case transportSSE:
		return forward.NewSSE(old)
	case transportAuto:
		return forward.NewDetect(old)
	default:
		return forward.NewHTTP(to)
	}
}
