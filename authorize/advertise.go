package authorize

import (
	"slices"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/scope"
)

// Advertise returns what a challenge asks for and how many of its last scopes
// may be dropped where the header would grow too long (DES-01..03, DES-09), in
// the gateway's vocabulary. It depends only on the policy, the decision, and which
// scopes are held, not on the order in which the token names them (DES-13).
//
// What is required comes first and whole. Then, unless `challenge: minimal`, come
// the caller's scopes that the policy knows and those of carry_scopes, so that a
// client that asks for the challenge's scopes alone keeps what it has; then, with
// `challenge: extended`, the companions of what is required.
func (p *Policy) Advertise(id *authenticate.Identity, d Decision) (scope.Set, int) {
	if id == nil || p.mode == modeMinimal {
		return d.Required, 0
	}
	ask := d.Required
	for _, t := range p.catalogue {
		ask = ask.Union(heldLike(id.Scopes, t))
	}
	for _, token := range p.carry {
		ask = ask.Union(heldLike(id.Scopes, scopeText{literals: []string{token}}))
	}
	if p.mode == modeExtended {
		for _, token := range d.Required {
			for _, companion := range p.companions[token] {
				if grantable(id.Profile, scope.Set{companion}) {
					ask = ask.Union(scope.Set{companion})
				}
			}
		}
	}
	return ask, len(ask) - len(d.Required)
}

// heldLike are the held scopes that a scope of the catalogue stands for, sorted.
func heldLike(held scope.Set, t scopeText) scope.Set {
	if len(t.vars) == 0 {
		if held.Has(t.literals[0]) {
			return scope.Set{t.literals[0]}
		}
		return nil
	}
	var found scope.Set
	for _, token := range held {
		if token != offlineAccess && t.fits(token) {
			found = append(found, token)
		}
	}
	slices.Sort(found)
	return found
}
