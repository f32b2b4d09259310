package doctor

import (
	"net/http"
	"strings"
)

// unknownSession is an id that nobody was given.
const unknownSession = "stile-doctor-no-session"

// shortestID is how many characters a session id has at least: 16 hexadecimal digits
// are 64 bits.
const shortestID = 16

// legacy are the headers of a request of the 2025 revisions: revision, session where
// there is one, and what else is given.
func legacy(session string, more http.Header) http.Header {
	h := http.Header{"Mcp-Protocol-Version": {legacyVersion}}
	if session != "" {
		h.Set("Mcp-Session-Id", session)
	}
	return joined(h, more)
}

func listTools() rpcRequest { return rpcRequest{Method: "tools/list", Params: map[string]any{}} }

// judgeSession holds the rules on sessions of the 2025 revisions against the server
// (REQ-24, REQ-16), in a session of its own that it ends.
func (v *visit) judgeSession(opened answer) {
	if opened.status != http.StatusOK {
		return // not of these revisions
	}
	id := opened.header.Get("Mcp-Session-Id")
	h := legacy(id, v.credentials())
	v.sayInitialized(h)
	if id == "" {
		v.judgeInSession(h)
		return
	}
	v.judgeSessionID(id)
	if a, err := v.post(ping(), legacy(unknownSession, v.credentials())); err == nil && a.status != http.StatusNotFound {
		v.find("session-unknown", a.told())
	}
	if a, err := v.post(listTools(), legacy("", v.credentials())); err == nil && a.ok() {
		v.find("session-missing", a.line()+" to tools/list without Mcp-Session-Id")
	}
	v.judgeSessionWithoutToken(id)
	v.judgeInSession(h)
	v.judgeEnd(h)
}

// judgeSessionID looks at whether an id can be sent and could be guessed.
func (v *visit) judgeSessionID(id string) {
	if strings.ContainsFunc(id, func(r rune) bool { return r < '!' || r > '~' }) {
		v.find("session-characters", id)
	}
	if len(id) < shortestID {
		v.find("session-guessable", "Mcp-Session-Id: "+id)
	}
}

// judgeSessionWithoutToken uses the session as somebody would who saw its id only.
func (v *visit) judgeSessionWithoutToken(id string) {
	if !v.challenged() {
		return
	}
	if a, err := v.post(ping(), legacy(id, nil)); err == nil && a.status/100 == 2 {
		v.find("session-without-token", a.line())
	}
	a, err := v.ask(http.MethodGet, legacy(id, http.Header{"Accept": {"text/event-stream"}}), nil)
	if err == nil && a.status/100 == 2 {
		v.find("session-without-token", a.line())
	}
}

// judgeInSession sends what is harmless in a session.
func (v *visit) judgeInSession(h http.Header) {
	if a, err := v.post(listTools(), h); err == nil {
		v.judgeTools(a)
	}
	batch := append(append([]byte("["), ping().bytes()...), ']')
	if a, err := v.ask(http.MethodPost, joined(jsonHeaders(), h), batch); err == nil && a.status/100 == 2 {
		v.find("batch-accepted", a.line()+" to an array of one ping, at revision "+legacyVersion)
	}
	plain := h.Clone()
	plain.Set("Content-Type", "text/plain")
	if a, err := v.post(ping(), plain); err == nil && a.ok() {
		v.find("media-type", a.line()+" to a ping that calls itself text/plain")
	}
	v.judgeBodyLimit(ping(), h)
}

// judgeEnd ends the session, and looks at whether that held.
func (v *visit) judgeEnd(h http.Header) {
	a, err := v.ask(http.MethodDelete, h, nil)
	if err != nil || a.status/100 != 2 {
		return // a server may refuse to (REQ-24)
	}
	if a, err = v.post(ping(), h); err == nil && a.status != http.StatusNotFound {
		v.find("session-not-ended", a.told())
	}
}
