package authorize

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/stile-mcp/stile/scope"
)

// rule is one rule, compiled.
type rule struct {
	index int    // in the file; the default comes last
	name  string // such as "rules[2]"
	text  string // one line that describes it

	when      *condition
	anonymous bool
	deny      string // not empty: refused with this text

	options   []option    // any of these is enough
	sets      []scope.Set // options, where none has a variable
	variables *members    // the arguments its scopes read; nil without any
}

// fixed reports whether the rule holds for every call and asks for the same.
func (r *rule) fixed() bool { return r.when == nil && (r.sets != nil || len(r.options) == 0) }

// option is one all-of set, whose scopes may have variables.
type option []scopeText

// scopeText is a scope with variables between its literals, such as
// "notes:item:{id}". Without any it is a scope.
type scopeText struct {
	literals []string // one more than vars
	vars     []string
}

var errScopeBraces = errors.New(`expected variables such as {id}: a name of letters, digits, "_", "-" and "." between braces`)

func parseScopeText(s string) (scopeText, error) {
	var t scopeText
	for {
		before, after, found := strings.Cut(s, "{")
		if strings.Contains(before, "}") {
			return t, errScopeBraces
		}
		t.literals = append(t.literals, before)
		if !found {
			return t, nil
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed || !isVariable(name) {
			return t, errScopeBraces
		}
		t.vars = append(t.vars, name)
		s = rest
	}
}

// pattern is the scope with its variables as written.
func (t scopeText) pattern() string {
	var b strings.Builder
	for i, literal := range t.literals {
		if i > 0 {
			b.WriteString("{" + t.vars[i-1] + "}")
		}
		b.WriteString(literal)
	}
	return b.String()
}

// fits reports whether a scope could be this one with some values.
func (t scopeText) fits(token string) bool {
	size := len(t.vars)
	for _, literal := range t.literals {
		size += len(literal)
	}
	p := uriPattern{literals: t.literals, wild: true}
	return len(token) >= size && p.matchWild(token)
}

// offlineAccess must never be asked for (REQ-12, DES-02).
const offlineAccess = "offline_access"

// fill puts values in the place of the variables. A value must be made of the
// characters of a scope token, and not be able to turn into a wildcard.
func (t scopeText) fill(value func(name string) (string, bool)) (string, error) {
	if len(t.vars) == 0 {
		return t.literals[0], nil
	}
	var b strings.Builder
	b.WriteString(t.literals[0])
	for i, name := range t.vars {
		v, ok := value(name)
		switch {
		case !ok:
			return "", &variableError{name, "is missing, or no text, integer or boolean"}
		case !scope.ValidToken(v) || strings.Contains(v, "*"):
			return "", &variableError{name, "has characters that no scope has"}
		}
		b.WriteString(v)
		b.WriteString(t.literals[i+1])
	}
	if b.String() == offlineAccess || !isAskable(b.String()) {
		return "", &variableError{t.vars[0], "makes a scope that is never asked for"}
	}
	return b.String(), nil
}

// maxFilled is the longest scope made from values of a call, in bytes.
const maxFilled = 512

// isAskable reports whether a scope made from values of a call can stand in a
// challenge: one that clients would take for a parameter of it is left out there
// (DES-12, challenge.CheckScope), and they would log in for nothing.
func isAskable(token string) bool {
	lower := strings.ToLower(token)
	for _, name := range []string{"scope=", "error=", "error_description=", "resource_metadata="} {
		if strings.Contains(lower, name) {
			return false
		}
	}
	return token[0] != '=' && len(token) <= maxFilled
}

// variableError is a value that a scope cannot be made of. It does not repeat
// the value, which is the caller's.
type variableError struct{ name, why string }

func (e *variableError) Error() string { return "the value of " + e.name + " " + e.why }

// fill makes the set of an option.
func (o option) fill(value func(name string) (string, bool)) (scope.Set, error) {
	set := make(scope.Set, 0, len(o))
	for _, t := range o {
		token, err := t.fill(value)
		if err != nil {
			return nil, err
		}
		if !set.Has(token) {
			set = append(set, token)
		}
	}
	return set, nil
}

// fixed is the set of an option without variables.
func (o option) fixed() (scope.Set, bool) {
	set, err := o.fill(func(string) (string, bool) { return "", false })
	return set, err == nil
}

// inFileOrder sorts rules as they stand in the file, each once.
func inFileOrder(rules []*rule) []*rule {
	slices.SortFunc(rules, func(a, b *rule) int { return cmp.Compare(a.index, b.index) })
	return slices.Compact(rules)
}

// describe is the rule on one line, as it is written.
func (c *Rule) describe(name string) string {
	var parts []string
	add := func(key, value string) {
		if value != "" {
			parts = append(parts, key+" "+value)
		}
	}
	add("tools", strings.Join(c.Tools, ", "))
	add("resources", strings.Join(c.Resources, ", "))
	add("prompts", strings.Join(c.Prompts, ", "))
	add("methods", strings.Join(c.Methods, ", "))
	add("when", strings.Join(strings.Fields(c.When), " "))
	switch {
	case c.Deny != "":
		add("deny", c.Deny)
	case c.Anonymous:
		parts = append(parts, "anonymous")
	default:
		add("scopes", strings.Join(c.Scopes, " or "))
	}
	return name + ": " + strings.Join(parts, "; ")
}
