package authorize

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
)

// query is one call, or one entry of a list, on its way through the rules that
// depend on it.
type query struct {
	p    *Policy
	id   *authenticate.Identity
	call *message.Call
	mode mode

	method []*rule  // those for the method, which hold beside the others
	tool   string   // the tool that is called or listed
	forms  []string // of the URI: as it was sent and, where they differ, normal and loose
	extra  int      // how many of the last forms only add to what is needed

	args    map[string]any
	argsErr error
	decoded bool
	isUI    bool
}

// mode says what is known of the call.
type mode uint8

const (
	asCall       mode = iota
	asCompletion      // the arguments and the URI are still being written
	asList            // there is no call yet
)

// named judges what has a name.
func (q *query) named(x *nameIndex, name string) *joined {
	if name == "" {
		return &joined{err: errNoTarget}
	}
	if x.resembles(name) {
		return &joined{deny: misspelt}
	}
	rules := x.find(name)
	matches := make([]match, len(rules))
	for i, r := range rules {
		matches[i].rule = r
	}
	q.forms = oneForm
	return q.join(matches)
}

// misspelt refuses names that a lenient server could take for one that a rule
// names exactly, and that a pattern may let through. It does not say which.
var misspelt = &rule{name: "default", deny: "no rule of this gateway allows this. Ask whoever runs it."}

// oneForm stands for what is no URI.
var oneForm = []string{""}

// hidden refuses URIs that servers would resolve in different ways.
var hidden = &rule{name: "default", deny: "the URI hides dot segments, so that it cannot be told which resource it means"}

// resource judges the resource with a URI, as it was sent and in normal form. What
// a careless server would make of it needs no rule to allow it, but the rules for
// that hold as well.
func (q *query) resource(uri string) *joined {
	if uri == "" {
		return &joined{err: errNoTarget}
	}
	if hidesDots(uri) {
		return &joined{deny: hidden}
	}
	q.forms = []string{uri}
	normal := normalURI(uri)
	if normal != uri {
		q.forms = append(q.forms, normal)
	}
	for _, careless := range carelessURIs(normal) {
		q.forms = append(q.forms, careless)
		q.extra++
	}
	var matches []match
	for form, text := range q.forms {
		matches = q.p.resources.find(matches, text, form)
	}
	q.isUI = isUI(normal)
	return q.join(matches)
}

// isUI reports whether a URI in normal form is of an MCP Apps page, which is read
// with the baseline alone (DES-22).
func isUI(normal string) bool { return strings.HasPrefix(normal, "ui://") }

// completion judges completion/complete by the prompt or resource it refers to.
func (q *query) completion() *joined {
	q.mode = asCompletion
	switch q.call.RefType {
	case "ref/prompt":
		q.method = withMethod(q.method, q.p.methods.find("prompts/get"))
		return q.named(&q.p.prompts, q.call.Name)
	case "ref/resource":
		q.method = withMethod(q.method, q.p.methods.find("resources/read"))
		return q.template(q.call.Name)
	default:
		return &joined{err: errReference}
	}
}

// template judges a URI template by the rules that have it, or else as a URI.
func (q *query) template(text string) *joined {
	if matches := q.p.resources.findTemplate(text); len(matches) > 0 {
		q.forms = oneForm
		return q.join(matches)
	}
	return q.resource(text)
}

// other judges a method of no known target: only rules for methods can allow it.
func (q *query) other() *joined {
	matches := make([]match, len(q.method))
	for i, r := range q.method {
		matches[i].rule = r
	}
	q.method, q.forms = nil, oneForm
	return q.join(matches)
}

// join evaluates the rules in file order and joins those that hold, and the
// default for a form of the call that none matches.
func (q *query) join(matches []match) *joined {
	for _, r := range q.method {
		matches = append(matches, match{rule: r, form: -1})
	}
	slices.SortStableFunc(matches, func(a, b match) int { return cmp.Compare(a.rule.index, b.rule.index) })
	j := q.p.start()
	matched := make([]bool, len(q.forms))
	var last *rule
	for i := range matches {
		m := &matches[i]
		if q.isUI && m.form >= 0 && m.rule.deny == "" && !m.rule.anonymous {
			continue
		}
		if !q.apply(j, m, last) {
			continue
		}
		last = m.rule
		if m.form >= 0 {
			matched[m.form] = true
		}
	}
	if slices.Contains(matched[:len(matched)-q.extra], false) {
		// What lets some form in without a token, or only the method, lets in
		// nobody.
		j.anonymous = false
		j.unmatched = !q.isUI
	}
	if j.unmatched && q.p.fallback != nil && q.mode != asList {
		j.take(q.p.fallback, q.p.fallback.sets)
	}
	j.finish(q.p)
	return j
}

// apply evaluates one rule and adds it to j when it counts. last is the rule that
// counted before it.
func (q *query) apply(j *joined, m *match, last *rule) bool {
	r := m.rule
	switch holds, err := q.holds(m); {
	case err != nil:
		if j.err == nil {
			j.err = fmt.Errorf("%s: %w", r.name, err)
		}
		return true
	case holds == no:
		return false
	case holds == maybe && q.mode == asList:
		j.undecided = append(j.undecided, r)
		return false
	case holds == maybe && (q.mode == asCall || r.anonymous):
		// Nobody is let in by a condition that cannot be told; of a completion
		// such a rule is as if it did not match.
		j.anonymous = false
		if q.mode != asCall {
			return false
		}
		j.holding++
		return true
	}
	n, err := q.fill(m)
	switch {
	case err != nil && isLookalike(err):
		j.err = fmt.Errorf("%s: %w", r.name, err)
		return true
	case err != nil && j.impossible == nil:
		j.impossible = err
	}
	if last == r && j.repeats(n.options) {
		return true
	}
	j.take(r, n.options)
	if len(n.options) > 0 || n.open {
		j.amend(n)
	}
	return true
}

// repeats reports whether the last need asks for the same options.
func (j *joined) repeats(options []scope.Set) bool {
	if len(options) == 0 {
		return true
	}
	if len(j.needs) == 0 {
		return false
	}
	return slices.EqualFunc(j.needs[len(j.needs)-1].options, options, slices.Equal[scope.Set])
}

// amend notes, for lists, what was left out of the need that was just taken.
func (j *joined) amend(n need) {
	if len(n.options) == 0 {
		j.needs = append(j.needs, n)
		return
	}
	last := &j.needs[len(j.needs)-1]
	last.open, last.held = n.open, n.held
}

// tri is what can be told of a condition.
type tri uint8

const (
	no tri = iota
	yes
	maybe
)

// holds evaluates the condition of a rule. Before that it refuses arguments that
// another reader could take for those the condition reads.
func (q *query) holds(m *match) (tri, error) {
	w := m.rule.when
	if w == nil {
		return yes, nil
	}
	if q.undecidable(w, m) {
		return maybe, nil
	}
	if w.args {
		args, err := q.arguments()
		if err == nil {
			err = w.reads.check(args)
		}
		if err != nil {
			return no, err
		}
	}
	forms := q.forms
	if m.form >= 0 && len(forms) > 1 {
		forms = forms[m.form : m.form+1]
	}
	if len(forms) == 0 {
		forms = oneForm
	}
	return q.evaluate(w, forms)
}

// undecidable reports whether a condition reads what is not known.
func (q *query) undecidable(w *condition, m *match) bool {
	switch {
	case w.token && q.id == nil:
		return true
	case q.mode == asCompletion:
		return w.args || w.uri
	case q.mode == asList:
		return w.args || (w.uri && m.pattern != nil && m.values == nil && len(m.pattern.vars) > 0)
	default:
		return false
	}
}

// evaluate evaluates a condition for each form of the URI; it holds when it does
// for one of them.
func (q *query) evaluate(w *condition, forms []string) (tri, error) {
	result := no
	for _, form := range forms {
		holds, err := w.holds(&facts{uri: form, args: q.argsValue, tool: q.toolValue, token: q.tokenValue})
		switch {
		case err != nil && q.mode == asList:
			return maybe, nil
		case err != nil:
			return no, err
		case holds:
			result = yes
		}
	}
	return result, nil
}

// arguments are the arguments of the call, decoded once. Methods that have none
// of that name are judged by their params.
func (q *query) arguments() (map[string]any, error) {
	if !q.decoded {
		raw := q.call.Args
		switch q.call.Method {
		case "tools/call", "prompts/get":
		case "resources/read", "resources/subscribe", "resources/unsubscribe", "completion/complete":
			raw = nil
		default:
			raw = q.call.Params
		}
		q.args, q.argsErr = decodeObject(bytes.TrimSpace(raw))
		q.decoded = true
	}
	return q.args, q.argsErr
}

func (q *query) argsValue() ref.Val {
	args, err := q.arguments()
	if err != nil {
		return types.WrapErr(err)
	}
	return newObject(args, absentIsNull)
}

func (q *query) toolValue() ref.Val {
	if q.tool == "" {
		return types.NewErr("no tool is called")
	}
	if q.p.annotations != nil {
		if annotations, known := q.p.annotations(q.tool); known {
			return newAnnotations(annotations)
		}
	}
	return types.NewErr("the annotations of the tool are not known")
}

// tokenValue is the `token` of conditions: the claims as far as the verifier kept
// them, and what every identity has.
func (q *query) tokenValue() ref.Val {
	claims := map[string]any{}
	if q.id.Claims != nil {
		var err error
		if claims, err = decodeObject(q.id.Claims); err != nil {
			return types.NewErr("the claims of the token are not a JSON object")
		}
	}
	scopes := make([]any, len(q.id.Scopes))
	for i, token := range q.id.Scopes {
		scopes[i] = token
	}
	claims["scopes"], claims["sub"], claims["iss"], claims["client_id"] = scopes, q.id.Subject, q.id.Issuer, q.id.ClientID
	return asValue(claims)
}
