package authorize

import (
	"errors"
	"slices"
)

// errUnwritten is a variable of which nothing is known before the call.
var errUnwritten = errors.New("they depend on a value that is still being written")

func isLookalike(err error) bool {
	var l *lookalike
	return errors.As(err, &l)
}

// fill puts the values of this call into the scopes of a rule. Options that
// cannot be filled are left out; the error is set when none is left.
func (q *query) fill(m *match) (need, error) {
	r := m.rule
	n := need{rule: r.name}
	if r.sets != nil || len(r.options) == 0 {
		n.options = r.sets
		return n, nil
	}
	value, err := q.valuesOf(m)
	if err != nil {
		return n, err
	}
	var first error
	for _, o := range r.options {
		set, err := o.fill(value)
		switch {
		case err == nil:
			n.options = append(n.options, set)
		case q.mode == asList:
			n.open = true
			n.held = n.held || q.holdsLike(o)
		case first == nil:
			first = err
		}
	}
	if q.mode == asCompletion && len(n.options) == 0 {
		first = errUnwritten
	}
	if len(n.options) > 0 {
		first = nil
	}
	return n, first
}

// valuesOf returns what gives the variables of a match their values.
func (q *query) valuesOf(m *match) (func(name string) (string, bool), error) {
	if m.pattern != nil {
		return func(name string) (string, bool) {
			i := slices.Index(m.pattern.vars, name)
			if i < 0 || i >= len(m.values) {
				return "", false
			}
			return m.values[i], true
		}, nil
	}
	if q.mode != asCall {
		return func(string) (string, bool) { return "", false }, nil
	}
	args, err := q.arguments()
	if err == nil {
		err = m.rule.variables.check(args)
	}
	if err != nil {
		return nil, err
	}
	return func(name string) (string, bool) { return argumentText(args, name) }, nil
}

// holdsLike reports whether the caller holds, for every scope of an option, one
// that it could become.
func (q *query) holdsLike(o option) bool {
	if q.id == nil {
		return false
	}
	for _, t := range o {
		fits := t.fits
		if len(t.vars) == 0 {
			fits = func(string) bool { return q.p.graph.Satisfies(q.id.Scopes, t.literals[0]) }
		}
		if !slices.ContainsFunc(q.id.Scopes, fits) {
			return false
		}
	}
	return true
}
