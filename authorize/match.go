package authorize

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// nameIndex finds the rules for a name: of a tool, a prompt or a method.
type nameIndex struct {
	exact map[string]*plan
	globs index[globRule]
	// folded are the exact names as a lenient server may compare them.
	folded map[string]bool
}

// foldName takes from a name what lenient servers overlook: case, white space
// around it, characters that cannot be seen, and in how many of them a letter is
// written or how wide (NFKC, UAX #15).
func foldName(name string) string {
	if !isASCII(name) {
		name = norm.NFKC.String(strings.Map(func(r rune) rune {
			if unicode.Is(unicode.Cf, r) {
				return -1
			}
			return r
		}, name))
	}
	return strings.ToLower(strings.TrimSpace(name))
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// resembles reports whether a lenient server could take a name for another one
// that is named exactly, or that a strict pattern fits: a name that is not in NFC
// passes by every pattern that is written as people write.
func (x *nameIndex) resembles(name string) bool {
	if x.exact[name] != nil {
		return false
	}
	return len(x.folded) > 0 && x.folded[foldName(name)] || !norm.NFC.IsNormalString(name)
}

type globRule struct {
	glob *glob
	rule *rule
}

func (x *nameIndex) add(pattern string, r *rule) error {
	g, name, err := parseGlob(pattern)
	if err != nil {
		return err
	}
	if g != nil {
		x.globs.add(g.prefix, g.suffix, globRule{g, r})
		return nil
	}
	addExact(&x.exact, name, r)
	if x.folded == nil {
		x.folded = map[string]bool{}
	}
	x.folded[foldName(name)] = true
	return nil
}

func addExact(exact *map[string]*plan, name string, r *rule) {
	if *exact == nil {
		*exact = map[string]*plan{}
	}
	p := (*exact)[name]
	if p == nil {
		p = &plan{}
		(*exact)[name] = p
	}
	if !slices.Contains(p.own, r) {
		p.own = append(p.own, r)
	}
}

// find returns the rules for a name in file order.
func (x *nameIndex) find(name string) []*rule {
	if p := x.exact[name]; p != nil && p.all != nil {
		return p.all
	}
	var found []*rule
	if p := x.exact[name]; p != nil {
		found = slices.Clone(p.own)
	}
	x.globs.each(name, func(c globRule) {
		if c.glob.match(name) {
			found = append(found, c.rule)
		}
	})
	return inFileOrder(found)
}

// uriIndex finds the rules for the URI of a resource.
type uriIndex struct {
	exact    map[string]*plan
	patterns index[patternRule]
	// all is every pattern by its literal beginning, sorted, for the templates
	// that a server lists.
	all []patternRule
}

type patternRule struct {
	pattern *uriPattern
	rule    *rule
}

// match is one rule that names what is called, and the URI and the values of the
// variables by which it does.
type match struct {
	rule    *rule
	pattern *uriPattern // nil for what has no variables
	values  []string
	form    int // which form of the URI, 0 for what has only one
}

func (x *uriIndex) add(text string, r *rule) error {
	written, err := parseURIPattern(text)
	if err != nil {
		return err
	}
	normal, err := written.normal()
	if err != nil {
		return err
	}
	x.put(written, r)
	if normal != written {
		x.put(normal, r)
	}
	return nil
}

func (x *uriIndex) put(p *uriPattern, r *rule) {
	x.all = append(x.all, patternRule{p, r})
	if p.exact() {
		addExact(&x.exact, p.literals[0], r)
		return
	}
	x.patterns.add(p.prefix(), p.suffix(), patternRule{p, r})
}

func (x *uriIndex) sort() {
	slices.SortStableFunc(x.all, func(a, b patternRule) int {
		return strings.Compare(a.pattern.prefix(), b.pattern.prefix())
	})
}

// find appends the rules for one form of a URI.
func (x *uriIndex) find(found []match, uri string, form int) []match {
	if p := x.exact[uri]; p != nil {
		for _, r := range p.own {
			found = append(found, match{rule: r, form: form})
		}
	}
	x.patterns.each(uri, func(c patternRule) {
		if values, ok := c.pattern.match(uri); ok {
			found = append(found, match{rule: c.rule, pattern: c.pattern, values: values, form: form})
		}
	})
	return found
}

// findTemplate returns the rules whose template a text is, the names of
// variables aside.
func (x *uriIndex) findTemplate(text string) []match {
	var found []match
	prefix, _, isTemplate := strings.Cut(text, "{")
	if !isTemplate {
		return nil
	}
	at, _ := slices.BinarySearchFunc(x.all, prefix, func(p patternRule, prefix string) int {
		return strings.Compare(p.pattern.prefix(), prefix)
	})
	for ; at < len(x.all) && x.all[at].pattern.prefix() == prefix; at++ {
		if c := x.all[at]; c.pattern.sameShape(text) && !slices.ContainsFunc(found, func(m match) bool { return m.rule == c.rule }) {
			found = append(found, match{rule: c.rule, pattern: c.pattern})
		}
	}
	return found
}

// mayOverlap reports whether some URI that begins with prefix could match a rule
// for which ok holds.
func (x *uriIndex) mayOverlap(prefix string, ok func(*rule) bool) bool {
	at, _ := slices.BinarySearchFunc(x.all, prefix, func(p patternRule, prefix string) int {
		return strings.Compare(p.pattern.prefix(), prefix)
	})
	for i := at; i < len(x.all) && strings.HasPrefix(x.all[i].pattern.prefix(), prefix); i++ {
		if ok(x.all[i].rule) {
			return true
		}
	}
	found := false
	x.patterns.byPrefix.along(prefix, func(c patternRule) { found = found || ok(c.rule) })
	for _, c := range x.patterns.bySuffix.below() {
		found = found || ok(c.rule)
	}
	return found
}
