package stile

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/challenge"
	"github.com/stile-mcp/stile/message"
	"github.com/stile-mcp/stile/scope"
)

// codeInvalidRequest is JSON-RPC's Invalid Request.
const codeInvalidRequest = -32600

// denial is a Decision that is not Allow, on its way to the edge.
type denial struct {
	decision authorize.Decision
	// again says that a newer token still lacks what was challenged (DES-28).
	again bool
}

func (d *denial) Error() string { return "not allowed" }

// sessionError is an id that opens no session of this caller. The cause is the
// same to the outside: 404, so that the client starts anew (DES-41, REQ-24).
type sessionError struct{ cause error }

func (e *sessionError) Error() string { return "no such session" }
func (e *sessionError) Unwrap() error { return e.cause }

// auditError means that the decision could not be recorded, so it is not acted on.
type auditError struct{ cause error }

func (e *auditError) Error() string { return "audit record not written: " + e.cause.Error() }
func (e *auditError) Unwrap() error { return e.cause }

// deny turns a Decision that is not Allow into the error that ends the pipeline,
// and consults the refusal memory (DES-28).
func (x *exchange) deny(d authorize.Decision) error {
	x.decision = d
	if d.Outcome != authorize.Challenge || x.identity == nil || x.g.config.RefusalWindow < 0 {
		return &denial{decision: d}
	}
	key := keyOf(x.s.name, x.identity, x.call)
	return &denial{decision: d, again: !x.g.memory.challenge(key, x.identity, d.Missing)}
}

// refuse is the edge: the one place where what went wrong becomes an HTTP answer.
// What nobody planned for is an opaque 500 whose cause goes to the log.
func (x *exchange) refuse(err error) {
	if errors.Is(err, errAnswered) {
		return
	}
	var d *denial
	if errors.As(err, &d) && x.isFinal(d) {
		x.answerInBand(d)
		return
	}
	refusal := x.limited(x.refusalFor(err))
	refusal.RequestID = x.requestID
	if x.call != nil {
		refusal.ID = x.call.ID
	}
	if !x.recordRefusal(refusal.Status, outcomeOf(err), err) {
		refusal = x.internal()
	}
	if refusal.Status >= http.StatusInternalServerError {
		x.g.config.Log.Error("refused", "request_id", x.requestID, "server", x.s.name, "status", refusal.Status, "error", err)
	}
	x.tellChallenge(refusal)
	refusal.Write(x.w)
}

// tellChallenge tells whoever wants to know that a caller is asked for more scopes.
func (x *exchange) tellChallenge(r challenge.Refusal) {
	if r.Challenge != nil && r.Challenge.Error == "insufficient_scope" && x.identity != nil && x.call != nil && x.g.config.OnChallenge != nil {
		x.g.config.OnChallenge(x.identity, x.call, *r.Challenge)
	}
}

// refusalFor is the switch from typed errors to HTTP.
func (x *exchange) refusalFor(err error) challenge.Refusal {
	var (
		form     *formError
		who      *authenticate.Error
		what     *message.Error
		session  *sessionError
		denied   *denial
		upstream *upstreamError
	)
	switch {
	case errors.As(err, &form):
		return challenge.Refusal{Status: form.status, Code: form.status, Message: form.text, Allow: form.allow, RetryAfter: form.retry}
	case errors.As(err, &who):
		return x.refuseIdentity(who)
	case errors.As(err, &what):
		return challenge.Refusal{Status: what.Status, Code: what.Code, Message: what.Message, ID: what.ID}
	case errors.As(err, &session):
		return challenge.Refusal{Status: http.StatusNotFound, Code: http.StatusNotFound,
			Message: "no such session: start a new one with initialize"}
	case errors.As(err, &denied):
		return x.refuseCall(denied.decision)
	case errors.As(err, &upstream):
		return challenge.Refusal{Status: upstream.status, Code: upstream.status, Message: upstream.text}
	default:
		return x.internal()
	}
}

// internal is the answer to what nobody planned for.
func (x *exchange) internal() challenge.Refusal {
	r := challenge.Refusal{Status: http.StatusInternalServerError, Code: http.StatusInternalServerError,
		Message: "internal error; the request id tells the operator more", RequestID: x.requestID}
	if x.call != nil {
		r.ID = x.call.ID
	}
	return r
}

// refuseIdentity is 401, 400 or 503 (DES-15, DES-16, DES-26).
func (x *exchange) refuseIdentity(e *authenticate.Error) challenge.Refusal {
	c := x.baseChallenge()
	switch e.Kind {
	case authenticate.Missing:
		return x.withChallenge(http.StatusUnauthorized, c, "authentication required")
	case authenticate.Malformed:
		c.Error, c.Description = "invalid_request", e.Description
		return x.withChallenge(http.StatusBadRequest, c, e.Description)
	case authenticate.Invalid, authenticate.Unknown:
		c.Error, c.Description = "invalid_token", e.Description
		return x.withChallenge(http.StatusUnauthorized, c, e.Description)
	case authenticate.Unavailable:
		retry := max(e.RetryAfter, time.Second)
		return challenge.Refusal{Status: http.StatusServiceUnavailable, Code: http.StatusServiceUnavailable,
			Message: "the token cannot be checked now; try again later", RetryAfter: retry}
	default:
		return x.internal()
	}
}

// refuseCall answers a Decision that asks for a token or for more scopes.
func (x *exchange) refuseCall(d authorize.Decision) challenge.Refusal {
	switch d.Outcome {
	case authorize.Authenticate:
		return x.withChallenge(http.StatusUnauthorized, x.baseChallenge(), "authentication required")
	case authorize.Challenge:
		c := ChallengeFor(x.s.policy, x.s.metadataURL, x.identity, x.call, d)
		r := x.withChallenge(http.StatusForbidden, c, c.Description)
		prefix := x.prefix()
		r.Required = prefixed(d.Required, prefix)
		for _, alternative := range d.Alternatives {
			r.Alternatives = append(r.Alternatives, prefixed(alternative, prefix))
		}
		return r
	case authorize.Deny: // of something that has no in-band form
		return challenge.Refusal{Status: http.StatusForbidden, Code: http.StatusForbidden,
			Error: "access_denied", Message: d.Reason}
	default:
		return x.internal()
	}
}

// baseChallenge asks for what the metadata names (DES-08).
func (x *exchange) baseChallenge() challenge.Challenge {
	return challenge.Challenge{
		Scope:            prefixed(x.s.first, x.prefix()),
		ResourceMetadata: x.s.metadataURL,
	}
}

// prefix is that of the caller's issuer, or of the first one before there is a
// caller (DES-07).
func (x *exchange) prefix() string {
	switch {
	case x.identity != nil && x.identity.Profile != nil:
		return x.identity.Profile.ScopePrefix
	case len(x.s.issuers) > 0:
		return x.s.issuers[0].ScopePrefix
	default:
		return ""
	}
}

func (x *exchange) withChallenge(status int, c challenge.Challenge, text string) challenge.Refusal {
	return challenge.Refusal{Status: status, Code: status, Message: text, Challenge: &c,
		Error: c.Error, Description: c.Description, Scope: c.Scope}
}

// ChallengeFor is the challenge that a gateway sends for a Decision whose
// Outcome is authorize.Challenge. The same policy, metadata URL, identity, call
// and decision give the same bytes every time (DES-13).
func ChallengeFor(p *authorize.Policy, metadataURL string, id *authenticate.Identity, call *message.Call, d authorize.Decision) challenge.Challenge {
	ask, optional := p.Advertise(id, d)
	prefix := ""
	if id != nil && id.Profile != nil {
		prefix = id.Profile.ScopePrefix
	}
	return challenge.Challenge{
		Error:            "insufficient_scope",
		Scope:            prefixed(ask, prefix),
		Optional:         optional,
		ResourceMetadata: metadataURL,
		Description:      describe(call, prefixed(d.Missing, prefix)),
	}
}

// describe tells a person what to do.
func describe(call *message.Call, missing scope.Set) string {
	return needs(call, missing) + ". Sign in again and grant it."
}

// The longest name and list of scopes that are repeated to a person, in bytes.
const (
	maxToldName   = 200
	maxToldScopes = 1000
)

// needs says that a call needs scopes. Names that are long or have other
// characters than DES-12 allows are left out rather than the whole text.
func needs(call *message.Call, missing scope.Set) string {
	what := subject(call)
	if len(what) > maxToldName || !plain(what) {
		what = "this operation"
	}
	scopes := strings.Join(missing, " ")
	if len(scopes) > maxToldScopes || !plain(scopes) {
		scopes = "more scopes"
	}
	return what + " needs " + scopes
}

// subject is what a call acts on, for people.
func subject(call *message.Call) string {
	switch {
	case call == nil:
		return ""
	case call.Name != "":
		return call.Name
	case call.URI != "":
		return call.URI
	case call.Method != "":
		return call.Method
	default:
		return "this connection"
	}
}

// plain reports whether a text has only the characters of DES-12.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(" ._:/-", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// isFinal reports whether a denial is answered in-band: nothing the person could
// grant would help, or it was just tried (DES-21, DES-28), and the message is a
// request that can be answered.
func (x *exchange) isFinal(d *denial) bool {
	if x.call == nil || x.call.Kind != message.Request {
		return false
	}
	return d.again || d.decision.Outcome == authorize.Deny || x.inBandChallenge(d)
}

// inBandChallenge reports whether a challenge goes into the result of a tool.
func (x *exchange) inBandChallenge(d *denial) bool {
	return x.s.inBand && d.decision.Outcome == authorize.Challenge && x.call.Method == "tools/call"
}

// answerInBand answers a final denial with status 200: an error result for
// tools/call, a JSON-RPC error for anything else.
func (x *exchange) answerInBand(d *denial) {
	outcome := "deny"
	switch {
	case d.again:
		outcome = "deny_again"
	case x.inBandChallenge(d):
		outcome = "challenge"
	}
	if !x.recordRefusal(http.StatusOK, outcome, d) {
		x.internal().Write(x.w)
		return
	}
	x.inBand(d).Write(x.w)
}

// inBand is the answer to a final denial.
func (x *exchange) inBand(d *denial) challenge.InBand {
	in := challenge.InBand{ID: x.call.ID, Tool: x.call.Method == "tools/call", Modern: x.call.Era == message.Era2026,
		Text: d.decision.Reason, RequestID: x.requestID}
	switch {
	case x.inBandChallenge(d) && !d.again:
		c := ChallengeFor(x.s.policy, x.s.metadataURL, x.identity, x.call, d.decision)
		in.Challenge, in.Text = &c, c.Description
	case d.again:
		prefix := x.prefix()
		in.Text = needs(x.call, prefixed(d.decision.Missing, prefix)) +
			", which was asked for but not granted. Sign in again and grant it, or ask whoever runs the authorization server for it."
		in.Required = prefixed(d.decision.Required, prefix)
	}
	return in
}

// outcomeOf names an error for the audit record.
func outcomeOf(err error) string {
	var (
		who      *authenticate.Error
		denied   *denial
		upstream *upstreamError
		what     *message.Error
		form     *formError
		session  *sessionError
	)
	switch {
	case errors.As(err, &who):
		return "unauthenticated"
	case errors.As(err, &denied):
		return [...]string{authorize.Fail: "fail", authorize.Allow: "allow", authorize.Challenge: "challenge",
			authorize.Authenticate: "unauthenticated", authorize.Deny: "deny"}[denied.decision.Outcome]
	case errors.As(err, &upstream):
		return "upstream_error"
	case errors.As(err, &what), errors.As(err, &form):
		return "malformed"
	case errors.As(err, &session):
		return "no_session"
	default:
		return "error"
	}
}

// record writes the audit line of an allowed call. Without it there is no call.
func (x *exchange) record() error {
	elevated := ""
	if x.identity != nil && !x.g.memory.empty() {
		elevated = x.g.memory.elevated(keyOf(x.s.name, x.identity, x.call), x.identity)
	}
	err := x.g.audit.write(auditRecord{requestID: x.requestID, server: x.s.name, outcome: "allow",
		status: http.StatusOK, x: x, decision: x.decision, elevated: elevated})
	if err != nil {
		return &auditError{err}
	}
	return nil
}

// recordRefusal writes the audit line of a refusal and reports whether that
// worked. An audit log that fails has been reported once already.
func (x *exchange) recordRefusal(status int, outcome string, err error) bool {
	var broken *auditError
	if errors.As(err, &broken) {
		return true
	}
	text := ""
	if x.decision.Outcome == authorize.Fail && x.decision.Err != nil {
		text = x.decision.Err.Error()
	} else if outcome != "challenge" && outcome != "deny" {
		text = err.Error()
	}
	werr := x.g.audit.write(auditRecord{requestID: x.requestID, server: x.s.name, outcome: outcome,
		status: status, x: x, decision: x.decision, err: text})
	if werr != nil {
		x.g.config.Log.Error("audit record not written", "request_id", x.requestID, "error", werr)
	}
	return werr == nil
}
