package doctor

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/stile-mcp/stile/scope"
)

// stepUp sends the operation that the person named, twice: a client gets over the
// same wall only if it stands still (DES-13). Then, where there is a login, it gets
// over it.
func (v *visit) stepUp() {
	if v.options.Call == nil {
		v.notTried("The step-up. Name an operation that the token may not use yet: --call TOOL, and --args with its arguments. It is really called.")
		return
	}
	if v.report.Has("token-refused") {
		return
	}
	a, err := v.callRefused()
	if err != nil {
		v.find("step-up-none", err.Error())
		return
	}
	v.report.StepUp = &StepUpSeen{Operation: v.options.Call.Method + " " + v.options.Call.Target, Outcome: "not refused"}
	if a.status != http.StatusForbidden && a.status != http.StatusUnauthorized {
		v.judgeInBand(a)
		return
	}
	v.refusal = v.judgeStepUpChallenge(a)
	v.report.StepUp.Challenge = clean(v.refusal.header(), 1000)
	v.report.StepUp.Outcome = "challenged"
	if held := v.dropped(); len(held) > 0 {
		v.find("step-up-drops-held", "held "+strings.Join(v.held, " ")+", asked for "+v.refusal.get("scope"))
	}
	if at, told := v.refusal.get("resource_metadata"), v.wall.get("resource_metadata"); at != "" && told != "" && at != told {
		v.find("step-up-metadata-differs", at+" and "+told)
	}
	again, err := v.callRefused()
	if err == nil && !slices.Equal(again.header.Values("WWW-Authenticate"), v.refusal.values) {
		v.find("challenge-unstable", v.refusal.header()+" / "+strings.Join(again.header.Values("WWW-Authenticate"), " | "))
	}
	v.getOver()
}

// dropped are the held scopes that a client would lose that asks for exactly what
// the challenge says (class O).
func (v *visit) dropped() []string {
	asked := v.refusal.scopes()
	if len(asked) == 0 {
		return nil // there is another finding for that
	}
	return slices.DeleteFunc(slices.Clone(v.held), func(s string) bool {
		return slices.Contains(asked, s) || s == "offline_access" || s == "openid"
	})
}

// refusedInside reports whether the answer is an error that speaks of scopes, or of one
// that the challenge named.
func (v *visit) refusedInside(a answer) bool {
	m := a.rpc()
	if m == nil || m.Error == nil && !strings.Contains(string(m.Result), `"isError":true`) {
		return false
	}
	names := func(word string) bool { return strings.Contains(string(a.body), word) }
	return names("scope") || slices.ContainsFunc(v.refusal.scopes(), names)
}

// judgeInBand looks at an operation that was not refused with a status.
func (v *visit) judgeInBand(a answer) {
	if v.refusedInside(a) {
		v.report.StepUp.Outcome = "refused inside the answer"
		v.find("step-up-in-band", a.told()+": "+string(a.body))
		return
	}
	v.find("step-up-none", a.told())
}

// way is how the server is spoken to: in a session of the 2025 revisions, or as
// 2026-07-28 has it.
type way struct {
	modern  bool
	session string
}

// open opens a session with a token, or finds that there are none.
func (v *visit) open(credentials http.Header) (way, error) {
	a, err := v.post(initialize(), credentials)
	if err != nil || !a.ok() {
		return way{modern: true}, err
	}
	w := way{session: a.header.Get("Mcp-Session-Id")}
	v.sayInitialized(legacy(w.session, credentials))
	return w, nil
}

// sayInitialized ends the opening of a session, before which servers answer little.
func (v *visit) sayInitialized(h http.Header) {
	_, _ = v.ask(http.MethodPost, joined(jsonHeaders(), h), []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`))
}

// leave ends the session.
func (v *visit) leave(w way, credentials http.Header) {
	if w.session != "" {
		_, _ = v.ask(http.MethodDelete, legacy(w.session, credentials), nil)
	}
}

// operation is what the person named, as a message with its headers.
func (v *visit) operation(w way) (rpcRequest, http.Header) {
	c := v.options.Call
	params := map[string]any{}
	switch c.Method {
	case "resources/read":
		params["uri"] = c.Target
	default:
		params["name"] = c.Target
	}
	if c.Args != nil {
		params["arguments"] = c.Args
	}
	if w.modern {
		m := modern(c.Method, params)
		m.Name = c.Target
		return m, m.headers()
	}
	return rpcRequest{Method: c.Method, Params: params}, legacy(w.session, nil)
}

// callRefused sends the operation with the token that may not use it.
func (v *visit) callRefused() (answer, error) { return v.callWith(v.credentials()) }

func (v *visit) callWith(credentials http.Header) (answer, error) {
	w, err := v.open(credentials)
	if err != nil {
		return answer{}, err
	}
	defer v.leave(w, credentials)
	m, h := v.operation(w)
	return v.post(m, h, credentials)
}

// getOver steps up as a client of class U does: it asks for what is held and what is
// missing, and sends the operation again in the same session.
func (v *visit) getOver() {
	if v.visitor == nil {
		return
	}
	v.tryRefresh()
	if v.refusal.broken != "" || len(v.refusal.scopes()) == 0 || v.refusal.status != http.StatusForbidden || v.refusal.get("error") != "insufficient_scope" {
		v.report.StepUp.Outcome = "challenged, in a way that no client can follow"
		return
	}
	old := v.credentials()
	w, err := v.open(old)
	if err != nil {
		return
	}
	client, err := v.client()
	if err != nil {
		return
	}
	a, err := v.callThrough(client, w)
	if err != nil {
		v.report.StepUp.Outcome = "the second login failed"
		v.find("step-up-login-failed", loginError(err))
		return
	}
	v.options.Token = v.visitor.login.AccessToken
	v.report.StepUp.Granted = v.visitor.login.Scopes
	v.judgeRetry(w, a)
	v.leave(w, v.credentials())
}

// callThrough sends the operation by a client that steps up, and reads what that has
// brought.
func (v *visit) callThrough(client *http.Client, w way) (answer, error) {
	m, h := v.operation(w)
	_, before := v.visitor.person.last()
	a, err := v.through(client, m, h)
	if r, times := v.visitor.person.last(); times > before {
		v.report.StepUp.Asked = r.Scopes
	}
	if err != nil {
		return a, err
	}
	return a, v.loadLogin()
}

// tryRefresh does first what clients of class R do first.
func (v *visit) tryRefresh() {
	if v.visitor.login.RefreshToken == "" {
		v.refreshed = "none"
		return
	}
	token, err := v.refresh()
	switch {
	case err != nil:
	case token == "":
		v.refreshed = "refused"
	default:
		a, err := v.callWith(http.Header{"Authorization": {"Bearer " + token}})
		if err == nil && (a.status == http.StatusForbidden || v.refusedInside(a)) { // Stile tells a newer token inside (DES-28)
			v.refreshed = "same"
			v.find("refresh-trap", "a refresh gave a token that is refused as well: "+a.told())
		}
		v.options.Token = token // the old one may have ended
	}
}

// judgeRetry looks at what the operation came to after the step-up.
func (v *visit) judgeRetry(w way, a answer) {
	if a.status == http.StatusNotFound && w.session != "" {
		v.find("step-up-session-lost", a.told()+" in the session of before")
		if again, err := v.callWith(v.credentials()); err == nil {
			a = again
		}
	}
	if a.status/100 != 2 || v.refusedInside(a) {
		v.report.StepUp.Outcome = "refused again"
		v.find("step-up-failed", a.told()+"; asked for "+cmp.Or(strings.Join(v.report.StepUp.Asked, " "), "nothing")+", granted "+list(v.visitor.login.Scopes))
		return
	}
	v.report.StepUp.Outcome = "succeeded"
	got := v.visitor.login.Scopes
	if c, ok := readToken(v.options.Token); ok && len(c.scopes()) > 0 {
		got = c.scopes()
	}
	if lost := scope.Set(v.held).Without(got); got != nil && len(lost) > 0 {
		v.find("step-up-lost", "held "+strings.Join(v.held, " ")+", then "+strings.Join(got, " "))
	}
}
