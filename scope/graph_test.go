package scope_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/stile-mcp/stile/scope"
)

func mustGraph(t testing.TB, implies map[string][]string) *scope.Graph {
	t.Helper()
	g, err := scope.NewGraph(implies)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestSatisfies(t *testing.T) {
	g := mustGraph(t, map[string][]string{
		"admin":     {"write", "audit"},
		"write":     {"read"},
		"notes:*":   {"notes:any", "base"},
		"notes:own": {"tags"},
		"root":      {"notes:own"},
	})
	for _, tc := range []struct {
		held, want string
		ok         bool
	}{
		{"read", "read", true},
		{"write", "read", true},
		{"admin", "read", true},
		{"admin", "audit", true},
		{"read", "write", false},
		{"audit", "read", false},
		{"", "read", false},
		{"x y admin", "read", true},
		{"notes:whatever", "base", true},
		{"notes:*", "base", true},
		{"notes:", "base", true},
		{"notes", "base", false},
		{"Notes:x", "base", false},
		{"root", "base", true}, // root implies notes:own, which the wildcard covers
		{"root", "notes:any", true},
		{"notes:any", "notes:own", false},
		{"unknown", "unknown", true},
		{"admin", "unknown", false},
	} {
		held, err := scope.Parse(tc.held)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Satisfies(held, tc.want); got != tc.ok {
			t.Errorf("{%s} satisfies %s: %v, want %v", tc.held, tc.want, got, tc.ok)
		}
	}
}

func TestNilGraphIsEquality(t *testing.T) {
	var g *scope.Graph
	if !g.Satisfies(scope.Of("a"), "a") || g.Satisfies(scope.Of("a"), "b") {
		t.Error("a nil graph does not compare for equality")
	}
	if diff := cmp.Diff(scope.Of("b"), g.Missing(scope.Of("a"), scope.Of("a", "b"))); diff != "" {
		t.Error(diff)
	}
}

func TestMissingKeepsTheOrderOfWhatIsWanted(t *testing.T) {
	g := mustGraph(t, map[string][]string{"write": {"read"}})
	got := g.Missing(scope.Of("write"), scope.Of("z", "read", "a", "write"))
	if diff := cmp.Diff(scope.Of("z", "a"), got); diff != "" {
		t.Error(diff)
	}
	if got := g.Missing(scope.Of("write"), scope.Of("read")); got != nil {
		t.Errorf("Missing = %q, want nil", got)
	}
}

func TestNewGraphRefuses(t *testing.T) {
	for _, tc := range []struct {
		name    string
		implies map[string][]string
		says    string
	}{
		{"self", map[string][]string{"a": {"a"}}, "a implies a"},
		{"two", map[string][]string{"a": {"b"}, "b": {"a"}}, "a implies b implies a"},
		{"behind a tail", map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}}, "b implies c implies d implies b"},
		{"through a wildcard", map[string][]string{"n:*": {"x"}, "x": {"n:a"}}, "n:a implies x implies n:a"},
		{"two of one wildcard", map[string][]string{"n:*": {"n:a", "n:b"}}, "n:a implies n:b implies n:a"},
		{"everything", map[string][]string{"*": {"a"}, "a": {"b"}}, "a implies b implies a"},
		{"bad left", map[string][]string{"a b": {"c"}}, `"a b" is not a scope`},
		{"empty left", map[string][]string{"": {"c"}}, `"" is not a scope`},
		{"bad right", map[string][]string{"a": {`c"`}}, `"c\"", implied by "a"`},
		{"wildcard on the right", map[string][]string{"a": {"c:*"}}, `"c:*", implied by "a"`},
		{"wildcard in the middle", map[string][]string{"a*b": {"c"}}, `"a*b" is not a scope`},
	} {
		_, err := scope.NewGraph(tc.implies)
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.says)
		}
	}
}

func TestWildcardMayMatchItsOwnRightSide(t *testing.T) {
	g := mustGraph(t, map[string][]string{"notes:*": {"notes:read"}})
	if !g.Satisfies(scope.Of("notes:write"), "notes:read") || g.Satisfies(scope.Of("notes:read"), "notes:write") {
		t.Error("notes:* does not imply notes:read alone")
	}
}

func TestDecidingAllocatesNothing(t *testing.T) {
	g := mustGraph(t, map[string][]string{"admin": {"write"}, "write": {"read"}, "n:*": {"base"}})
	held, want := scope.Of("x", "admin", "n:1"), scope.Of("read", "write", "base", "x")
	if n := testing.AllocsPerRun(100, func() {
		if g.Missing(held, want) != nil {
			t.Fatal("missing")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestGraphAgreesWithWalking compares the tables with following the edges one
// by one.
func TestGraphAgreesWithWalking(t *testing.T) {
	names := []string{"a", "a:b", "a:c", "b", "b:c", "c"}
	lefts := append([]string{"a:*", "b*"}, names...)
	rapid.Check(t, func(t *rapid.T) {
		implies := rapid.MapOfN(rapid.SampledFrom(lefts), rapid.SliceOfN(rapid.SampledFrom(names), 1, 2), 0, 4).Draw(t, "implies")
		g, err := scope.NewGraph(implies)
		reach := func(from string) map[string]bool { return walk(implies, from) }
		if err != nil {
			for _, n := range names {
				for next := range step(implies, n) {
					if reach(next)[n] {
						return
					}
				}
				if _, self := implies[n]; self && scope.Set(implies[n]).Has(n) {
					return
				}
			}
			t.Fatalf("refused without a cycle: %v", err)
		}
		for _, from := range append(names, "a:new", "bnew") {
			for _, to := range names {
				if got, want := g.Satisfies(scope.Of(from), to), reach(from)[to]; got != want {
					t.Fatalf("%s satisfies %s: %v, want %v", from, to, got, want)
				}
			}
		}
	})
}

func step(implies map[string][]string, from string) map[string]bool {
	next := map[string]bool{}
	for left, right := range implies {
		prefix, wild := strings.CutSuffix(left, "*")
		if left != from && (!wild || !strings.HasPrefix(from, prefix)) {
			continue
		}
		for _, r := range right {
			if !wild || r != from {
				next[r] = true
			}
		}
	}
	return next
}

func walk(implies map[string][]string, from string) map[string]bool {
	reached := map[string]bool{from: true}
	for todo := []string{from}; len(todo) > 0; todo = todo[1:] {
		for next := range step(implies, todo[0]) {
			if !reached[next] {
				reached[next] = true
				todo = append(todo, next)
			}
		}
	}
	return reached
}
