package authorize

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// glob is a pattern for names, compiled.
type glob struct {
	parts []globPart
	// prefix and suffix are the literal text at its ends, by which it is found.
	prefix, suffix string
}

// globPart is one character of a pattern, or any run of them.
type globPart struct {
	kind   partKind
	char   rune
	ranges []charRange
	negate bool
}

type partKind uint8

const (
	partChar partKind = iota
	partAny           // "?"
	partSet           // "[a-z]"
	partRun           // "*"
)

type charRange struct{ from, to rune }

var (
	errGlobEscape = errors.New(`ends in "\": expected a character after it`)
	errGlobSet    = errors.New(`a "[" that is not closed: expected a set such as [a-z]`)
	errGlobEmpty  = errors.New(`an empty set: expected characters between "[" and "]"`)
	errGlobRange  = errors.New("a range from high to low: expected the lower character first")
	errNotUTF8    = errors.New("expected valid UTF-8")
)

// parseGlob compiles a pattern: "*", "?", "[a-z]", "[!a]" and "\" (Config). The
// second result is the name itself where the pattern has none of these.
func parseGlob(s string) (*glob, string, error) {
	if !utf8.ValidString(s) {
		return nil, "", errNotUTF8
	}
	if !strings.ContainsAny(s, `*?[\`) {
		return nil, s, nil
	}
	g, plain := &glob{}, true
	for rest := s; rest != ""; {
		c, size := utf8.DecodeRuneInString(rest)
		rest = rest[size:]
		part := globPart{char: c}
		switch c {
		case '*':
			part = globPart{kind: partRun}
		case '?':
			part = globPart{kind: partAny}
		case '[':
			var err error
			if part, rest, err = parseGlobSet(rest); err != nil {
				return nil, "", err
			}
		case '\\':
			if rest == "" {
				return nil, "", errGlobEscape
			}
			part.char, size = utf8.DecodeRuneInString(rest)
			rest = rest[size:]
		}
		plain = plain && part.kind == partChar
		if n := len(g.parts); part.kind != partRun || n == 0 || g.parts[n-1].kind != partRun {
			g.parts = append(g.parts, part)
		}
	}
	g.findEnds()
	if plain {
		return nil, g.prefix, nil
	}
	return g, "", nil
}

// parseGlobSet reads what follows a "[".
func parseGlobSet(rest string) (globPart, string, error) {
	part := globPart{kind: partSet}
	rest, part.negate = strings.CutPrefix(rest, "!")
	for {
		if rest == "" {
			return part, "", errGlobSet
		}
		if rest[0] == ']' {
			if len(part.ranges) == 0 {
				return part, "", errGlobEmpty
			}
			return part, rest[1:], nil
		}
		from, after, ok := setChar(rest)
		if !ok {
			return part, "", errGlobEscape
		}
		to := from
		if strings.HasPrefix(after, "-") && !strings.HasPrefix(after, "-]") && after != "-" {
			if to, after, ok = setChar(after[1:]); !ok {
				return part, "", errGlobEscape
			}
		}
		if to < from {
			return part, "", errGlobRange
		}
		part.ranges = append(part.ranges, charRange{from, to})
		rest = after
	}
}

// setChar reads one character of a set, escaped or not.
func setChar(s string) (c rune, rest string, ok bool) {
	s = strings.TrimPrefix(s, `\`)
	if s == "" {
		return 0, "", false
	}
	c, size := utf8.DecodeRuneInString(s)
	return c, s[size:], true
}

func (g *glob) findEnds() {
	var prefix, suffix strings.Builder
	first := len(g.parts)
	for i, part := range g.parts {
		if part.kind != partChar {
			first = i
			break
		}
		prefix.WriteRune(part.char)
	}
	last := len(g.parts)
	for last > first && g.parts[last-1].kind == partChar {
		last--
	}
	for _, part := range g.parts[last:] {
		suffix.WriteRune(part.char)
	}
	g.prefix, g.suffix = prefix.String(), suffix.String()
}

// match reports whether the whole of name fits. It goes back at most to the
// last "*", so its cost is bounded by the product of both lengths.
func (g *glob) match(name string) bool {
	at, i := 0, 0
	star, resume := -1, 0
	for i < len(name) {
		c, size := utf8.DecodeRuneInString(name[i:])
		switch {
		case at < len(g.parts) && g.parts[at].kind == partRun:
			star, resume = at, i
			at++
			continue
		case at < len(g.parts) && g.parts[at].fits(c):
			at++
			i += size
			continue
		case star < 0:
			return false
		}
		_, size = utf8.DecodeRuneInString(name[resume:])
		resume += size
		at, i = star+1, resume
	}
	for at < len(g.parts) && g.parts[at].kind == partRun {
		at++
	}
	return at == len(g.parts)
}

func (p *globPart) fits(c rune) bool {
	switch p.kind {
	case partChar:
		return p.char == c
	case partAny:
		return true
	case partSet:
		for _, r := range p.ranges {
			if r.from <= c && c <= r.to {
				return !p.negate
			}
		}
		return p.negate
	default:
		return false
	}
}
