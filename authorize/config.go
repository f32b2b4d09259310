package authorize

import (
	"errors"

	"github.com/goccy/go-yaml/ast"
)

// Config is a policy as it is written, in the form of contract.md's `policy:`.
// The comments of its fields are the manual.
type Config struct {
	// The scopes that every request needs, separated by spaces: what the first
	// 401 and the metadata ask for. Default: none, so that any valid token may
	// connect.
	Baseline string `yaml:"baseline"`
	// Which scope covers which: a scope, or a wildcard such as "notes:*", and the
	// scopes that whoever holds it has as well. It is used for deciding only,
	// never for what is asked for. Circles are refused.
	Implies map[string]Strings `yaml:"implies"`
	// What a challenge asks for. union: everything the operation needs, and those
	// of the caller's scopes that this policy knows. minimal: only what the
	// operation needs. extended: union, and the companions of what is needed.
	// Default union.
	Challenge string `yaml:"challenge"`
	// With challenge: extended, the scopes that are asked for beside another one,
	// so that the person is not asked twice.
	Companions map[string]Strings `yaml:"companions"`
	// What holds where no rule matches: deny, or the scopes that are needed then,
	// as in a rule. Default deny.
	Default Strings `yaml:"default"`
	// What tools/list and its like leave out. show: only what no token of the
	// caller's issuer could ever be allowed. granted: everything the caller's
	// token does not allow now. Default show.
	List string `yaml:"list"`
	// Scopes such as openid or profile that are asked for again where the caller
	// holds them, although no rule needs them. Default none.
	CarryScopes Strings `yaml:"carry_scopes"`
	// Write into every tool of tools/list which scopes it needs, which ChatGPT
	// wants. Default true.
	SecuritySchemes *bool `yaml:"security_schemes"`
	// Who may do what. Every rule that matches must hold; the order matters only
	// for which scopes are asked for first.
	Rules []Rule `yaml:"rules"`

	// Tools returns the annotations of a tool and whether the tool is known; the
	// map is only read. It is called concurrently, and only for policies whose
	// conditions read `tool`. Nil: no tool is known.
	Tools func(name string) (annotations map[string]any, known bool) `yaml:"-"`
	// ScopePrefix is put before the scopes shown in tools/list to a caller
	// without a token; the issuer's own prefix is used for everyone else (DES-07).
	ScopePrefix string `yaml:"-"`
}

// Rule is one rule of a policy.
type Rule struct {
	// Names of tools, exact or globs: "*" for any run of characters, "?" for one,
	// [a-z] and [!a] for one of a set, "\" before a character to take it as it
	// is. A name without these is compared exactly.
	Tools Strings `yaml:"tools"`
	// URIs of resources: exact, with "*" for any run of characters, or a template
	// such as "note://{id}", in which a variable stands for one or more letters,
	// digits, "-", ".", "_", "~" and percent-encoded characters. Subscribing and
	// completion need what reading needs.
	Resources Strings `yaml:"resources"`
	// Names of prompts, as for tools.
	Prompts Strings `yaml:"prompts"`
	// JSON-RPC methods, as for tools. Such a rule adds to what a call needs; it
	// does not by itself allow a tool, resource or prompt.
	Methods Strings `yaml:"methods"`
	// A condition in CEL over args (the arguments), uri, tool (the annotations of
	// the tool) and token (the claims, and scopes, sub, iss and client_id). An
	// argument that was not sent is null. A condition that cannot be evaluated
	// refuses the call. Default: the rule always holds.
	When string `yaml:"when"`
	// The scopes that are needed: one text for all of them, or a list of such
	// texts of which any one is enough, the preferred one first. "{id}" stands
	// for a variable of the resource template or for an argument.
	Scopes Strings `yaml:"scopes"`
	// Allow without a token. Default false.
	Anonymous bool `yaml:"anonymous"`
	// Refuse for good, with this text for the person. Default: not refused.
	Deny string `yaml:"deny"`
}

// Strings is one text or a list of texts: in YAML "a" and [a] are the same.
type Strings []string

var (
	errTextOrList = errors.New("expected a text or a list of texts")
	errAlias      = errors.New("expected a text or a list of texts, not an alias")
)

// UnmarshalYAML reads a scalar or a list of scalars; numbers and booleans are
// taken as they are written.
func (s *Strings) UnmarshalYAML(node ast.Node) error {
	if list, ok := node.(*ast.SequenceNode); ok {
		all := make(Strings, 0, len(list.Values))
		for _, item := range list.Values {
			text, err := scalar(item)
			if err != nil {
				return err
			}
			all = append(all, text)
		}
		*s = all
		return nil
	}
	text, err := scalar(node)
	if err != nil {
		return err
	}
	*s = Strings{text}
	return nil
}

func scalar(node ast.Node) (string, error) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.AnchorNode:
		return scalar(n.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, nil
	case *ast.AliasNode:
		return "", errAlias
	default:
		return "", errTextOrList
	}
}
