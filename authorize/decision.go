// Package authorize answers MAY IT: a Policy, compiled once and immutable, turns
// an Identity and a Call into a Decision.
package authorize

import (
	"github.com/stile-mcp/stile/scope"
)

// Outcome is what a Decision says.
type Outcome uint8

const (
	// Fail is the zero value: the policy could not be evaluated. The request is
	// refused with 500 and Decision.Err goes to the log (DES-26).
	Fail Outcome = iota
	// Allow lets the call through.
	Allow
	// Challenge refuses it, and asking for Decision.Required could help: 403
	// insufficient_scope.
	Challenge
	// Authenticate refuses it because there is no token: 401.
	Authenticate
	// Deny refuses it for good; no scope helps (DES-21): an in-band denial.
	Deny
)

// Decision is the answer of a Policy to one call. It holds no reference to the
// request. Slices are shared with the policy and must not be changed.
type Decision struct {
	Outcome Outcome
	// Required is the one alternative that is advertised, whole: the baseline
	// first, then the rules in the order of the file, without duplicates
	// (DES-03..05). Set for Allow as well, where it is what was met.
	Required scope.Set
	// Missing are those of Required that the identity lacks, counted over the
	// implication graph. Empty for Allow.
	Missing scope.Set
	// Alternatives are the other sets that would do, in file order, Required
	// left out.
	Alternatives []scope.Set
	// Rules names the rules that matched, such as "rules[2]"; "default" where
	// none did, "baseline" where only that counts, and "methods" for what
	// every identity may do.
	Rules []string
	// Reason is told to the person with Deny: the rule's own text, or ours.
	Reason string
	// Err is why it is a Fail. It never contains arguments or tokens.
	Err error
}
