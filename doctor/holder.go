package doctor

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// claims are what a JWT says of itself. It is read for what clients and servers
// would see, and trusted for nothing.
type claims struct {
	Audience audience `json:"aud"`
	Issuer   string   `json:"iss"`
	Scope    string   `json:"scope"`
	Scp      audience `json:"scp"`
}

// audience is a string or an array of strings (RFC 7519 §4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = strings.Fields(one)
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// readToken reads the claims of a JWT; an opaque token has none.
func readToken(token string) (claims, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, false
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	var c claims
	return c, err == nil && json.Unmarshal(body, &c) == nil
}

func (v *visit) bearer() http.Header {
	return http.Header{"Authorization": {"Bearer " + v.options.Token}}
}

// asHolder goes on with the token: what it is for, and what a client would be told.
func (v *visit) asHolder() {
	if c, ok := readToken(v.options.Token); ok {
		v.held = append(strings.Fields(c.Scope), c.Scp...)
		if v.metadata != nil && !slices.Contains(c.Audience, v.metadata.Resource) {
			v.find("token-audience", "aud: "+list(c.Audience)+", resource: "+v.metadata.Resource)
		}
		if v.metadata != nil && !slices.Contains(v.metadata.AuthorizationServers, c.Issuer) {
			v.find("token-issuer", "iss: "+c.Issuer)
		}
	}
	a, err := v.post(v.initialize(), v.bearer())
	switch {
	case err != nil:
		v.find("token-refused", err.Error())
		return
	case a.status != http.StatusOK && a.status != http.StatusBadRequest:
		v.find("token-refused", a.line()+" "+a.header.Get("WWW-Authenticate"))
		return
	}
	v.judgeSession(a)
	v.judgeModern()
	v.judgeQueryToken()
}

// judgeSession looks at how an id that nobody was given is met (REQ-24).
func (v *visit) judgeSession(opened answer) {
	id := opened.header.Get("Mcp-Session-Id")
	if id == "" {
		return // the server has no sessions
	}
	h := v.bearer()
	h.Set("Mcp-Session-Id", "stile-doctor-no-session")
	h.Set("Mcp-Protocol-Version", legacyVersion)
	ping := rpcRequest{Method: "ping", Params: map[string]any{}}
	if a, err := v.post(ping, h); err == nil && a.status != http.StatusNotFound {
		v.find("session-unknown", a.line())
	}
	h = v.bearer()
	h.Set("Mcp-Session-Id", id)
	h.Set("Mcp-Protocol-Version", legacyVersion)
	if a, err := v.post(rpcRequest{Method: "tools/list", Params: map[string]any{}}, h); err == nil {
		v.judgeTools(a)
	}
	_, _ = v.ask(http.MethodDelete, h, nil) // leave nothing behind
}

// judgeModern holds the rules on mirrored headers of 2026-07-28 against the server,
// if it speaks that revision (REQ-25, REQ-26).
func (v *visit) judgeModern() {
	m := v.modern("server/discover", nil)
	h := m.headers()
	h["Authorization"] = v.bearer()["Authorization"]
	a, err := v.post(m, h)
	if err != nil || a.status != http.StatusOK || a.rpc() == nil || a.rpc().Error != nil {
		return
	}
	h.Set("Mcp-Method", "tools/list")
	if a, err = v.post(m, h); err == nil && a.status != http.StatusBadRequest {
		v.find("header-mismatch", a.line()+" to Mcp-Method: tools/list beside a body that says server/discover")
	} else if err == nil && (a.rpc() == nil || a.rpc().Error == nil || a.rpc().Error.Code != -32020) {
		v.find("header-mismatch-code", a.line())
	}
	tools := v.modern("tools/list", nil)
	h = tools.headers()
	h["Authorization"] = v.bearer()["Authorization"]
	if a, err = v.post(tools, h); err == nil {
		v.judgeTools(a)
	}
}

// judgeTools looks for what ChatGPT needs to know of each tool (DES-33).
func (v *visit) judgeTools(a answer) {
	m := a.rpc()
	if m == nil || m.Error != nil {
		return
	}
	var listed struct {
		Tools []struct {
			Name            string          `json:"name"`
			SecuritySchemes json.RawMessage `json:"securitySchemes"`
		} `json:"tools"`
	}
	if json.Unmarshal(m.Result, &listed) != nil {
		return
	}
	for _, t := range listed.Tools {
		if t.SecuritySchemes == nil {
			v.find("tools-no-schemes", "tool "+t.Name+" has no securitySchemes")
			return
		}
	}
}

// judgeQueryToken sends the token where logs and histories would keep it (REQ-55).
func (v *visit) judgeQueryToken() {
	if !v.local && v.endpoint.Scheme != "https" {
		return
	}
	u := *v.endpoint
	q := u.Query()
	q.Set("access_token", v.options.Token)
	u.RawQuery = q.Encode()
	h := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
	a, err := v.askAt(u.String(), http.MethodPost, h, v.initialize().bytes())
	if err == nil && a.status == http.StatusOK {
		v.find("query-token", a.line())
	}
}
