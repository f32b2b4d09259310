package authorize

import (
	"slices"
	"strings"

	"github.com/stile-mcp/stile/scope"
)

// Policy is a compiled policy: immutable, safe for concurrent use.
type Policy struct {
	baseline scope.Set
	graph    *scope.Graph
	rules    []*rule
	fallback *rule // of what no rule matches; nil: deny

	tools, prompts, methods nameIndex
	resources               uriIndex

	mode        string
	onlyGranted bool
	schemes     bool
	companions  map[string]scope.Set
	carry       scope.Set
	prefix      string
	annotations func(name string) (map[string]any, bool)

	anonymous   bool
	needsClaims bool
	needsTools  bool

	catalogue []scopeText // every scope the policy knows, in order
	viewed    viewed      // those that decide what is listed, where that follows grants
	open      *joined     // what asks for nothing but the baseline
	own       map[string]*joined
}

// The values of Config.Challenge.
const (
	modeUnion    = "union"
	modeMinimal  = "minimal"
	modeExtended = "extended"
)

// Baseline is what every request needs, in the order of the file. It must not be
// changed.
func (p *Policy) Baseline() scope.Set { return p.baseline }

// Catalogue is every scope that the policy knows, without those that have
// variables: the baseline, then the rules in the order of the file, the default,
// the companions and the implications.
func (p *Policy) Catalogue() scope.Set {
	var all scope.Set
	for _, t := range p.catalogue {
		if len(t.vars) == 0 {
			all = append(all, t.literals[0])
		}
	}
	return all
}

// Knows reports whether a scope is one of those that the policy knows: as it is
// written, or with values for its variables.
func (p *Policy) Knows(token string) bool {
	return slices.ContainsFunc(p.catalogue, func(t scopeText) bool { return t.pattern() == token || t.fits(token) })
}

// Anonymous reports whether any rule lets calls through without a token.
func (p *Policy) Anonymous() bool { return p.anonymous }

// AsksIn names what asks for scopes, which only callers with a token have: the baseline,
// the first such rule, or the default. It is empty where nothing does.
func (p *Policy) AsksIn() string {
	if len(p.baseline) > 0 {
		return "baseline"
	}
	for _, r := range append(slices.Clip(p.rules), p.fallback) {
		if r != nil && !r.anonymous && r.deny == "" {
			return r.name
		}
	}
	return ""
}

// NeedsClaims reports whether any condition reads `token`, so that verifiers must
// keep Identity.Claims.
func (p *Policy) NeedsClaims() bool { return p.needsClaims }

// NeedsTools reports whether any condition reads `tool`, so that Config.Tools
// must know the tools of the server.
func (p *Policy) NeedsTools() bool { return p.needsTools }

// Rule describes, on one line, the rule that Decision.Rules names; it is empty
// for a name that is none.
func (p *Policy) Rule(name string) string {
	switch name {
	case "baseline":
		return "baseline: " + p.baseline.String()
	case "methods":
		return "methods: what every connection may do"
	case "default":
		if p.fallback == nil {
			return "default: deny"
		}
		return p.fallback.text
	}
	for _, r := range p.rules {
		if r.name == name {
			return r.text
		}
	}
	return ""
}

// known collects the catalogue (Catalogue).
func (k *checker) known(c *Config) {
	seen := map[string]bool{}
	add := func(t scopeText) {
		if text := t.pattern(); !seen[text] {
			seen[text] = true
			k.policy.catalogue = append(k.policy.catalogue, t)
		}
	}
	addAll := func(tokens []string) {
		for _, token := range tokens {
			add(scopeText{literals: []string{token}})
		}
	}
	addAll(k.policy.baseline)
	for _, r := range append(slices.Clone(k.policy.rules), k.policy.fallback) {
		if r == nil {
			continue
		}
		for _, o := range r.options {
			for _, t := range o {
				add(t)
			}
		}
	}
	for _, left := range sortedKeys(c.Companions) {
		addAll([]string{left})
		addAll(c.Companions[left])
	}
	for _, left := range sortedKeys(c.Implies) {
		if prefix, wild := strings.CutSuffix(left, "*"); wild {
			// Any scope with the prefix counts, so it has one variable at its end.
			add(scopeText{literals: []string{prefix, ""}, vars: []string{"*"}})
		} else {
			addAll([]string{left})
		}
		addAll(c.Implies[left])
	}
}

func sortedKeys(m map[string]Strings) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
