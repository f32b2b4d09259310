package authorize

import (
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/scope"
)

// View stands for what a caller is shown of each kind of entry. Two views that are
// equal in a kind are shown the same of it.
type View struct{ Tools, Resources, Prompts string }

// ListsFollowGrants reports whether what is listed depends on the scopes of the
// caller's token (`list: granted`), so that a new token may change it.
func (p *Policy) ListsFollowGrants() bool { return p.onlyGranted }

// View is what the scopes of an identity, nil for none, let it see where lists
// follow grants: which of the scopes that rules of each kind, the baseline and the
// default name they satisfy. Conditions on other claims of a token are not in it.
func (p *Policy) View(id *authenticate.Identity) View {
	var held scope.Set
	if id != nil {
		held = id.Scopes
	}
	return View{p.met(held, p.viewed.tools), p.met(held, p.viewed.resources), p.met(held, p.viewed.prompts)}
}

// met writes down which scopes are satisfied.
func (p *Policy) met(held scope.Set, known []scopeText) string {
	b := make([]byte, 0, len(known))
	for _, t := range known {
		switch {
		case len(t.vars) > 0: // by which values
			for _, token := range held {
				if t.fits(token) {
					b = append(append(b, token...), ' ')
				}
			}
			b = append(b, '|')
		case p.graph.Satisfies(held, t.literals[0]):
			b = append(b, '1')
		default:
			b = append(b, '0')
		}
	}
	return string(b)
}

// viewed are the scopes that decide what is listed, by kind.
type viewed struct{ tools, resources, prompts []scopeText }

// views collects them.
func (k *checker) views(c *Config) {
	p := k.policy
	add := func(options []option, tools, resources, prompts bool) {
		for _, o := range options {
			if tools {
				p.viewed.tools = append(p.viewed.tools, o...)
			}
			if resources {
				p.viewed.resources = append(p.viewed.resources, o...)
			}
			if prompts {
				p.viewed.prompts = append(p.viewed.prompts, o...)
			}
		}
	}
	for _, token := range p.baseline {
		add([]option{{{literals: []string{token}}}}, true, true, true)
	}
	for i, r := range p.rules {
		from := &c.Rules[i]
		method := len(from.Methods) > 0 // perhaps the one that uses the entries
		add(r.options, method || len(from.Tools) > 0, method || len(from.Resources) > 0, method || len(from.Prompts) > 0)
	}
	if p.fallback != nil {
		add(p.fallback.options, true, true, true)
	}
}
