// Package scope holds OAuth scopes: ordered sets of scope tokens, any-of lists
// of all-of sets, and the implication graph that says which scope covers which.
//
// It knows nothing of requests, tokens or policies, and imports only the
// standard library.
package scope

// Set is a list of scope tokens in the order they were written, without
// duplicates (RFC 6749 §3.3). The order matters only where a set is shown; two
// sets are equal when they hold the same tokens. A nil Set is the empty set.
// A Set is never changed after it was made; methods return new ones.
type Set []string

// Requirement is an any-of list of all-of sets: it is met when every scope of
// at least one of its sets is held. A nil Requirement asks for nothing and is
// always met. The order of the sets is the order of preference.
type Requirement []Set
