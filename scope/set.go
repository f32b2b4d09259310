package scope

import (
	"fmt"
	"slices"
	"strings"
)

// ValidToken reports whether s is one scope token: one or more of the characters
// %x21, %x23-5B and %x5D-7E (RFC 6749 §3.3), so no space, quote or backslash and
// nothing outside printable ASCII.
func ValidToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

// Parse reads a scope string: tokens with spaces between (RFC 6749 §3.3). More
// than one space in a row and spaces at the ends are let pass, repeated tokens
// are kept once. The empty string is the empty set. The error names the token
// that is none.
func Parse(s string) (Set, error) {
	var set Set
	for token := range strings.SplitSeq(s, " ") {
		if token == "" {
			continue
		}
		if !ValidToken(token) {
			return nil, fmt.Errorf("%q is not a scope: expected printable ASCII without space, quote or backslash", token)
		}
		if !set.Has(token) {
			set = append(set, token)
		}
	}
	return set, nil
}

// Of makes a set of the tokens, in their order and each once. It does not check
// their characters.
func Of(tokens ...string) Set {
	var set Set
	for _, token := range tokens {
		if !set.Has(token) {
			set = append(set, token)
		}
	}
	return set
}

// Has reports whether token is in the set, compared as plain text.
func (s Set) Has(token string) bool { return slices.Contains(s, token) }

// Union returns the tokens of s and then those of other that s lacks. It is s
// itself when there are none.
func (s Set) Union(other Set) Set {
	union := s[:len(s):len(s)]
	for _, token := range other {
		if !union.Has(token) {
			union = append(union, token)
		}
	}
	return union
}

// Without returns the tokens of s that other lacks, in the order of s; nil when
// there are none.
func (s Set) Without(other Set) Set {
	var rest Set
	for _, token := range s {
		if !other.Has(token) {
			rest = append(rest, token)
		}
	}
	return rest
}

// Equal reports whether both hold the same tokens, in whatever order.
func (s Set) Equal(other Set) bool {
	return s.within(other) && other.within(s)
}

func (s Set) within(other Set) bool {
	for _, token := range s {
		if !other.Has(token) {
			return false
		}
	}
	return true
}

// String returns the tokens with one space between, as a scope parameter has
// them.
func (s Set) String() string { return strings.Join(s, " ") }
