package authorize

import (
	"errors"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
)

// Config is a policy as it is written.
type Config struct{}

// Policy is a compiled policy: immutable, safe for concurrent use.
type Policy struct{}

// New compiles a policy; the error is a problem.List.
func New(Config) (*Policy, error) { return nil, errors.New("not yet") }

// Decide judges one call. id is nil when there is no token.
func (p *Policy) Decide(id *authenticate.Identity, call *message.Call) Decision {
	return Decision{}
}

// Advertise returns what a challenge asks for and how many of its last scopes
// may be dropped (DES-01..03, DES-09), in the gateway's vocabulary.
func (p *Policy) Advertise(id *authenticate.Identity, d Decision) (scope.Set, int) { return nil, 0 }

// Baseline is what every request needs.
func (p *Policy) Baseline() scope.Set { return nil }

// Anonymous reports whether any rule lets calls through without a token.
func (p *Policy) Anonymous() bool { return false }

// RewriteList applies the policy to one JSON-RPC response to a list method and
// returns what to send instead: the same slice when nothing changes. An error
// means the answer could not be read and must not be sent.
func (p *Policy) RewriteList(id *authenticate.Identity, call *message.Call, response []byte) ([]byte, error) {
	return response, nil
}

// Narrow returns the body of a subscriptions/listen call without the resource
// subscriptions the identity may not have: the same bytes when it may have all.
func (p *Policy) Narrow(id *authenticate.Identity, call *message.Call) ([]byte, error) {
	return call.Body, nil
}
