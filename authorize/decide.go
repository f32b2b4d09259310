package authorize

import (
	"errors"
	"strings"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/message"
)

// Decide judges one call. id is nil when there is no token. It is safe for
// concurrent use. A call of a tool, prompt or resource that rules name exactly and
// without `when` or variables allocates nothing where it is allowed, as long as
// its rules leave at most maxCombinations ways to meet them.
//
// The calls that are the connection's own need the baseline alone (DES-22), as do
// event streams, ending a session and responses; rules for methods may add to any
// method. Subscribing needs what reading needs, completion what its prompt or
// template needs. A URI that is not in normal form must be allowed as it was sent
// and in normal form (DES-53).
//
// Without a token, and with a rule that is anonymous, the connection's own
// methods are allowed, and whatever only anonymous rules match.
func (p *Policy) Decide(id *authenticate.Identity, call *message.Call) Decision {
	if err := checkInput(id, call); err != nil {
		return Decision{Err: err}
	}
	if id == nil && !p.anonymous {
		return p.authenticateFirst()
	}
	return p.conclude(id, call, p.judge(id, call))
}

var (
	errNoCall    = errors.New("there is no call to judge")
	errNoProfile = errors.New("the identity has no issuer profile")
	errNoTarget  = errors.New("the call names nothing to act on")
	errReference = errors.New("the completion refers to neither a prompt nor a resource")
)

func checkInput(id *authenticate.Identity, call *message.Call) error {
	switch {
	case call == nil || call.Kind < message.Request || call.Kind > message.Close:
		return errNoCall
	case id != nil && id.Profile == nil:
		return errNoProfile
	case (call.Kind == message.Request || call.Kind == message.Notification) && call.Method == "":
		return errNoCall
	default:
		return nil
	}
}

func (p *Policy) authenticateFirst() Decision {
	return Decision{Outcome: Authenticate, Required: p.baseline, Rules: p.open.names}
}

// judge joins the rules for a call.
func (p *Policy) judge(id *authenticate.Identity, call *message.Call) *joined {
	if call.Method == "" || call.Kind == message.Response {
		return p.open
	}
	if fixed := p.fixed(call); fixed != nil {
		return fixed
	}
	q := &query{p: p, id: id, call: call}
	q.method = p.methods.find(call.Method)
	if isOwn(call.Method) {
		if len(q.method) == 0 {
			return p.open
		}
		return q.join(nil)
	}
	switch call.Method {
	case "tools/call":
		q.tool = call.Name
		return q.named(&p.tools, call.Name)
	case "prompts/get":
		return q.named(&p.prompts, call.Name)
	case "resources/subscribe", "resources/unsubscribe":
		if call.URI == "" && call.Era == message.Era2026 {
			return q.other() // 2026-07-28 has the method no more
		}
		q.method = withMethod(q.method, p.methods.find("resources/read"))
		return q.resource(call.URI)
	case "resources/read":
		return q.resource(call.URI)
	case "completion/complete":
		return q.completion()
	default:
		return q.other()
	}
}

// ownMethods are those of the connection's own that are planned.
var ownMethods = []string{"initialize", "server/discover", "ping", "logging/setLevel", "subscriptions/listen",
	"tools/list", "resources/list", "resources/templates/list", "prompts/list", "notifications/initialized",
	"notifications/cancelled", "notifications/progress", "notifications/roots/list_changed"}

// fixed is what was planned for the exact name or URI of a call, or for a method
// of the connection's own, or nil.
func (p *Policy) fixed(call *message.Call) *joined {
	var pl *plan
	switch call.Method {
	case "tools/call":
		pl = p.tools.exact[call.Name]
	case "prompts/get":
		pl = p.prompts.exact[call.Name]
	case "resources/read":
		pl = p.resources.exact[call.URI]
	}
	if pl == nil {
		return p.own[call.Method]
	}
	return pl.fixed
}

// isOwn reports whether a method is the connection's own: it needs the baseline
// only (DES-22).
func isOwn(method string) bool {
	switch method {
	case "ping", "logging/setLevel", "subscriptions/listen":
		return true
	default:
		return isOpening(method)
	}
}

// isOpening reports whether a method answers without a token too, where there are
// anonymous rules.
func isOpening(method string) bool {
	switch method {
	case "initialize", "server/discover", "tools/list", "resources/list", "resources/templates/list", "prompts/list":
		return true
	default:
		return strings.HasPrefix(method, "notifications/")
	}
}

// conclude turns what the rules ask for into a decision. A rule that denies comes
// before everything else.
func (p *Policy) conclude(id *authenticate.Identity, call *message.Call, j *joined) Decision {
	switch {
	case j.deny != nil:
		return Decision{Outcome: Deny, Rules: []string{j.deny.name}, Reason: j.deny.deny}
	case j.err != nil:
		return Decision{Rules: j.names, Err: j.err}
	case id == nil:
		if j.anonymous || (j.holding == 0 && isOpening(call.Method) && call.Kind != message.Response) {
			return Decision{Outcome: Allow, Rules: j.names}
		}
		return p.authenticateFirst()
	case j.unmatched && p.fallback == nil:
		return Decision{Outcome: Deny, Rules: []string{"default"},
			Reason: "no rule of this gateway allows " + subject(call) + ". Ask whoever runs it."}
	case j.impossible != nil:
		return Decision{Outcome: Deny, Rules: j.names,
			Reason: "the scopes of this call cannot be told: " + j.impossible.Error() + "."}
	default:
		return p.settle(id, j)
	}
}

// maxSubject is the longest name that is repeated to a person, in bytes.
const maxSubject = 100

// subject is what a call acts on, for people; a name with other characters than
// DES-12 allows is left out.
func subject(call *message.Call) string {
	what := call.Method
	if call.Name != "" {
		what = call.Name
	}
	if call.URI != "" {
		what = call.URI
	}
	if what == "" || len(what) > maxSubject {
		return "this"
	}
	for i := range len(what) {
		if c := what[i]; c == '~' || !isUnreserved(c) && !strings.ContainsRune(" :/", rune(c)) {
			return "this"
		}
	}
	return what
}
