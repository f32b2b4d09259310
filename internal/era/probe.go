package era

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/remote"
	"github.com/stile-mcp/stile/message"
)

// Speaks is which generations a server is known to speak.
type Speaks struct{ Modern, Legacy bool }

// ErrUnclear says that the answer to a probe tells nothing about the server's
// generation: it cannot be reached, or does not let this gateway in.
var ErrUnclear = errors.New("the MCP server did not show which revisions it speaks")

// Probe asks a server for its revisions with server/discover. Whatever it answers
// that is no word of 2026-07-28 is that of an older server (2026-07-28
// basic/versioning "Backward Compatibility"), and so is the silence of a program.
// Legacy is also set when a server of 2026-07-28 says that it speaks an older
// revision besides.
func Probe(ctx context.Context, upstream http.RoundTripper, program bool) (Speaks, error) {
	r := server{remote.Server{Transport: upstream}}
	h := http.Header{}
	h.Set(headerVersion, Modern2026)
	h.Set(headerMethod, "server/discover")
	w := wrapping{version: Modern2026, capabilities: jsontext.Value("{}"), client: jsontext.Value(`{"name":"stile","version":"1"}`)}
	line := requestLine(jsontext.Value(`"stile-probe"`), "server/discover", w.wrap(nil).bytes())
	a, err := r.Post(ctx, h, line)
	if err != nil {
		return Speaks{}, fmt.Errorf("%w: %w", ErrUnclear, err)
	}
	switch a.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusTooManyRequests:
		a.Close()
		return Speaks{}, fmt.Errorf("%w: status %d", ErrUnclear, a.Status)
	}
	if a.Status == http.StatusGatewayTimeout && program {
		a.Close()
		return Speaks{Legacy: true}, nil
	}
	if a.Status >= http.StatusInternalServerError && a.Status != http.StatusNotImplemented {
		a.Close()
		return Speaks{}, fmt.Errorf("%w: status %d", ErrUnclear, a.Status)
	}
	var said *packet
	err = a.Each(func(line []byte) bool {
		p, err := readPacket(line)
		if err == nil && (p.result != nil || p.failed != nil) {
			said = p
		}
		return said == nil
	})
	if err != nil && said == nil {
		return Speaks{}, fmt.Errorf("%w: %w", ErrUnclear, err)
	}
	return judge(said), nil
}

// judge tells from the answer to server/discover.
func judge(said *packet) Speaks {
	switch {
	case said == nil:
		return Speaks{Legacy: true}
	case said.failed != nil:
		return judgeError(said.failed)
	}
	versions := elements(lenient(said.result).get("supportedVersions"))
	if len(versions) == 0 {
		return Speaks{Legacy: true}
	}
	return among(versions)
}

// judgeError tells from an error: those of 2026-07-28 have codes of their own. A
// server of a later revision only is neither.
func judgeError(e jsontext.Value) Speaks {
	switch codeOf(e) {
	case codeVersion:
		return among(elements(lenient(lenient(e).get("data")).get("supported")))
	case codeMissing, headerMismatch:
		return Speaks{Modern: true}
	}
	return Speaks{Legacy: true}
}

func among(versions []jsontext.Value) Speaks {
	var s Speaks
	for _, v := range versions {
		version := textOf(v)
		s.Modern = s.Modern || version == Modern2026
		s.Legacy = s.Legacy || message.IsLegacy(version)
	}
	return s
}
