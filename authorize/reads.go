package authorize

import (
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// members are the names that are read of an object, and what is read of their
// values. They are guarded: another member that only some server would take for
// one of them refuses the call (attacks.md, CVE-2026-27896).
type members struct {
	names map[string]*members
	// each is what is read of the elements of a list, or of every member.
	each *members
	// loose are names that are read somewhere below, it cannot be told where.
	loose []string
	// kinds are what it is compared with.
	kinds kinds
}

func (m *members) child(name string) *members {
	if m.names == nil {
		m.names = map[string]*members{}
	}
	if m.names[name] == nil {
		m.names[name] = &members{}
	}
	return m.names[name]
}

func (m *members) element() *members {
	if m.each == nil {
		m.each = &members{}
	}
	return m.each
}

// constant reports whether an expression reads no variable.
func constant(checked *cel.Ast) bool {
	root := ast.NavigateAST(checked.NativeRep())
	return len(ast.MatchDescendants(root, func(e ast.NavigableExpr) bool {
		return e.Kind() == ast.IdentKind && slices.Contains([]string{"args", "uri", "tool", "token"}, e.AsIdent())
	})) == 0
}

// readFrom collects what the expression reads.
func (c *condition) readFrom(a *ast.AST) {
	c.reads = &members{}
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.IdentKind:
			c.readVariable(e.AsIdent())
		case ast.SelectKind:
			c.readPath(e, e.AsSelect().FieldName())
		case ast.CallKind:
			if key, ok := constantKey(e); ok {
				c.readPath(e, key)
			}
			c.readComparison(e)
		default: // reads nothing by itself
		}
	}))
}

func (c *condition) readVariable(name string) {
	switch name {
	case "args":
		c.args = true
	case "uri":
		c.uri = true
	case "tool":
		c.tool = true
	case "token":
		c.token = true
	}
}

// readPath notes that the expression e, which selects name, is read. Where it
// starts at something other than one of our variables, such as the element in
// args.items.exists(i, i.kind == "x"), the name is guarded at any depth.
func (c *condition) readPath(e ast.Expr, name string) {
	at, root := c.locate(e)
	switch {
	case at != nil || root == "token" || root == "tool" || root == "uri":
	default:
		c.reads.loose = append(c.reads.loose, name)
	}
}

// locate walks an operand chain down to its variable and returns the place in
// args that the whole chain reads; nil when it does not start there.
func (c *condition) locate(e ast.Expr) (at *members, root string) {
	switch e.Kind() {
	case ast.IdentKind:
		if e.AsIdent() == "args" {
			return c.reads, "args"
		}
		return nil, e.AsIdent()
	case ast.SelectKind:
		s := e.AsSelect()
		at, root = c.locate(s.Operand())
		if at != nil {
			at = at.child(s.FieldName())
		}
		return at, root
	case ast.CallKind:
		return c.locateCall(e)
	default:
		return nil, ""
	}
}

func (c *condition) locateCall(e ast.Expr) (at *members, root string) {
	call := e.AsCall()
	switch call.FunctionName() {
	case operators.Index, operators.OptIndex, operators.OptSelect:
		at, root = c.locate(call.Args()[0])
	case operators.In:
		at, root = c.locate(call.Args()[1])
	default:
		return nil, ""
	}
	key, ok := constantKey(e)
	switch {
	case at == nil:
		return nil, root
	case ok:
		return at.child(key), root
	default:
		return at.element(), root
	}
}

// constantKey is the text in x["text"], x[?"text"] and "text" in x.
func constantKey(e ast.Expr) (string, bool) {
	call := e.AsCall()
	var key ast.Expr
	switch call.FunctionName() {
	case operators.Index, operators.OptIndex, operators.OptSelect:
		key = call.Args()[1]
	case operators.In:
		key = call.Args()[0]
	default:
		return "", false
	}
	if key.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok := key.AsLiteral().(types.String)
	return string(text), ok
}
