package authorize_test

import (
	"testing"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/scope"
)

func TestView(t *testing.T) {
	p, err := authorize.New(authorize.Config{Baseline: "base", List: "granted",
		Implies: map[string]authorize.Strings{"all": {"write", "print"}},
		Rules: []authorize.Rule{
			{Tools: authorize.Strings{"write_note"}, Scopes: authorize.Strings{"base write"}},
			{Prompts: authorize.Strings{"print"}, Scopes: authorize.Strings{"base print"}},
			{Resources: authorize.Strings{"note://{id}"}, Scopes: authorize.Strings{"item:{id}"}},
		}})
	if err != nil {
		t.Fatal(err)
	}
	if !p.ListsFollowGrants() {
		t.Error("lists follow grants, and nobody is told")
	}
	view := func(scopes string) authorize.View {
		set, err := scope.Parse(scopes)
		if err != nil {
			t.Fatal(err)
		}
		return p.View(&authenticate.Identity{Scopes: set})
	}
	for _, c := range []struct {
		before, after             string
		tools, resources, prompts bool // what differs
	}{
		{"base", "base", false, false, false},
		{"base", "base other", false, false, false},
		{"base", "base write", true, false, false},
		{"base write", "base all", false, false, true},
		{"base write print", "base all", false, false, false},
		{"base", "base item:1", false, true, false},
		{"base item:1", "base item:2", false, true, false},
		{"", "base", true, true, true},
	} {
		a, b := view(c.before), view(c.after)
		if got := [3]bool{a.Tools != b.Tools, a.Resources != b.Resources, a.Prompts != b.Prompts}; got != [3]bool{c.tools, c.resources, c.prompts} {
			t.Errorf("from %q to %q: tools, resources, prompts differ: %v", c.before, c.after, got)
		}
	}
	if p.View(nil) != view("") {
		t.Error("nobody sees something else than who holds nothing")
	}
}
