package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/stile-mcp/stile/internal/problem"
)

// mistake is one mistake in a file and the place to point at.
type mistake struct {
	src *source
	// line and column count from 1; the column in characters.
	line, column int
	problem.Problem
}

// mistakes is everything found in one pass, over one or more files.
type mistakes []mistake

// sort puts the mistakes of each file in the order of its lines. Files keep the
// order in which they were read.
func (m mistakes) sort() {
	order := map[*source]int{}
	for _, one := range m {
		if _, ok := order[one.src]; !ok {
			order[one.src] = len(order)
		}
	}
	slices.SortStableFunc(m, func(a, b mistake) int {
		return cmp.Or(cmp.Compare(order[a.src], order[b.src]), cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
}

// Error shows every mistake with its line and a caret, and their number.
func (m mistakes) Error() string {
	var b strings.Builder
	for _, one := range m {
		b.WriteString(one.show())
	}
	if len(m) == 1 {
		b.WriteString("1 mistake")
	} else {
		fmt.Fprintf(&b, "%d mistakes", len(m))
	}
	return b.String()
}

// show returns the mistake in three lines: what and where, the line of the file,
// and a caret under the place.
func (m mistake) show() string {
	text, column := m.src.shown(m.line, m.column)
	gutter := fmt.Sprintf("  %d | ", m.line)
	told := problem.Problem{Path: printable(shortPath(m.Path)), Value: printable(m.src.redact(m.Value)), Want: printable(m.src.redact(m.Want))}
	return fmt.Sprintf("%s:%d:%d: %s\n%s%s\n%s^\n", m.src.name, m.line, m.column,
		strings.TrimPrefix(told.Error(), ": "), gutter, text, strings.Repeat(" ", len(gutter)+column-1))
}

// shortPath is the last name of a path with the list positions after it: the
// line and column say the rest.
func shortPath(path string) string {
	return path[strings.LastIndexByte(path, '.')+1:]
}

// printable replaces what a terminal would act on instead of showing.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		default:
			return r
		}
	}, s)
}
