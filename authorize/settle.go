package authorize

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/scope"
)

const (
	// maxChoices bounds the combinations of options that are compared for one
	// refusal.
	maxChoices = 4096
	// maxAlternatives bounds Decision.Alternatives.
	maxAlternatives = 16
)

// settle holds what an identity has against what a call needs. Where everything
// is met and the choices were combined in advance it allocates nothing.
func (p *Policy) settle(id *authenticate.Identity, j *joined) Decision {
	choice := 0
	for i := range j.needs {
		options := j.needs[i].options
		met := p.firstMet(id.Scopes, options)
		if met < 0 {
			return p.shortage(id, j)
		}
		choice = choice*len(options) + met
	}
	d := Decision{Outcome: Allow, Rules: j.names}
	if j.combinations != nil {
		d.Required = j.combinations[choice]
		return d
	}
	for i := range j.needs {
		options := j.needs[i].options
		d.Required = d.Required.Union(options[p.firstMet(id.Scopes, options)])
	}
	return d
}

// firstMet is the first option that is wholly held, or -1.
func (p *Policy) firstMet(held scope.Set, options []scope.Set) int {
	for i, option := range options {
		met := true
		for _, want := range option {
			if !p.graph.Satisfies(held, want) {
				met = false
				break
			}
		}
		if met {
			return i
		}
	}
	return -1
}

// shortage is the answer when something is missing: the challenge for the
// choice that lacks fewest scopes, or a denial where asking cannot help.
func (p *Policy) shortage(id *authenticate.Identity, j *joined) Decision {
	d := Decision{Rules: j.names}
	open, blocked, count := &joined{}, "", 1
	for i := range j.needs {
		n, ok := p.obtainable(id, &j.needs[i])
		if !ok && blocked == "" {
			blocked = n.rule
		}
		if count *= len(n.options); count > maxChoices {
			d.Err = fmt.Errorf("rules %s leave more than %d ways to meet them: expected fewer alternatives",
				strings.Join(j.names, ", "), maxChoices)
			return d
		}
		open.needs = append(open.needs, n)
	}
	best := p.best(id, open, count)
	d.Required = open.choose(best)
	d.Missing = p.graph.Missing(id.Scopes, d.Required)
	switch {
	case blocked != "":
		d.Outcome = Deny
		d.Reason = "this needs the scopes " + ungrantable(id.Profile, d.Missing).String() + ", which " + id.Issuer + " does not grant. Ask whoever runs this server."
	case id.Final:
		d.Outcome = Deny
		d.Reason = "this credential lacks the scopes " + d.Missing.String() + " and cannot be given more by signing in. Ask whoever runs this server."
	default:
		d.Outcome = Challenge
		d.Alternatives = open.alternatives(d.Required, count)
	}
	return d
}

// obtainable leaves the options of a need that count: the one that is met
// already, or those whose missing scopes the issuer can grant. When there are
// none all come back, for the reason, and ok is false.
func (p *Policy) obtainable(id *authenticate.Identity, n *need) (need, bool) {
	if met := p.firstMet(id.Scopes, n.options); met >= 0 {
		return need{rule: n.rule, options: n.options[met : met+1]}, true
	}
	var options []scope.Set
	for _, option := range n.options {
		if grantable(id.Profile, p.graph.Missing(id.Scopes, option)) {
			options = append(options, option)
		}
	}
	if len(options) == 0 {
		return need{rule: n.rule, options: n.options[:min(1, len(n.options))]}, false
	}
	return need{rule: n.rule, options: options}, true
}

// grantable reports whether the issuer can grant every scope of a set. Its list
// is in the gateway's own vocabulary, or in the issuer's with its prefix.
func grantable(profile *authenticate.Profile, set scope.Set) bool {
	if profile == nil || len(profile.Grantable) == 0 {
		return true
	}
	for _, token := range set {
		if !grants(profile, token) {
			return false
		}
	}
	return true
}

func ungrantable(profile *authenticate.Profile, set scope.Set) scope.Set {
	var out scope.Set
	for _, token := range set {
		if !grants(profile, token) {
			out = append(out, token)
		}
	}
	return out
}

func grants(profile *authenticate.Profile, token string) bool {
	for _, pattern := range profile.Grantable {
		prefix, wild := strings.CutSuffix(pattern, "*")
		switch {
		case pattern == token, pattern == profile.ScopePrefix+token:
			return true
		case wild && (strings.HasPrefix(token, prefix) || strings.HasPrefix(profile.ScopePrefix+token, prefix)):
			return true
		}
	}
	return false
}

// best is the choice that lacks fewest scopes, the first of them in the order of
// the file (DES-05).
func (p *Policy) best(id *authenticate.Identity, j *joined, count int) []int {
	choice, best, least := make([]int, len(j.needs)), make([]int, len(j.needs)), -1
	for range count {
		lacking := len(p.graph.Missing(id.Scopes, j.choose(choice)))
		if least < 0 || lacking < least {
			copy(best, choice)
			least = lacking
		}
		j.advance(choice)
	}
	return best
}

// alternatives are the other sets that would do, each once, in the order of the
// file.
func (j *joined) alternatives(required scope.Set, count int) []scope.Set {
	var others []scope.Set
	choice := make([]int, len(j.needs))
	for range count {
		set := j.choose(choice)
		fresh := !set.Equal(required)
		for _, other := range others {
			fresh = fresh && !set.Equal(other)
		}
		if fresh {
			if others = append(others, set); len(others) == maxAlternatives {
				break
			}
		}
		j.advance(choice)
	}
	return others
}

// Extend judges what an upstream demanded of an allowed call as if a rule had
// asked for it too (DES-23). d is the decision that allowed the call; scopes are
// the upstream's, in the gateway's vocabulary, of which those that are no scope
// tokens are left out. Where all of them are held already, or the upstream named
// none, asking again cannot help and the answer is Deny. So it is where it names one
// that neither the policy nor the issuer's list of grantable scopes knows: otherwise
// an upstream could send people to grant what has nothing to do with it (DES-21).
func (p *Policy) Extend(id *authenticate.Identity, d Decision, scopes scope.Set) Decision {
	if id == nil {
		return Decision{Outcome: Authenticate, Required: p.baseline, Rules: []string{"upstream"}}
	}
	var wanted scope.Set
	for _, token := range scopes {
		if scope.ValidToken(token) && token != offlineAccess {
			wanted = wanted.Union(scope.Set{token})
		}
	}
	names := append(slices.Clone(d.Rules), "upstream")
	for _, token := range p.graph.Missing(id.Scopes, wanted) {
		if !p.mayAskFor(id.Profile, token) {
			return Decision{Outcome: Deny, Required: d.Required, Rules: names,
				Reason: "the MCP server asks for a scope that this gateway does not know. Ask whoever runs it."}
		}
	}
	if len(p.graph.Missing(id.Scopes, wanted)) == 0 {
		return Decision{Outcome: Deny, Required: d.Required, Rules: names,
			Reason: "the MCP server refused this, and signing in again would not change it. Ask whoever runs it."}
	}
	j := &joined{names: names, needs: []need{{rule: "upstream", options: []scope.Set{wanted}}}}
	if len(d.Required) > 0 {
		j.needs = append([]need{{rule: "policy", options: []scope.Set{d.Required}}}, j.needs...)
	}
	return p.settle(id, j)
}

// mayAskFor reports whether a challenge may name a scope that only an upstream asked
// for.
func (p *Policy) mayAskFor(profile *authenticate.Profile, token string) bool {
	known := func(t scopeText) bool {
		if len(t.vars) == 0 {
			return t.literals[0] == token
		}
		return t.fits(token)
	}
	return slices.ContainsFunc(p.catalogue, known) || p.carry.Has(token) ||
		profile != nil && len(profile.Grantable) > 0 && grants(profile, token)
}
