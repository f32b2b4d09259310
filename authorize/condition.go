package authorize

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// condition is the `when` of a rule, compiled.
type condition struct {
	program cel.Program
	// What it reads decides what can be told before a call is made.
	args, uri, tool, token bool
	reads                  *members // of args
}

const (
	// maxCondition is the longest condition, in characters.
	maxCondition = 4096
	// conditionCost is the most that one evaluation may cost, in CEL's units: a
	// few for an ordinary condition, and more with each element it walks over.
	conditionCost = 1_000_000
)

// celEnv is the language conditions are written in. Building it is slow, and it
// does not change.
var celEnv = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("args", cel.DynType),
		cel.Variable("uri", cel.StringType),
		cel.Variable("tool", cel.DynType),
		cel.Variable("token", cel.DynType),
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(maxCondition),
		cel.ExpressionNestingDepthLimit(64),
	)
})

// compileCondition compiles a condition. The error is one line in CEL's words.
func compileCondition(text string) (*condition, error) {
	env, err := celEnv()
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, errors.New(firstIssue(issues))
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("it is of type %s: expected a condition that is true or false", t)
	}
	if constant(checked) {
		return nil, errors.New("it reads nothing: expected a condition over args, uri, tool or token")
	}
	program, err := env.Program(checked, cel.CostLimit(conditionCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("CEL: %w", err)
	}
	c := &condition{program: program}
	c.readFrom(checked.NativeRep())
	return c, nil
}

// firstIssue is CEL's first complaint and its place.
func firstIssue(issues *cel.Issues) string {
	all := issues.Errors()
	if len(all) == 0 {
		return "CEL: " + issues.Err().Error()
	}
	message, _, _ := strings.Cut(all[0].Message, "\n")
	return fmt.Sprintf("CEL, column %d: %s", all[0].Location.Column()+1, message)
}

// facts are what a condition is evaluated over. What a condition does not read
// is never made.
type facts struct {
	args  func() ref.Val
	uri   string
	tool  func() ref.Val
	token func() ref.Val
}

// ResolveName implements cel.Activation.
func (f *facts) ResolveName(name string) (any, bool) {
	switch name {
	case "args":
		return f.args(), true
	case "uri":
		return types.String(f.uri), true
	case "tool":
		return f.tool(), true
	case "token":
		return f.token(), true
	default:
		return nil, false
	}
}

// Parent implements cel.Activation.
func (f *facts) Parent() cel.Activation { return nil }

// errNotBool is a condition whose value only turned out when it was evaluated.
var errNotBool = errors.New("the condition is neither true nor false")

// holds evaluates the condition. The error never contains values.
func (c *condition) holds(f *facts) (bool, error) {
	value, _, err := c.program.Eval(f)
	if err != nil {
		return false, err
	}
	b, ok := value.(types.Bool)
	if !ok {
		return false, errNotBool
	}
	return bool(b), nil
}
