// Package problem is the one shape in which a configuration mistake is told:
// where it stands, what was found there, and what was expected.
package problem

import "strings"

// Problem is one mistake in a configuration.
type Problem struct {
	// Path says where: field names joined by dots, list positions in brackets,
	// relative to the value that was checked, such as "rules[2].when".
	Path string
	// Value is what was found, as it was written. It is empty where something
	// is missing, and never holds a secret.
	Value string
	// Want says what was expected instead, as a sentence without a full stop.
	Want string
}

// Error returns the problem on one line.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Path)
	if p.Value != "" {
		b.WriteString(": ")
		b.WriteString(quote(p.Value))
	}
	b.WriteString(": ")
	b.WriteString(p.Want)
	return b.String()
}

// At returns the problem with its path put below prefix.
func (p Problem) At(prefix string) Problem {
	switch {
	case p.Path == "":
		p.Path = prefix
	case prefix == "" || strings.HasPrefix(p.Path, "["):
		p.Path = prefix + p.Path
	default:
		p.Path = prefix + "." + p.Path
	}
	return p
}

// List is every mistake found in one pass, in the order of the file.
type List []Problem

// Error returns one line a problem.
func (l List) Error() string {
	lines := make([]string, len(l))
	for i, p := range l {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Add appends a problem.
func (l *List) Add(path, value, want string) {
	*l = append(*l, Problem{Path: path, Value: value, Want: want})
}

// Err returns the list as an error, or nil when it is empty.
func (l List) Err() error {
	if len(l) == 0 {
		return nil
	}
	return l
}

// maxShown is the most bytes of a value that are repeated back.
const maxShown = 80

func quote(s string) string {
	if len(s) > maxShown {
		s = s[:maxShown] + "..."
	}
	return `"` + strings.NewReplacer("\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(s) + `"`
}
