package doctor

import (
	"net/http"
)

// wrongToken is nobody's.
const wrongToken = "stile-doctor.not-a-token"

// asStranger asks with what must not open the door.
func (v *visit) asStranger() {
	if !v.challenged() {
		return
	}
	v.judgeWrongToken()
	v.judgeStrangeForms()
}

func (v *visit) judgeWrongToken() {
	a, err := v.post(v.initialize(), http.Header{"Authorization": {"Bearer " + wrongToken}})
	if err != nil {
		v.find("wrong-token-status", err.Error())
		return
	}
	switch a.status {
	case http.StatusUnauthorized:
		w := v.readChallenge(a)
		if w.get("error") != "invalid_token" {
			v.find("wrong-token-error", w.header())
		}
	case http.StatusOK, http.StatusAccepted:
		v.find("wrong-token-accepted", a.line())
	default:
		v.find("wrong-token-status", a.line())
	}
}

// judgeStrangeForms sends a token where none may stand, and a session before
// anybody is known.
func (v *visit) judgeStrangeForms() {
	forms := []struct {
		id    string
		query string
		h     http.Header
	}{
		{"scheme-accepted", "", http.Header{"Authorization": {"Basic c3RpbGU6c3RpbGU="}}},
		{"query-token", "access_token=" + wrongToken, nil},
		{"session-before-token", "", http.Header{"Mcp-Session-Id": {"stile-doctor-no-session"}, "Mcp-Protocol-Version": {legacyVersion}}},
	}
	m := rpcRequest{Method: "ping", Params: map[string]any{}}
	for _, f := range forms {
		u := *v.endpoint
		if f.query != "" {
			u.RawQuery = f.query
		}
		h := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
		for name, values := range f.h {
			h[name] = values
		}
		a, err := v.askAt(u.String(), http.MethodPost, h, m.bytes())
		if err != nil || a.status == http.StatusUnauthorized || f.id != "session-before-token" && a.status == http.StatusBadRequest {
			continue
		}
		v.find(f.id, a.line())
	}
}
