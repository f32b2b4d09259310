package authorize

import (
	"fmt"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// kinds are the JSON kinds that a condition compares a value with. CEL finds
// values of different types unequal, where servers that convert what they are
// sent, as pydantic does, take "true" or 1 for true: a rule for
// `args.permanent == true` would not hold, and the server delete for good all the
// same. So another kind refuses the call. None means any.
type kinds uint8

const (
	kindBool kinds = 1 << iota
	kindNumber
	kindText
	kindList
	kindObject
)

// kindOfValue is the kind of a decoded value; none for null, which reads as absent,
// and for what is an error wherever it is read.
func kindOfValue(value any) kinds {
	switch value.(type) {
	case bool:
		return kindBool
	case int64, float64:
		return kindNumber
	case string:
		return kindText
	case []any:
		return kindList
	case map[string]any:
		return kindObject
	default:
		return 0
	}
}

// kindsOf are the kinds that an expression written out in a condition can equal.
func kindsOf(e ast.Expr) kinds {
	switch e.Kind() {
	case ast.ListKind:
		return kindList
	case ast.MapKind:
		return kindObject
	case ast.LiteralKind:
		switch e.AsLiteral().(type) {
		case types.Bool:
			return kindBool
		case types.Int, types.Uint, types.Double:
			return kindNumber
		case types.String:
			return kindText
		}
	}
	return 0
}

// readComparison notes what an argument is compared with: x == literal, x !=
// literal, either way round, and x in [literals].
func (c *condition) readComparison(e ast.Expr) {
	call := e.AsCall()
	switch call.FunctionName() {
	case operators.Equals, operators.NotEquals:
		left, right := call.Args()[0], call.Args()[1]
		c.compared(left, kindsOf(right))
		c.compared(right, kindsOf(left))
	case operators.In:
		if list := call.Args()[1]; list.Kind() == ast.ListKind {
			var all kinds
			for _, element := range list.AsList().Elements() {
				all |= kindsOf(element)
			}
			c.compared(call.Args()[0], all)
		}
	}
}

func (c *condition) compared(e ast.Expr, with kinds) {
	if at, _ := c.locate(e); at != nil {
		at.kinds |= with
	}
}

// wrongKind is a value of another kind than a rule compares it with. It does not
// repeat the value, which is the caller's.
type wrongKind struct{ name string }

func (e *wrongKind) Error() string {
	return fmt.Sprintf("the argument %q is of another type than the condition compares it with", e.name)
}

// fits reports whether a value is of a kind that is compared. What members are
// read of must be able to have some: has() finds none in a text that a server may
// parse.
func (m *members) fits(value any) bool {
	allowed := m.kinds
	if len(m.names) > 0 || m.each != nil {
		allowed |= kindList | kindObject
	}
	kind := kindOfValue(value)
	return allowed == 0 || kind == 0 || kind&allowed != 0
}
