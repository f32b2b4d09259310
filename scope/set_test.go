package scope_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/stile-mcp/stile/scope"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want scope.Set
		bad  string // the token the error names
	}{
		{in: "", want: nil},
		{in: "   ", want: nil},
		{in: "notes:read", want: scope.Set{"notes:read"}},
		{in: "b a b", want: scope.Set{"b", "a"}},
		{in: " a   b ", want: scope.Set{"a", "b"}},
		{in: "!#[]~ https://example.com/.default", want: scope.Set{"!#[]~", "https://example.com/.default"}},
		{in: `a b"c`, bad: `"b\"c"`},
		{in: `back\slash`, bad: `"back\\slash"`},
		{in: "a\tb", bad: `"a\tb"`},
		{in: "ok caf\u00e9", bad: `"café"`},
		{in: "a\x7f", bad: `"a\x7f"`},
		{in: "a\n", bad: `"a\n"`},
	} {
		got, err := scope.Parse(tc.in)
		switch {
		case tc.bad == "" && err != nil:
			t.Errorf("Parse(%q): %v", tc.in, err)
		case tc.bad != "" && (err == nil || !strings.Contains(err.Error(), tc.bad)):
			t.Errorf("Parse(%q) = %q, %v; want an error that names %s", tc.in, got, err, tc.bad)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("Parse(%q) (-want +got)\n%s", tc.in, diff)
		}
	}
}

func TestValidTokenIsExactlyTheGrammar(t *testing.T) {
	for c := range 256 {
		want := c == 0x21 || (0x23 <= c && c <= 0x5B) || (0x5D <= c && c <= 0x7E)
		if got := scope.ValidToken(string([]byte{'a', byte(c)})); got != want {
			t.Errorf("a token with %#x: %v, want %v", c, got, want)
		}
	}
	if scope.ValidToken("") {
		t.Error("the empty string is a token")
	}
}

func TestSetOperations(t *testing.T) {
	ab, bc := scope.Of("a", "b", "a"), scope.Of("b", "c")
	for _, tc := range []struct {
		what      string
		got, want scope.Set
	}{
		{"Of", ab, scope.Set{"a", "b"}},
		{"Union", ab.Union(bc), scope.Set{"a", "b", "c"}},
		{"Union the other way", bc.Union(ab), scope.Set{"b", "c", "a"}},
		{"Union of nothing", scope.Set(nil).Union(nil), nil},
		{"Without", ab.Without(bc), scope.Set{"a"}},
		{"Without itself", ab.Without(ab), nil},
	} {
		if diff := cmp.Diff(tc.want, tc.got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tc.what, diff)
		}
	}
	if !ab.Equal(scope.Of("b", "a")) || ab.Equal(bc) || ab.Equal(scope.Of("a")) || scope.Of("a").Equal(ab) {
		t.Error("Equal does not compare as sets")
	}
	if !scope.Set(nil).Equal(scope.Set{}) {
		t.Error("an empty set differs from nil")
	}
	if got := ab.String(); got != "a b" {
		t.Errorf("String = %q", got)
	}
}

func TestUnionLeavesItsOperandsAlone(t *testing.T) {
	spare := append(make(scope.Set, 0, 8), "a")
	first, second := spare.Union(scope.Of("b")), spare.Union(scope.Of("c"))
	if first.String() != "a b" || second.String() != "a c" {
		t.Errorf("unions share memory: %q, %q", first, second)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "a", "a b a", "notes:read  notes:write", "a\"", "\x00", "é", "a\\b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		set, err := scope.Parse(s)
		if err != nil {
			if set != nil {
				t.Fatalf("Parse(%q) returned a set beside an error", s)
			}
			return
		}
		for i, token := range set {
			if !scope.ValidToken(token) || slices.Contains(set[:i], token) {
				t.Fatalf("Parse(%q) = %q", s, set)
			}
		}
		again, err := scope.Parse(set.String())
		if err != nil || !slices.Equal(again, set) {
			t.Fatalf("Parse(%q) = %q, and again %q, %v", s, set, again, err)
		}
	})
}

func TestSetLaws(t *testing.T) {
	sets := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 6),
		func(tokens []string) scope.Set { return scope.Of(tokens...) })
	rapid.Check(t, func(t *rapid.T) {
		a, b := sets.Draw(t, "a"), sets.Draw(t, "b")
		if !a.Union(b).Equal(b.Union(a)) {
			t.Fatal("Union depends on the order")
		}
		if !a.Without(b).Union(b).Equal(a.Union(b)) {
			t.Fatal("Without and Union do not fit")
		}
		for _, token := range a.Without(b) {
			if b.Has(token) || !a.Has(token) {
				t.Fatalf("Without left %q", token)
			}
		}
	})
}
