package authorize_test

import (
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/scope"
)

// reference judges the call of a tool slowly and obviously: every choice of one
// alternative a rule is looked at.
type reference struct {
	config authorize.Config
	id     *authenticate.Identity
}

func (r *reference) has(want string) bool {
	seen := map[string]bool{}
	var reach func(from string) bool
	reach = func(from string) bool {
		if from == want {
			return true
		}
		if seen[from] {
			return false
		}
		seen[from] = true
		for left, right := range r.config.Implies {
			prefix, wild := strings.CutSuffix(left, "*")
			if left != from && (!wild || !strings.HasPrefix(from, prefix)) {
				continue
			}
			for _, next := range right {
				if reach(next) {
					return true
				}
			}
		}
		return false
	}
	for _, held := range r.id.Scopes {
		clear(seen)
		if reach(held) {
			return true
		}
	}
	return false
}

func (r *reference) lacks(set []string) (lacking []string) {
	for _, token := range scope.Of(set...) {
		if !r.has(token) {
			lacking = append(lacking, token)
		}
	}
	return lacking
}

func (r *reference) canAsk(set []string) bool {
	for _, token := range r.lacks(set) {
		if g := r.id.Profile.Grantable; len(g) > 0 && !scope.Set(g).Has(token) {
			return false
		}
	}
	return true
}

// decide returns the outcome and the fewest scopes that are missing.
func (r *reference) decide(name string) (authorize.Outcome, int) {
	ways := [][]string{strings.Fields(r.config.Baseline)}
	matched := false
	for _, rule := range r.config.Rules {
		for _, pattern := range rule.Tools {
			prefix, wild := strings.CutSuffix(pattern, "*")
			if pattern != name && (!wild || !strings.HasPrefix(name, prefix)) {
				continue
			}
			matched = true
			if rule.Deny != "" {
				return authorize.Deny, 0
			}
			var next [][]string
			for _, way := range ways {
				for _, alternative := range rule.Scopes {
					next = append(next, append(way[:len(way):len(way)], strings.Fields(alternative)...))
				}
			}
			if !rule.Anonymous {
				ways = next
			}
			break
		}
	}
	if !matched {
		return authorize.Deny, 0
	}
	fewest := -1
	for _, way := range ways {
		if n := len(r.lacks(way)); r.canAsk(way) && (fewest < 0 || n < fewest) {
			fewest = n
		}
	}
	switch {
	case fewest == 0:
		return authorize.Allow, 0
	case fewest < 0 || r.id.Final:
		return authorize.Deny, 0
	default:
		return authorize.Challenge, fewest
	}
}

var (
	someScopes = []string{"a", "b", "c", "n:r", "n:w", "n:a"}
	// Scopes imply only those after them, so that there is no circle.
	someImplications = []map[string]authorize.Strings{nil, {"n:a": {"n:w"}, "n:w": {"n:r"}}, {"a": {"b", "n:r"}, "n:*": {"x"}}, {"n:w": {"n:r", "c"}, "b": {"n:w"}}}
	someTools        = []string{"t", "t_1", "t_2", "u"}
)

func drawSet(t *rapid.T, name string, least, most int) string {
	return strings.Join(scope.Of(rapid.SliceOfN(rapid.SampledFrom(someScopes), least, most).Draw(t, name)...), " ")
}

func drawConfig(t *rapid.T) authorize.Config {
	c := authorize.Config{Baseline: drawSet(t, "baseline", 0, 2), Implies: rapid.SampledFrom(someImplications).Draw(t, "implies")}
	for i := range rapid.IntRange(0, 5).Draw(t, "rules") {
		n := strconv.Itoa(i)
		r := authorize.Rule{Tools: authorize.Strings{rapid.SampledFrom([]string{"t", "t_1", "t_*", "*", "t*"}).Draw(t, "tool"+n)}}
		switch rapid.IntRange(0, 9).Draw(t, "kind"+n) {
		case 0:
			r.Deny = "no"
		case 1:
			r.Anonymous = true
		default:
			for range rapid.IntRange(1, 3).Draw(t, "alternatives"+n) {
				r.Scopes = append(r.Scopes, drawSet(t, "scopes"+n, 1, 3))
			}
		}
		c.Rules = append(c.Rules, r)
	}
	return c
}

// TestDecideAgreesWithTheReference compares outcomes, and holds what a decision
// says of itself against what it must mean. STILE_MILLION=1 does so for a million
// policies, tokens and calls; it takes some minutes, so -timeout 0 goes with it.
func TestDecideAgreesWithTheReference(t *testing.T) {
	outcomesSeen := map[authorize.Outcome]int{}
	checks := flag.Lookup("rapid.checks")
	if os.Getenv("STILE_MILLION") != "" {
		before := checks.Value.String()
		t.Cleanup(func() { _ = checks.Value.Set(before) })
		if err := checks.Value.Set("1000000"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t)
		p, err := authorize.New(c)
		if err != nil {
			t.Fatal(err)
		}
		id := holder(drawSet(t, "held", 0, 4))
		id.Final = rapid.IntRange(0, 4).Draw(t, "final") == 0
		id.Profile.Grantable = rapid.SampledFrom([][]string{nil, nil, {"a", "b", "n:r"}, {"c", "n:w", "n:a"}}).Draw(t, "grantable")
		name := rapid.SampledFrom(someTools).Draw(t, "name")
		r := &reference{c, id}
		d := p.Decide(id, tool(name, ""))
		outcome, fewest := r.decide(name)
		if d.Outcome != outcome || (outcome == authorize.Challenge && len(d.Missing) != fewest) {
			t.Fatalf("%s, missing %q; want %s with %d missing", outcomes[d.Outcome], d.Missing, outcomes[outcome], fewest)
		}
		if got := r.lacks(d.Required); !scope.Set(got).Equal(d.Missing) {
			t.Fatalf("of %q are missing %q, not %q", d.Required, got, d.Missing)
		}
		checkCovers(t, p, c, id, name, d)
		outcomesSeen[d.Outcome]++
	})
	for outcome, name := range outcomes {
		t.Logf("%d decisions were %s", outcomesSeen[outcome], name)
	}
}

// checkCovers gives the identity what the decision asks for, whichever of the
// sets, and expects the call to be allowed then; one scope less must not do.
func checkCovers(t *rapid.T, p *authorize.Policy, c authorize.Config, id *authenticate.Identity, name string, d authorize.Decision) {
	if d.Outcome != authorize.Challenge {
		return
	}
	for _, set := range append([]scope.Set{d.Required}, d.Alternatives...) {
		more := *id
		more.Scopes = id.Scopes.Union(set)
		if again := p.Decide(&more, tool(name, "")); again.Outcome != authorize.Allow {
			t.Fatalf("with all of %q: %s, missing %q", set, outcomes[again.Outcome], again.Missing)
		}
	}
	for i, other := range d.Alternatives {
		if other.Equal(d.Required) {
			t.Fatalf("alternative %d is what is required: %q", i, other)
		}
		if len((&reference{c, id}).lacks(other)) < len(d.Missing) {
			t.Fatalf("alternative %q lacks less than %q", other, d.Required)
		}
	}
	ask, optional := p.Advertise(id, d)
	if !ask[:len(ask)-optional].Equal(d.Required) {
		t.Fatalf("%q with %d optional does not begin with %q", ask, optional, d.Required)
	}
}
