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

// scopes are those of either claim.
func (c claims) scopes() []string { return append(strings.Fields(c.Scope), c.Scp...) }

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

// credentials are the header with the token; empty without one. A token that is bound
// to a key cannot be used without its proofs, and none are made here.
func (v *visit) credentials() http.Header {
	if v.options.Token == "" {
		return nil
	}
	return http.Header{"Authorization": {"Bearer " + v.options.Token}}
}

// asHolder goes on with the token: what it is for, and what a client would be told.
func (v *visit) asHolder() {
	v.judgeToken()
	a, err := v.post(initialize(), v.credentials())
	switch {
	case err != nil:
		v.find("token-refused", err.Error())
		return
	case a.status == http.StatusForbidden:
		v.refusal = v.judgeStepUpChallenge(a)
		v.find("login-insufficient", a.told())
		return
	case a.status != http.StatusOK && a.status != http.StatusBadRequest:
		v.find("token-refused", a.told())
		return
	}
	v.inside = true
	v.judgeSession(a)
	v.judgeModern()
	v.judgeQueryToken()
}

// judgeToken looks at whom the token is for.
func (v *visit) judgeToken() {
	c, ok := readToken(v.options.Token)
	if !ok {
		v.report.Token = "opaque: only the issuer and the server can tell whom it is for"
		return
	}
	v.report.Token = clean("JWT for "+list(c.Audience)+" with scope "+list(c.scopes()), 400)
	v.held = c.scopes()
	if v.metadata == nil {
		return
	}
	if !slices.Contains(c.Audience, v.metadata.Resource) {
		v.find("token-audience", "aud: "+list(c.Audience)+", resource: "+v.metadata.Resource)
	}
	if !slices.Contains(v.metadata.AuthorizationServers, c.Issuer) {
		v.find("token-issuer", "iss: "+c.Issuer)
	}
}

// judgeTools looks for what ChatGPT needs to know of each tool (DES-33).
func (v *visit) judgeTools(a answer) {
	if !a.ok() {
		return
	}
	var listed struct {
		Tools []struct {
			Name            string          `json:"name"`
			SecuritySchemes json.RawMessage `json:"securitySchemes"`
		} `json:"tools"`
	}
	if json.Unmarshal(a.rpc().Result, &listed) != nil {
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
	u := *v.endpoint
	q := u.Query()
	q.Set("access_token", v.options.Token)
	u.RawQuery = q.Encode()
	a, err := v.askAt(u.String(), http.MethodPost, jsonHeaders(), initialize().bytes())
	if err == nil && a.status == http.StatusOK {
		v.find("query-token", a.line())
	}
}
