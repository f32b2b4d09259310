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
	v.judgeStrangersBody()
}

func (v *visit) judgeWrongToken() {
	a, err := v.post(initialize(), http.Header{"Authorization": {"Bearer " + wrongToken}})
	if err != nil {
		v.find("wrong-token-status", err.Error())
		return
	}
	switch a.status {
	case http.StatusUnauthorized:
		w := v.readChallenge(a)
		if w.broken == "" && w.get("error") != "invalid_token" {
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
		{"session-before-token", "", legacy(unknownSession, nil)},
	}
	for _, f := range forms {
		u := *v.endpoint
		if f.query != "" {
			u.RawQuery = f.query
		}
		a, err := v.askAt(u.String(), http.MethodPost, joined(jsonHeaders(), f.h), ping().bytes())
		if err != nil || a.status == http.StatusUnauthorized || f.id != "session-before-token" && a.status == http.StatusBadRequest {
			continue
		}
		v.find(f.id, a.line())
	}
}
