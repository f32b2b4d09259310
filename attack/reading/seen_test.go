// Package reading holds message.Read against other decoders: for any bytes,
// either Stile refuses, or whoever else accepts them understands what Stile
// judged. The decoders are those of real MCP servers, in this process, in Node
// and in Python; the servers themselves stand behind a real gateway.
package reading_test

import (
	"errors"
	"fmt"

	"github.com/stile-mcp/stile/message"
)

// member names what of a message a decoder tells.
type member string

const (
	method    member = "method"
	id        member = "id"
	result    member = "result"
	failure   member = "error"
	params    member = "params"
	name      member = "name"
	uri       member = "uri"
	arguments member = "arguments"
	taskID    member = "taskId"
	refName   member = "refName"
	refURI    member = "refURI"
)

// seen is what one decoder makes of a message: a tree for each member it looks
// at, absent{} for one that is not there. A decoder need not look at all.
type seen struct {
	spelling spelling
	members  map[member]any
}

// judged is what Stile says the message is, in the same terms. Members that play
// no part in the method are left out.
func judged(c *message.Call) map[member]any {
	m := map[member]any{method: absent{}, params: strictTree(c.Params), id: strictTree(c.ID)}
	if c.Method != "" {
		m[method] = c.Method
		m[result], m[failure] = absent{}, absent{}
	}
	switch c.Method {
	case "tools/call", "prompts/get":
		m[name], m[arguments] = c.Name, strictTree(c.Args)
	case "resources/read":
		m[uri] = c.URI
	case "resources/subscribe", "resources/unsubscribe":
		if c.URI != "" {
			m[uri] = c.URI
		}
	case "tasks/get", "tasks/update", "tasks/cancel", "tasks/result":
		m[taskID] = c.TaskID
	case "completion/complete":
		m[refName], m[refURI] = any(absent{}), any(absent{})
		if c.RefType == "ref/prompt" {
			m[refName] = c.Name
		} else {
			m[refURI] = c.Name
		}
	}
	return m
}

// disagreement tells in what a decoder differs from Stile, nil where it does not.
func disagreement(c *message.Call, s *seen) error {
	var all []error
	for what, want := range judged(c) {
		got, looked := s.members[what]
		if !looked {
			continue
		}
		if g, w := canonical(got, s.spelling), canonical(want, s.spelling); g != w {
			all = append(all, fmt.Errorf("%s is %s, Stile judged %s", what, g, w))
		}
	}
	return errors.Join(all...)
}
