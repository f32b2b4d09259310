package stile

import "net/http"

// lastEventHeader names the event after which a stream of the 2025 revisions goes
// on.
const lastEventHeader = "Last-Event-Id"

// eventEndpoint names sealed event ids apart from session ids: no name of a server
// has a slash.
func eventEndpoint(s *endpoint) string { return s.name + "/event" }

// openEvent opens the id of the last event a client saw. An upstream whose events
// lie in one store for all sessions would replay those of anybody whose id it is
// sent, so that an id has to be one that this owner got at this endpoint
// (GHSA-84j6-jc92-77jm). One that is not is answered like a session that is not
// there: the client starts anew.
func (x *exchange) openEvent() error {
	ids := x.r.Header[lastEventHeader]
	if len(ids) == 0 || len(ids) == 1 && ids[0] == "" {
		return nil
	}
	if len(ids) > 1 {
		return &formError{status: http.StatusBadRequest, text: "Last-Event-ID was sent more than once"}
	}
	id, err := x.g.sessions.Open(ids[0], eventEndpoint(x.s), x.owner())
	if err != nil {
		return &sessionError{err}
	}
	x.lastEvent = id
	return nil
}

// sealEvent is what the client knows an event of the upstream by. Without an id,
// which is what becomes of one that is too long to be sealed, the stream cannot be
// resumed there.
func (x *exchange) sealEvent(id []byte) []byte {
	sealed, err := x.g.sessions.Seal(eventEndpoint(x.s), x.owner(), string(id))
	if err != nil {
		x.g.config.Log.Warn("event id not sealed", "server", x.s.name, "request_id", x.requestID, "error", err)
		return nil
	}
	return []byte(sealed)
}
