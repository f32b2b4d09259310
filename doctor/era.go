package doctor

import (
	"encoding/json"
	"net/http"
)

// What servers of 2026-07-28 answer to headers that contradict the body, and to a
// revision they do not speak (REQ-25, REQ-26).
const (
	codeHeaderMismatch = -32020
	codeVersion        = -32022
	codeNoMethod       = -32601
)

// contradiction is a request that a server of 2026-07-28 has to refuse.
type contradiction struct {
	id   string // the finding if it is not
	what string
	m    rpcRequest
	h    http.Header
	code int
}

// judgeModern holds the rules on mirrored headers of 2026-07-28 against the server,
// if it speaks that revision (REQ-25, REQ-26).
func (v *visit) judgeModern() {
	m := modern("server/discover", nil)
	a, err := v.post(m, m.headers(), v.credentials())
	if err != nil || !a.ok() {
		return
	}
	if id := a.header.Get("Mcp-Session-Id"); id != "" {
		v.find("session-modern", "Mcp-Session-Id: "+id)
	}
	for _, c := range contradictions(a) {
		v.judgeContradiction(c)
	}
	nothing := modern("stile-doctor/nothing", nil)
	if a, err := v.post(nothing, nothing.headers(), v.credentials()); err == nil && a.status == http.StatusOK && (a.ok() || a.code() == codeNoMethod) {
		v.find("method-unknown", a.told()+" to "+nothing.Method)
	}
	tools := modern("tools/list", nil)
	if a, err := v.post(tools, tools.headers(), v.credentials()); err == nil {
		v.judgeTools(a)
	}
	v.judgeBodyLimit(m, joined(m.headers(), v.credentials()))
}

// contradictions are requests whose headers do not agree with their bodies. What they
// name does not exist, so that nothing happens where they are let through.
func contradictions(discovered answer) []contradiction {
	discover := modern("server/discover", nil)
	with := func(name, value string) http.Header {
		h := discover.headers()
		h.Set(name, value)
		if value == "" {
			h.Del(name)
		}
		return h
	}
	strange := modern("server/discover", nil)
	strange.Params["_meta"].(map[string]any)["io.modelcontextprotocol/protocolVersion"] = "2099-01-01"
	all := []contradiction{
		{"header-mismatch", "Mcp-Method: tools/list beside a body that says server/discover", discover, with("Mcp-Method", "tools/list"), codeHeaderMismatch},
		{"header-missing", "a request without Mcp-Method", discover, with("Mcp-Method", ""), codeHeaderMismatch},
		{"version-mismatch", "MCP-Protocol-Version: " + legacyVersion + " beside a body of " + modernVersion, discover, with("Mcp-Protocol-Version", legacyVersion), codeHeaderMismatch},
		{"version-unknown", "a request of revision 2099-01-01", strange, with("Mcp-Protocol-Version", "2099-01-01"), codeVersion},
	}
	var told struct {
		Capabilities map[string]json.RawMessage `json:"capabilities"`
	}
	if json.Unmarshal(discovered.rpc().Result, &told) == nil && told.Capabilities["prompts"] != nil {
		m := modern("prompts/get", map[string]any{"name": "stile-doctor-nothing"})
		m.Name = "stile-doctor-something"
		all = append(all, contradiction{"header-name", "Mcp-Name: " + m.Name + " beside a body that says stile-doctor-nothing", m, m.headers(), codeHeaderMismatch})
	}
	return all
}

func (v *visit) judgeContradiction(c contradiction) {
	a, err := v.post(c.m, c.h, v.credentials())
	switch {
	case err != nil:
	case a.status != http.StatusBadRequest:
		v.find(c.id, a.told()+" to "+c.what)
	case a.code() != c.code:
		v.find("header-mismatch-code", a.told()+" to "+c.what)
	}
}
