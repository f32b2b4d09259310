package stiletest

import (
	"io"
	"net/http"
)

// Scripted is an upstream that answers what a test wants, and records what
// reached it. A nil Handler answers 202 without a body.
type Scripted struct {
	Recording
	Handler http.HandlerFunc
}

// NewScripted makes one of a function, such as AnswerJSON(200, "{}").
func NewScripted(handler http.HandlerFunc) *Scripted { return &Scripted{Handler: handler} }

// ServeHTTP records the request and lets the handler answer it.
func (s *Scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := s.record(r); err != nil {
		http.Error(w, "the body did not arrive", http.StatusBadRequest)
		return
	}
	if s.Handler == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	s.Handler(w, r)
}

// AnswerJSON answers every request with the very bytes of body as
// application/json.
func AnswerJSON(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// AnswerSSE answers every request with an event stream made of the very bytes of
// chunks, each flushed on its own, and ends it. Chunks need not end where events
// do.
func AnswerSSE(chunks ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		flush := http.NewResponseController(w)
		for _, c := range chunks {
			_, _ = io.WriteString(w, c)
			_ = flush.Flush()
		}
	}
}

// AnswerChallenge answers every request with a status and the lines of
// WWW-Authenticate given, as an upstream with scope checks of its own does.
func AnswerChallenge(status int, body string, challenges ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, c := range challenges {
			w.Header().Add("WWW-Authenticate", c)
		}
		AnswerJSON(status, body)(w, r)
	}
}
