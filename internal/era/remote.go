package era

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/internal/remote"
)

// The headers of the transport.
const (
	headerSession = remote.HeaderSession
	headerVersion = remote.HeaderVersion
	headerMethod  = "Mcp-Method"
)

// DefaultMaxMessage is the longest message taken from a server, in bytes.
const DefaultMaxMessage = remote.DefaultMax

// server is an MCP server that is reached over Streamable HTTP.
type server struct{ remote.Server }

// headerKey is the key of a client's header in a context.
type headerKey struct{}

// WithHeader returns a context in which requests to the server carry what a client
// sent beside the protocol, such as traceparent. Credentials must be gone from it.
func WithHeader(ctx context.Context, h http.Header) context.Context {
	return context.WithValue(ctx, headerKey{}, h)
}

// header is a new header for a request to the server.
func header(ctx context.Context) http.Header {
	sent, _ := ctx.Value(headerKey{}).(http.Header)
	h := maps.Clone(sent)
	if h == nil {
		h = http.Header{}
	}
	for name := range h {
		if strings.HasPrefix(name, "Mcp-") || strings.HasPrefix(name, "Content-") {
			delete(h, name)
		}
	}
	h.Del(remote.HeaderLastEvent)
	return h
}

// refusal is what an answer that is no success says: the server's own JSON-RPC
// error where it sent one. A demand for scopes is kept in the form that the gateway
// reads in messages (DES-23), since on this way there is no header.
func refusal(a *remote.Reply) *failure {
	defer a.Close()
	if need, ok := challenge.FromHeader(a.Status, a.Header); ok {
		var scopes object
		scopes = scopes.with("error", quote("insufficient_scope")).with("error_description", quote(need.Description))
		list := []byte{'['}
		for i, s := range need.Scopes {
			if i > 0 {
				list = append(list, ',')
			}
			list = append(list, quote(s)...)
		}
		return &failure{code: a.Status, text: "the MCP server wants more scopes", data: scopes.with("required_scopes", append(list, ']')).bytes()}
	}
	if a.Status != http.StatusUnauthorized {
		if body, err := a.Whole(); err == nil {
			if e := errorIn(body); e != nil {
				return &failure{code: codeOf(e), text: lenient(e).text("message"), data: lenient(e).get("data")}
			}
		}
	}
	switch a.Status {
	case http.StatusUnauthorized:
		return &failure{code: http.StatusBadGateway, text: "the MCP server did not accept this gateway"}
	case http.StatusForbidden:
		return &failure{code: challenge.CodeDenied, text: "the MCP server refused this"}
	default:
		return &failure{code: http.StatusBadGateway, text: fmt.Sprintf("the MCP server answered with status %d", a.Status)}
	}
}

// errorIn is the error of a JSON-RPC answer, nil when body is none.
func errorIn(body []byte) jsontext.Value {
	e := lenient(body).get("error")
	if !isObject(e) {
		return nil
	}
	return e
}

// ask sends a request and waits for its answer; other messages on the way are lost.
func (r *server) ask(ctx context.Context, h http.Header, line []byte) (*packet, *remote.Reply, error) {
	want, err := readPacket(line)
	if err != nil {
		return nil, nil, err
	}
	a, err := r.Post(ctx, h, line)
	if err != nil {
		return nil, nil, err
	}
	if a.Status != http.StatusOK {
		return nil, a, refusal(a)
	}
	var found *packet
	err = a.Each(func(line []byte) bool {
		p, err := readPacket(line)
		if err == nil && p.result == nil && p.failed == nil || err != nil || p.id != nil && p.key() != want.key() {
			return true
		}
		found = p
		return false
	})
	if found == nil && err == nil {
		err = errors.New("the MCP server did not answer")
	}
	return found, a, err
}
