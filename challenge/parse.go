package challenge

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The most that Parse reads: bytes over all fields, challenges, and parameters
// of one challenge.
const (
	maxFields     = 16 << 10
	maxChallenges = 32
	maxParams     = 32
)

// Param is one parameter of a parsed challenge.
type Param struct {
	// Name is lower-case: names are case-insensitive (RFC 9110 §11.2).
	Name string
	// Value has its quotes and quoted pairs undone.
	Value string
}

// Parsed is one challenge of a WWW-Authenticate field.
type Parsed struct {
	// Scheme is as it was written; compare it without regard to case.
	Scheme string
	// Token68 is the one value of schemes such as Negotiate; a challenge with it
	// has no Params.
	Token68 string
	// Params are in the order they were written, each name once.
	Params []Param
}

// Get returns the value of a parameter, and whether it is there. The name is
// lower-case.
func (p Parsed) Get(name string) (string, bool) {
	i := slices.IndexFunc(p.Params, func(q Param) bool { return q.Name == name })
	if i < 0 {
		return "", false
	}
	return p.Params[i].Value, true
}

// String returns the challenge with every value quoted, in a form that Parse
// reads back to an equal Parsed. It is for logs and tests: what Stile sends is
// written by Challenge.Header.
func (p Parsed) String() string {
	if p.Token68 != "" {
		return p.Scheme + " " + p.Token68
	}
	var b strings.Builder
	b.WriteString(p.Scheme)
	separator := " "
	for _, q := range p.Params {
		b.WriteString(separator)
		b.WriteString(q.Name)
		b.WriteString(`="`)
		for i := range len(q.Value) {
			if c := q.Value[i]; c == '"' || c == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(q.Value[i])
		}
		b.WriteByte('"')
		separator = ", "
	}
	return b.String()
}

// Find returns the first challenge of a scheme whose error parameter equals
// code; an empty code finds one without error. The scheme is compared without
// regard to case, the code with it.
func Find(parsed []Parsed, scheme, code string) (Parsed, bool) {
	for _, p := range parsed {
		if got, _ := p.Get("error"); strings.EqualFold(p.Scheme, scheme) && got == code {
			return p, true
		}
	}
	return Parsed{}, false
}

// Parse reads the values of WWW-Authenticate, one for each field line, in every
// form RFC 9110 §11.6.1 allows: several challenges in a field, token68, quoted
// strings with quoted pairs, space around "=", empty list elements, a scheme
// alone. A challenge ends with its line. A name that occurs twice in one
// challenge is an error, as is more than 16 KiB in all, more than 32 challenges,
// or more than 32 parameters in one of them. Nothing is returned with an error.
func Parse(values []string) ([]Parsed, error) {
	var parsed []Parsed
	total := 0
	for i, value := range values {
		if total += len(value); total > maxFields {
			return nil, fmt.Errorf("WWW-Authenticate has more than %d bytes", maxFields)
		}
		p := parser{s: value, parsed: parsed}
		if err := p.run(); err != nil {
			return nil, fmt.Errorf("WWW-Authenticate line %d, byte %d: %w", i+1, p.at, err)
		}
		parsed = p.parsed
	}
	return parsed, nil
}

// parser reads one field line.
type parser struct {
	s  string
	at int // the next byte to read
	// lenient reads two forms found in the wild besides: a comma straight after
	// the scheme, and values with characters that ought to be quoted.
	lenient bool
	parsed  []Parsed
	// open says that the last of parsed was begun on this line and can take
	// further parameters.
	open bool
}

// run reads list elements until the end (RFC 9110 §5.6.1: empty ones count for
// nothing). An element is a parameter of the challenge before it, or begins a
// challenge; which one, the sign after its first word tells.
func (p *parser) run() error {
	for {
		p.skipSpace()
		if p.at == len(p.s) {
			return nil
		}
		if p.take(',') {
			continue
		}
		if err := p.element(); err != nil {
			return err
		}
		p.skipSpace()
		if p.at < len(p.s) && p.s[p.at] != ',' {
			return fmt.Errorf("found %q, want a comma", p.s[p.at])
		}
	}
}

func (p *parser) element() error {
	word := p.token()
	if word == "" {
		return fmt.Errorf("found %q, want a scheme or a parameter name", p.s[p.at])
	}
	if p.isParam() {
		if !p.open {
			return fmt.Errorf("parameter %q belongs to no challenge", word)
		}
		return p.param(word)
	}
	return p.challenge(word)
}

// challenge reads on after a scheme.
func (p *parser) challenge(scheme string) error {
	if len(p.parsed) == maxChallenges {
		return fmt.Errorf("more than %d challenges", maxChallenges)
	}
	p.parsed = append(p.parsed, Parsed{Scheme: scheme})
	spaces := p.at
	p.skipSpace()
	p.open = p.at > spaces || p.lenient
	if p.at == len(p.s) || p.s[p.at] == ',' {
		return nil
	}
	if p.at == spaces {
		return fmt.Errorf("found %q, want a space after the scheme", p.s[p.at])
	}
	if value, end := p.token68(); value != "" {
		p.at, p.open = end, false
		p.parsed[len(p.parsed)-1].Token68 = value
		return nil
	}
	name := p.token()
	if name == "" || !p.isParam() {
		return fmt.Errorf("want a parameter after the scheme %q", scheme)
	}
	return p.param(name)
}

// isParam reports whether "=" follows, with space before it or without.
func (p *parser) isParam() bool {
	rest := strings.TrimLeft(p.s[p.at:], " \t")
	return strings.HasPrefix(rest, "=")
}

// param reads on after the name of a parameter.
func (p *parser) param(name string) error {
	p.skipSpace()
	p.at++ // the "=" that isParam saw
	p.skipSpace()
	value, err := p.value()
	if err != nil {
		return fmt.Errorf("parameter %q: %w", name, err)
	}
	challenge := &p.parsed[len(p.parsed)-1]
	name = strings.ToLower(name)
	if _, twice := challenge.Get(name); twice {
		return fmt.Errorf("parameter %q occurs twice", name)
	}
	if len(challenge.Params) == maxParams {
		return fmt.Errorf("more than %d parameters", maxParams)
	}
	challenge.Params = append(challenge.Params, Param{Name: name, Value: value})
	return nil
}

func (p *parser) value() (string, error) {
	if p.take('"') {
		return p.quoted()
	}
	start := p.at
	value := p.token()
	if p.lenient {
		for p.at < len(p.s) && p.s[p.at] > ' ' && p.s[p.at] < 0x7F && p.s[p.at] != ',' && p.s[p.at] != '"' {
			p.at++
		}
		value = p.s[start:p.at]
	}
	if value == "" {
		return "", errors.New("has no value")
	}
	return value, nil
}

// quoted reads on after the opening quote (RFC 9110 §5.6.4).
func (p *parser) quoted() (string, error) {
	var b strings.Builder
	for p.at < len(p.s) {
		c := p.s[p.at]
		p.at++
		switch {
		case c == '"':
			return b.String(), nil
		case c == '\\' && p.at < len(p.s):
			c = p.s[p.at]
			p.at++
		}
		if c < ' ' && c != '\t' || c == 0x7F {
			return "", fmt.Errorf("has the control character %#02x", c)
		}
		b.WriteByte(c)
	}
	return "", errors.New("has no closing quote")
}

// token68 looks for a token68 that ends the element, without moving on. "a="
// at the end of an element is one, and not a parameter without a value.
func (p *parser) token68() (value string, end int) {
	end = p.at
	for end < len(p.s) && (isAlphanumeric(rune(p.s[end])) || strings.IndexByte("-._~+/", p.s[end]) >= 0) {
		end++
	}
	if end == p.at {
		return "", end
	}
	for end < len(p.s) && p.s[end] == '=' {
		end++
	}
	rest := strings.TrimLeft(p.s[end:], " \t")
	if rest != "" && rest[0] != ',' {
		return "", end
	}
	return p.s[p.at:end], end
}

// token reads a token of RFC 9110 §5.6.2; it is empty where there is none.
func (p *parser) token() string {
	start := p.at
	for p.at < len(p.s) && (isAlphanumeric(rune(p.s[p.at])) || strings.IndexByte("!#$%&'*+-.^_`|~", p.s[p.at]) >= 0) {
		p.at++
	}
	return p.s[start:p.at]
}

func (p *parser) skipSpace() {
	for p.at < len(p.s) && (p.s[p.at] == ' ' || p.s[p.at] == '\t') {
		p.at++
	}
}

func (p *parser) take(c byte) bool {
	if p.at < len(p.s) && p.s[p.at] == c {
		p.at++
		return true
	}
	return false
}
