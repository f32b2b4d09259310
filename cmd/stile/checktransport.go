package main

import (
	"slices"

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
}
