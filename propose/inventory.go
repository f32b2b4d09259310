// Package propose turns what an MCP server says of itself into scopes, rules and a
// stile.yaml to start from. It reaches no network and believes nothing: the words
// of the server are names to be written down exactly, and its hints can only ask
// for more care, never be taken for a promise.
package propose

// Inventory is what a server offers, in its own words. Nothing in it is trusted.
type Inventory struct {
	// Server and Version are what the server calls itself; both may be empty.
	Server, Version string
	Tools           []Tool
	// Resources are URIs, Templates URI templates (RFC 6570), Prompts names.
	Resources, Templates, Prompts []string
}

// Tool is a tool and the hints it gives (2026-07-28 schema, ToolAnnotations). A
// hint that is nil was not given, or was not a boolean.
type Tool struct {
	Name                                         string
	ReadOnly, Destructive, Idempotent, OpenWorld *bool
}

// Right is one of the three rights that are proposed, the weakest first.
type Right int

// The rights. Each has those before it too.
const (
	Read Right = iota
	Write
	Admin
)

// String is the end of the scope.
func (r Right) String() string { return [...]string{"read", "write", "admin"}[r] }

// right is what calling a tool needs. What was not said counts as the schema has
// it, readOnlyHint false and destructiveHint true, so that a tool that says
// nothing needs the highest right. What its name suggests does not lower it.
func (t *Tool) right() Right {
	switch {
	case said(t.ReadOnly, true):
		return Read
	case said(t.Destructive, false):
		return Write
	default:
		return Admin
	}
}

// strictest puts together the hints of two tools of one name: what one of them
// does not promise is not promised.
func strictest(a, b Tool) Tool {
	if b.right() > a.right() {
		return b
	}
	return a
}

func said(hint *bool, value bool) bool { return hint != nil && *hint == value }
