package authorize

import (
	"errors"
	"slices"
	"strings"
)

// uriPattern matches the URIs of resources: literal text with either "*" for any
// run of characters or the variables of a level-1 URI template between (RFC 6570
// §1.2). A pattern with neither is an exact URI.
type uriPattern struct {
	text string
	// literals are the texts around the wildcards or variables, one more than
	// there are of those.
	literals []string
	vars     []string
	wild     bool
}

var (
	errURIEmpty    = errors.New("expected a URI")
	errURIMixed    = errors.New(`both "*" and {variables}: expected one of the two`)
	errURIBraces   = errors.New(`expected variables such as {id}: a name of letters, digits, "_" and "." between braces, without operator, prefix or list (RFC 6570 level 1)`)
	errURIAdjacent = errors.New("two variables with nothing between that could not belong to either: expected a character such as / there")
	errURITwice    = errors.New("a variable that stands there twice")
	errURIDots     = errors.New(`dot segments that would swallow a variable or "*"`)
)

// parseURIPattern compiles a pattern.
func parseURIPattern(s string) (*uriPattern, error) {
	p := &uriPattern{text: s}
	switch {
	case s == "":
		return nil, errURIEmpty
	case strings.ContainsAny(s, "{}"):
		if strings.Contains(s, "*") {
			return nil, errURIMixed
		}
		return p, p.parseTemplate(s)
	default:
		p.literals = strings.Split(s, "*")
		p.wild = len(p.literals) > 1
		return p, nil
	}
}

func (p *uriPattern) parseTemplate(s string) error {
	for {
		before, after, found := strings.Cut(s, "{")
		if strings.Contains(before, "}") {
			return errURIBraces
		}
		p.literals = append(p.literals, before)
		if !found {
			break
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed || !isVariable(name) || strings.Contains(name, "-") {
			return errURIBraces
		}
		if slices.Contains(p.vars, name) {
			return errURITwice
		}
		p.vars = append(p.vars, name)
		s = rest
	}
	for _, between := range p.literals[1 : len(p.literals)-1] {
		if spanVariable(between) == len(between) {
			return errURIAdjacent
		}
	}
	return nil
}

// isVariable reports whether a text between braces names a variable.
func isVariable(name string) bool {
	for i := range len(name) {
		if c := name[i]; c == '~' || !isUnreserved(c) {
			return false
		}
	}
	return name != ""
}

func (p *uriPattern) exact() bool { return len(p.literals) == 1 }

func (p *uriPattern) prefix() string { return p.literals[0] }

func (p *uriPattern) suffix() string { return p.literals[len(p.literals)-1] }

// normal is the pattern in normal form, the same one when it is in it already.
func (p *uriPattern) normal() (*uriPattern, error) {
	// What stands in for a variable must survive normalisation and not occur.
	mark := "zq0"
	for strings.Contains(p.text, mark) {
		mark += "z0"
	}
	literals := strings.Split(normalURI(strings.Join(p.literals, mark)), mark)
	if len(literals) != len(p.literals) {
		return nil, errURIDots
	}
	if slices.Equal(literals, p.literals) {
		return p, nil
	}
	q := *p
	q.literals = literals
	return &q, nil
}

// match reports whether the whole of uri fits, and the decoded values of the
// variables in their order.
func (p *uriPattern) match(uri string) (values []string, ok bool) {
	if p.wild {
		return nil, p.matchWild(uri)
	}
	rest, ok := strings.CutPrefix(uri, p.literals[0])
	if !ok {
		return nil, false
	}
	for _, literal := range p.literals[1:] {
		run := spanVariable(rest)
		// The literal can only stand where the run of the variable's characters
		// ends: what it begins with may be such characters too.
		end := run - spanVariable(literal)
		if end <= 0 || !strings.HasPrefix(rest[end:], literal) {
			return nil, false
		}
		if spanEncoded(rest[:end]) != end {
			return nil, false
		}
		values = append(values, decodePercent(rest[:end]))
		rest = rest[end+len(literal):]
	}
	return values, rest == ""
}

func (p *uriPattern) matchWild(uri string) bool {
	first, last := p.prefix(), p.suffix()
	if len(uri) < len(first)+len(last) || !strings.HasPrefix(uri, first) || !strings.HasSuffix(uri, last) {
		return false
	}
	rest := uri[len(first) : len(uri)-len(last)]
	for _, literal := range p.literals[1 : len(p.literals)-1] {
		_, after, found := strings.Cut(rest, literal)
		if !found {
			return false
		}
		rest = after
	}
	return true
}

// spanVariable is how many bytes s begins with that a variable may hold, "%"
// counted alone.
func spanVariable(s string) int {
	for i := range len(s) {
		if !isUnreserved(s[i]) && s[i] != '%' {
			return i
		}
	}
	return len(s)
}

// spanEncoded is how many bytes s begins with that are unreserved characters or
// whole percent-encoded ones.
func spanEncoded(s string) int {
	for i := 0; i < len(s); i++ {
		switch _, ok := decodeTriplet(s[i:]); {
		case ok:
			i += 2
		case !isUnreserved(s[i]):
			return i
		}
	}
	return len(s)
}

// sameShape reports whether text is this template but for the names of its
// variables, as a server may have chosen others.
func (p *uriPattern) sameShape(text string) bool {
	if len(p.vars) == 0 {
		return false
	}
	other, err := parseURIPattern(text)
	return err == nil && slices.Equal(other.literals, p.literals)
}
