package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/propose"
	"github.com/stile-mcp/stile/scope"
)

// tryProposal reads the file back as serve would, and holds every call of what the
// server listed against it: with the strongest scope it must be allowed, with its
// own too, and with the next weaker one it must be asked for.
func tryProposal(name string, text []byte, p *propose.Proposal, around surroundings) error {
	if len(text) > maxFile {
		return fmt.Errorf("the server lists so much that the file would be larger than %d bytes", maxFile)
	}
	f, err := loadBytes(name, text, around)
	if err != nil {
		return fmt.Errorf("what would be written has mistakes; nothing was written:\n%w", err)
	}
	if err := tryCalls(f.policies[p.Name].compiled, p); err != nil {
		return fmt.Errorf("%w; nothing was written", err)
	}
	return nil
}

// tryCalls holds every call against a policy that was made from a proposal.
func tryCalls(policy *authorize.Policy, p *propose.Proposal) error {
	for _, c := range p.Calls() {
		if err := tryCall(policy, p, c); err != nil {
			return fmt.Errorf("%s %s: %w", c.Method, printable(c.Name), err)
		}
	}
	return nil
}

func tryCall(policy *authorize.Policy, p *propose.Proposal, c propose.Call) error {
	call, wrong := message.Read(propose.Body(c))
	if wrong != nil {
		return errors.New(printable(wrong.Message))
	}
	own := slices.IndexFunc(p.Grants, func(g propose.Grant) bool { return g.Scope == c.Scope })
	for i, g := range p.Grants {
		id := &authenticate.Identity{Subject: "somebody", Profile: &authenticate.Profile{}, Scopes: scope.Of(g.Scope)}
		d := policy.Decide(id, call)
		switch {
		case i >= own && d.Outcome != authorize.Allow:
			return fmt.Errorf("%s does not allow it", g.Scope)
		case i < own && (d.Outcome != authorize.Challenge || !slices.Contains(d.Missing, c.Scope)):
			return fmt.Errorf("%s is not asked for", c.Scope)
		}
	}
	if none := policy.Decide(nil, call); none.Outcome != authorize.Authenticate {
		return errors.New("it is allowed without a token")
	}
	return nil
}
