package authorize

import (
	"fmt"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/message"
)

// Narrow returns the body of a subscriptions/listen call without the resource
// subscriptions the identity may not have (DES-22): the same bytes when it may
// have all. Each is judged like reading that resource. An error means that this
// could not be told, and that the call must not be forwarded.
func (p *Policy) Narrow(id *authenticate.Identity, call *message.Call) ([]byte, error) {
	if call == nil {
		return nil, errNoCall
	}
	at, found, err := descend(call.Body, "params", "notifications", "resourceSubscriptions")
	switch {
	case err != nil:
		return nil, fmt.Errorf("subscriptions/listen: %w", err)
	case !found || call.Body[at.start] == 'n':
		return call.Body, nil
	case call.Body[at.start] != '[':
		return nil, fmt.Errorf("subscriptions/listen: resourceSubscriptions is not an array")
	}
	list := at.of(call.Body)
	elements, err := elementsOf(list)
	if err != nil {
		return nil, fmt.Errorf("subscriptions/listen: %w", err)
	}
	kept := make([][]byte, 0, len(elements))
	for _, e := range elements {
		uri, ok := text(e.of(list))
		if !ok {
			continue
		}
		d := p.Decide(id, &message.Call{Kind: message.Request, Era: call.Era, Method: "resources/read", URI: uri})
		switch d.Outcome {
		case Allow:
			kept = append(kept, e.of(list))
		case Fail:
			return nil, fmt.Errorf("subscriptions/listen: %w", d.Err)
		default: // dropped
		}
	}
	if len(kept) == len(elements) {
		return call.Body, nil
	}
	s := &splice{raw: call.Body}
	s.replace(at, array(kept))
	return s.bytes(), nil
}

// descend finds a value by the names of the members that lead to it. A member on
// the way that is absent, or no object, means that it is not there.
func descend(raw []byte, path ...string) (at span, found bool, err error) {
	at = span{0, len(raw)}
	for i, name := range path {
		if i > 0 && raw[at.start] != '{' {
			return span{}, false, nil
		}
		members, err := membersOf(at.of(raw))
		if err != nil {
			return span{}, false, err
		}
		inner, found, err := lookup(members, name)
		if err != nil || !found {
			return span{}, false, err
		}
		at = span{at.start + inner.start, at.start + inner.end}
	}
	return at, true, nil
}
