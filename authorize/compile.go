package authorize

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/scope"
)

// New checks a policy whole and compiles it. The error is a problem.List of every
// mistake, with paths relative to Config such as "rules[2].when". The Policy
// keeps nothing of c but the Tools function.
func New(c Config) (*Policy, error) {
	k := &checker{policy: &Policy{annotations: c.Tools, prefix: c.ScopePrefix}, conditions: map[string]*condition{}}
	p := k.policy
	p.baseline = k.scopes("baseline", c.Baseline)
	k.graph(c.Implies)
	k.advertising(&c)
	k.defaults(c.Default)
	for i := range c.Rules {
		k.rule(i, &c.Rules[i])
	}
	if err := k.mistakes.Err(); err != nil {
		return nil, err
	}
	k.known(&c)
	if p.onlyGranted {
		k.views(&c)
	}
	p.plan()
	return p, nil
}

// checker is a policy in the making.
type checker struct {
	policy   *Policy
	mistakes problem.List
	// conditions that were compiled, by text: many rules have the same.
	conditions map[string]*condition
}

// scopes checks a text of scopes without variables.
func (k *checker) scopes(path, text string) scope.Set {
	set, err := scope.Parse(text)
	if err != nil {
		k.mistakes.Add(path, text, err.Error())
	}
	if set.Has(offlineAccess) {
		k.mistakes.Add(path, text, offlineAccess+" is never asked for: expected other scopes")
	}
	return set
}

// token checks one scope.
func (k *checker) token(path, text string) {
	switch {
	case !scope.ValidToken(text):
		k.mistakes.Add(path, text, "expected one scope: printable ASCII without space, quote or backslash")
	case text == offlineAccess:
		k.mistakes.Add(path, text, offlineAccess+" is never asked for: expected another scope")
	}
}

// tokens checks a list of scopes.
func (k *checker) tokens(path string, list Strings) {
	if len(list) == 0 {
		k.mistakes.Add(path, "", "expected at least one scope")
	}
	for i, text := range list {
		k.token(at(path, list, i), text)
		if slices.Contains(list[:i], text) {
			k.mistakes.Add(at(path, list, i), text, "stands there twice")
		}
	}
}

// at is the path of an element; a list of one may be written as a text.
func at(path string, list Strings, i int) string {
	if len(list) == 1 {
		return path
	}
	return path + "[" + strconv.Itoa(i) + "]"
}

// graph checks `implies`. Tokens are looked at one by one, so that each bad one
// is told; what is left for the graph to find is a circle.
func (k *checker) graph(implies map[string]Strings) {
	plain, before := make(map[string][]string, len(implies)), len(k.mistakes)
	for _, left := range slices.Sorted(maps.Keys(implies)) {
		path := "implies." + left
		if _, err := scope.NewGraph(map[string][]string{left: nil}); err != nil {
			k.mistakes.Add(path, left, `expected one scope: printable ASCII without space, quote or backslash, and "*" only at its end`)
		}
		k.tokens(path, implies[left])
		for i, right := range implies[left] {
			if strings.Contains(right, "*") && scope.ValidToken(right) {
				k.mistakes.Add(at(path, implies[left], i), right, `expected a scope without "*": wildcards stand on the left side only`)
			}
		}
		plain[left] = implies[left]
	}
	if len(k.mistakes) > before {
		return
	}
	g, err := scope.NewGraph(plain)
	if err != nil {
		k.mistakes.Add("implies", "", err.Error())
	}
	k.policy.graph = g
}

// advertising checks what concerns challenges and lists.
func (k *checker) advertising(c *Config) {
	p := k.policy
	switch c.Challenge {
	case "", modeUnion:
		p.mode = modeUnion
	case modeMinimal, modeExtended:
		p.mode = c.Challenge
	default:
		k.mistakes.Add("challenge", c.Challenge, "expected union, minimal or extended")
	}
	switch c.List {
	case "", "show":
	case "granted":
		p.onlyGranted = true
	default:
		k.mistakes.Add("list", c.List, "expected show or granted")
	}
	p.companions = map[string]scope.Set{}
	for _, left := range slices.Sorted(maps.Keys(c.Companions)) {
		path := "companions." + left
		k.token(path, left)
		k.tokens(path, c.Companions[left])
		p.companions[left] = scope.Of(c.Companions[left]...)
	}
	if len(c.Companions) > 0 && c.Challenge != modeExtended {
		k.mistakes.Add("companions", "", "expected challenge: extended beside it, which alone uses it")
	}
	if c.CarryScopes != nil {
		k.tokens("carry_scopes", c.CarryScopes)
	}
	p.carry = scope.Of(c.CarryScopes...)
	p.schemes = c.SecuritySchemes == nil || *c.SecuritySchemes
	if p.prefix != "" {
		k.token("scope_prefix", p.prefix)
	}
}

// defaults checks `default`.
func (k *checker) defaults(list Strings) {
	if len(list) == 0 || len(list) == 1 && list[0] == "deny" {
		return
	}
	if slices.Contains(list, "deny") {
		k.mistakes.Add("default", "deny", "expected deny alone, or scopes")
		return
	}
	r := &rule{index: maxIndex, name: "default"}
	k.options("default", list, r, nil)
	r.text = "default: scopes " + joinOr(list)
	k.policy.fallback = r
}

// options checks an any-of list of all-of texts. variable is called with every
// name in braces; nil means that there must not be any.
func (k *checker) options(path string, list Strings, r *rule, variable func(path, name string)) {
	fixed := true
	for i, text := range list {
		here := at(path, list, i)
		set, err := scope.Parse(text)
		switch {
		case err != nil:
			k.mistakes.Add(here, text, err.Error())
			continue
		case len(set) == 0:
			k.mistakes.Add(here, text, "expected at least one scope")
			continue
		case set.Has(offlineAccess):
			k.mistakes.Add(here, text, offlineAccess+" is never asked for: expected other scopes")
			continue
		}
		o := k.option(here, text, set, variable)
		plain, ok := o.fixed()
		fixed = fixed && ok
		r.options, r.sets = append(r.options, o), append(r.sets, plain)
	}
	if !fixed {
		r.sets = nil
	}
}

// errNoVariables is told where a scope cannot have any.
var errNoVariables = errors.New("expected scopes without variables here")

func (k *checker) option(path, text string, set scope.Set, variable func(path, name string)) option {
	o := make(option, 0, len(set))
	for _, token := range set {
		t, err := parseScopeText(token)
		if err == nil && len(t.vars) > 0 && variable == nil {
			err = errNoVariables
		}
		if err != nil {
			k.mistakes.Add(path, text, err.Error())
			continue
		}
		for _, name := range t.vars {
			variable(path, name)
		}
		o = append(o, t)
	}
	return o
}
