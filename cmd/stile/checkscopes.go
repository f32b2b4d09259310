package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/stile-mcp/stile/internal/problem"
)

// maxDescription is the longest sentence about a scope, in characters.
const maxDescription = 200

// checkScopes looks at what people are told of scopes. A name that no policy knows
// is most likely mistyped, and its sentence would never be shown.
func (f *File) checkScopes() problem.List {
	var list problem.List
	for _, token := range slices.Sorted(maps.Keys(f.Scopes.Descriptions)) {
		text, at := f.Scopes.Descriptions[token], join("scopes.descriptions", token)
		if !f.knowsScope(token) {
			list.Add(at, "", "expected a scope that a policy of this file names")
		}
		if strings.TrimSpace(text) == "" || utf8.RuneCountInString(text) > maxDescription || strings.ContainsFunc(text, notShown) {
			list.Add(at, text, fmt.Sprintf("expected a sentence on one line of at most %d characters", maxDescription))
		}
	}
	return list
}

// knowsScope reports whether a policy knows a scope, or may: one that could not be
// compiled has been told of already.
func (f *File) knowsScope(token string) bool {
	for _, server := range f.Servers {
		p := f.policies[server.Name]
		if p == nil || p.compiled == nil || p.compiled.Knows(token) {
			return true
		}
	}
	return len(f.Servers) == 0
}

// notShown reports what does not belong in a sentence for people: control
// characters, line ends and what changes the direction of text.
func notShown(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }
