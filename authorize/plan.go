package authorize

import "github.com/stile-mcp/stile/scope"

// plan is what is known of one exact name or URI before any call: the rules for
// it and, where none of them depends on the call, what they ask for together.
type plan struct {
	own   []*rule // those that name it exactly
	all   []*rule // with those whose patterns match it, in file order
	fixed *joined // for the method that acts on it; nil where it depends
}

// joined is what the rules that hold for one call ask for together.
type joined struct {
	needs []need
	names []string // of the rules that hold
	deny  *rule    // the first that refuses

	holding   int  // how many hold
	anonymous bool // all that hold let calls through without a token

	// combinations are the scopes of every choice of options, the last need
	// changing fastest; nil where they are joined for each call.
	combinations []scope.Set

	// undecided are the rules that only a call can tell of.
	undecided []*rule
	// unmatched is set where no rule matched, so that the default counts.
	unmatched bool
	// impossible says why a rule cannot be met by this call.
	impossible error
	err        error
}

// need is an any-of list of all-of sets that one rule asks for.
type need struct {
	rule    string
	options []scope.Set
	// open is set where an option was left out because its scopes have
	// variables; held tells whether the caller has such scopes (lists only).
	open, held bool
}

// maxCombinations is how many sets are made in advance for one name. What has
// more allocates when it is decided.
const maxCombinations = 64

// plan makes the plan of every exact name, once all rules are filed.
func (p *Policy) plan() {
	p.resources.sort()
	p.open = p.fix(p.start(), nil)
	for method, pl := range p.methods.exact {
		pl.all = p.methods.find(method)
	}
	p.own = map[string]*joined{}
	for _, method := range ownMethods {
		p.own[method] = p.fix(p.start(), p.methods.find(method))
	}
	for name, pl := range p.tools.exact {
		pl.all = p.tools.find(name)
		pl.fixed = p.fix(p.start(), withMethod(pl.all, p.methods.find("tools/call")))
	}
	for name, pl := range p.prompts.exact {
		pl.all = p.prompts.find(name)
		pl.fixed = p.fix(p.start(), withMethod(pl.all, p.methods.find("prompts/get")))
	}
	for uri, pl := range p.resources.exact {
		var all []*rule
		for _, m := range p.resources.find(nil, uri, 0) {
			all = append(all, m.rule)
		}
		pl.all = inFileOrder(all)
		if normalURI(uri) == uri && looseURI(uri) == uri && !hidesDots(uri) && !isUI(uri) {
			pl.fixed = p.fix(p.start(), withMethod(pl.all, p.methods.find("resources/read")))
		}
	}
}

// withMethod joins the rules of a target with those of the method. A rule that
// names both counts as one.
func withMethod(target, method []*rule) []*rule {
	if len(method) == 0 {
		return target
	}
	return inFileOrder(append(append([]*rule(nil), target...), method...))
}

// start is a joined with only what every call needs.
func (p *Policy) start() *joined {
	j := &joined{anonymous: true}
	if len(p.baseline) > 0 {
		j.needs = append(j.needs, need{rule: "baseline", options: []scope.Set{p.baseline}})
	}
	return j
}

// fix joins rules that do not depend on the call; nil when one does.
func (p *Policy) fix(j *joined, rules []*rule) *joined {
	for _, r := range rules {
		if !r.fixed() {
			return nil
		}
		j.take(r, r.sets)
	}
	j.finish(p)
	j.combine()
	return j
}

// take adds a rule that holds.
func (j *joined) take(r *rule, sets []scope.Set) {
	j.holding++
	j.names = append(j.names, r.name)
	j.anonymous = j.anonymous && r.anonymous
	if r.deny != "" && j.deny == nil {
		j.deny = r
	}
	if len(sets) > 0 {
		j.needs = append(j.needs, need{rule: r.name, options: sets})
	}
}

// finish gives names to a joined without rules.
func (j *joined) finish(p *Policy) {
	j.anonymous = j.anonymous && j.holding > 0
	switch {
	case len(j.names) > 0:
	case len(p.baseline) > 0:
		j.names = []string{"baseline"}
	default:
		j.names = []string{"methods"}
	}
}

// combine makes every combination of options in advance, when they are few.
func (j *joined) combine() {
	count := 1
	for _, n := range j.needs {
		if count *= len(n.options); count > maxCombinations {
			return
		}
	}
	j.combinations = make([]scope.Set, 0, count)
	choice := make([]int, len(j.needs))
	for range count {
		j.combinations = append(j.combinations, j.choose(choice))
		j.advance(choice)
	}
}

// choose joins one option of every need.
func (j *joined) choose(choice []int) scope.Set {
	var set scope.Set
	for i, n := range j.needs {
		set = set.Union(n.options[choice[i]])
	}
	return set
}

// advance goes to the next choice, the last need changing fastest, and from the
// last back to the first.
func (j *joined) advance(choice []int) {
	for i := len(choice) - 1; i >= 0; i-- {
		if choice[i]++; choice[i] < len(j.needs[i].options) {
			return
		}
		choice[i] = 0
	}
}
