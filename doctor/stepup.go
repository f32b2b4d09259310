package doctor

import (
	"net/http"
	"slices"
	"strings"
)

// stepUp sends the operation that the person named, twice: a client gets over the
// same wall only if it stands still (DES-13).
func (v *visit) stepUp() {
	if v.options.Call == nil || v.report.Has("token-refused") {
		return
	}
	a, err := v.callOnce()
	if err != nil {
		v.find("step-up-none", err.Error())
		return
	}
	if a.status != http.StatusForbidden && a.status != http.StatusUnauthorized {
		v.judgeInBand(a)
		return
	}
	v.refusal = v.judgeStepUpChallenge(a)
	if held := v.dropped(); len(held) > 0 {
		v.find("step-up-drops-held", "held "+strings.Join(v.held, " ")+", asked for "+v.refusal.get("scope"))
	}
	if at, told := v.refusal.get("resource_metadata"), v.wall.get("resource_metadata"); at != "" && told != "" && at != told {
		v.find("step-up-metadata-differs", at+" and "+told)
	}
	again, err := v.callOnce()
	if err == nil && !slices.Equal(again.header.Values("WWW-Authenticate"), v.refusal.values) {
		v.find("challenge-unstable", v.refusal.header()+" / "+strings.Join(again.header.Values("WWW-Authenticate"), " | "))
	}
}

// dropped are the held scopes that a client would lose that asks for exactly what
// the challenge says (class O).
func (v *visit) dropped() []string {
	asked := v.refusal.scopes()
	return slices.DeleteFunc(slices.Clone(v.held), func(s string) bool {
		return slices.Contains(asked, s) || s == "offline_access" || s == "openid" || s == "profile" || s == "email"
	})
}

// judgeInBand looks at a refusal that no client steps up on, or at none at all.
func (v *visit) judgeInBand(a answer) {
	m := a.rpc()
	said := string(a.body)
	if m != nil && (m.Error != nil || strings.Contains(string(m.Result), `"isError":true`)) && strings.Contains(said, "scope") {
		v.find("step-up-in-band", a.line()+" "+clean(said, 200))
		return
	}
	v.find("step-up-none", a.line())
}

// callOnce sends the operation in the revision that the server speaks: with a
// session of 2025-11-25 if it opens one, else as 2026-07-28 has it.
func (v *visit) callOnce() (answer, error) {
	opened, err := v.post(v.initialize(), v.bearer())
	if err != nil {
		return answer{}, err
	}
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
	if opened.status != http.StatusOK || opened.rpc() == nil || opened.rpc().Error != nil {
		m := v.modern(c.Method, params)
		m.Name = c.Target
		h := m.headers()
		h["Authorization"] = v.bearer()["Authorization"]
		return v.post(m, h)
	}
	h := v.bearer()
	h.Set("Mcp-Protocol-Version", legacyVersion)
	if id := opened.header.Get("Mcp-Session-Id"); id != "" {
		h.Set("Mcp-Session-Id", id)
		defer func() { _, _ = v.ask(http.MethodDelete, h, nil) }()
	}
	return v.post(rpcRequest{Method: c.Method, Params: params}, h)
}
