package authorize_test

import (
	"fmt"
	"testing"

	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/message"
)

// BenchmarkDecideKinds is the cost of a decision by the number of rules, which must
// not matter: of a tool with a rule of its own, of one that a glob matches, of a
// resource that a template matches, of a condition, and of a shortage.
func BenchmarkDecideKinds(b *testing.B) {
	calls := []struct {
		name, scopes string
		call         *message.Call
		want         authorize.Outcome
	}{
		{"exact", "notes:write", &message.Call{Method: "tools/call", Name: "tool_7"}, authorize.Allow},
		{"glob", "notes:write", &message.Call{Method: "tools/call", Name: "group_8_list"}, authorize.Allow},
		{"template", "notes:read", &message.Call{Method: "resources/read", URI: "note://shelf_6/7"}, authorize.Allow},
		{"condition", "notes:admin", &message.Call{Method: "tools/call", Name: "delete_9", Args: []byte(`{"permanent":true}`)}, authorize.Allow},
		{"challenge", "notes:read", &message.Call{Method: "tools/call", Name: "tool_7"}, authorize.Challenge},
		{"no rule", "notes:read", &message.Call{Method: "tools/call", Name: "unknown"}, authorize.Deny},
	}
	for _, n := range []int{10, 1_000, 100_000} {
		p := mustPolicy(b, manyRules(n))
		for _, tt := range calls {
			b.Run(fmt.Sprintf("%d/%s", n, tt.name), func(b *testing.B) {
				tt.call.Kind, tt.call.Era = message.Request, message.Era2026
				id := holder(tt.scopes)
				b.ReportAllocs()
				for b.Loop() {
					if d := p.Decide(id, tt.call); d.Outcome != tt.want {
						b.Fatalf("outcome %v (%v), want %v", d.Outcome, d.Err, tt.want)
					}
				}
			})
		}
	}
}

// manyRules are n rules of the kinds that real policies have.
func manyRules(n int) authorize.Config {
	c := authorize.Config{Baseline: "notes:read"}
	for i := range n {
		var r authorize.Rule
		switch i % 10 {
		case 6:
			r = authorize.Rule{Resources: authorize.Strings{fmt.Sprintf("note://shelf_%d/{id}", i)}, Scopes: authorize.Strings{"notes:read"}}
		case 8:
			r = authorize.Rule{Tools: authorize.Strings{fmt.Sprintf("group_%d_*", i)}, Scopes: authorize.Strings{"notes:write"}}
		case 9:
			r = authorize.Rule{Tools: authorize.Strings{fmt.Sprintf("delete_%d", i)}, When: "args.permanent == true", Scopes: authorize.Strings{"notes:admin"}}
		default:
			r = authorize.Rule{Tools: authorize.Strings{fmt.Sprintf("tool_%d", i)}, Scopes: authorize.Strings{"notes:write"}}
		}
		c.Rules = append(c.Rules, r)
	}
	c.Implies = map[string]authorize.Strings{"notes:admin": {"notes:write"}, "notes:write": {"notes:read"}}
	return c
}
