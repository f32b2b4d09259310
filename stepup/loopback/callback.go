package loopback

import (
	"io"
	"log"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/stile-mcp/stile/stepup"
)

// request is what the browser was sent for, and whether the answer has come.
type request struct {
	mu       sync.Mutex
	asked    *stepup.Request // nil until the browser was sent
	answered bool
	sending  sync.WaitGroup // the page
}

func (q *request) set(r stepup.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.asked = &r
}

// get is what the browser was sent for; nil if it was not.
func (q *request) get() *stepup.Request {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.asked
}

// take reports whether an answer is the one that is waited for: the first that has the
// state the browser was sent with. Any page, and anybody on this machine, can send
// others, which must not end the login.
func (q *request) take(answer url.Values) (stepup.Request, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.asked == nil || q.answered || answer.Get("state") != stateOf(q.asked.URL) {
		return stepup.Request{}, false
	}
	q.answered = true
	q.sending.Add(1)
	return *q.asked, true
}

func stateOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Query().Get("state")
}

// wait waits for the page to be sent, but not for longer than limit. No answer is
// taken from then on.
func (q *request) wait(limit time.Duration) {
	q.mu.Lock()
	q.answered = true
	q.mu.Unlock()
	sent := make(chan struct{})
	go func() {
		q.sending.Wait()
		close(sent)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-sent:
	case <-timer.C:
	}
}

// ServeHTTP takes the answer. What no browser would send that was sent by the issuer is
// none; the rest of it stepup looks at.
func (v *visit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Referrer-Policy", "no-referrer") // the address has the code in it
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	answer, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case r.Host != v.host:
		http.Error(w, "This is not "+v.host+".", http.StatusBadRequest)
		return
	case r.URL.Path != Path:
		http.NotFound(w, r)
		return
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "Only GET.", http.StatusMethodNotAllowed)
		return
	case err != nil || !isAnswer(answer) || isFetched(r):
		http.Error(w, "This is not the answer to a login.", http.StatusBadRequest)
		return
	}
	asked, ok := v.request.take(answer)
	if !ok {
		http.Error(w, "No login waits for this answer.", http.StatusBadRequest)
		return
	}
	defer v.request.sending.Done()
	v.answers <- answer
	select {
	case <-v.told:
		writePage(w, outcomePage(asked, v.outcome))
	case <-time.After(outcomeTime):
		writePage(w, waitingPage(asked))
	case <-r.Context().Done():
	}
}

// isAnswer reports whether a query can be the answer to an authorization request
// (RFC 6749 §4.1.2).
func isAnswer(q url.Values) bool { return q.Has("code") || q.Has("error") }

// isFetched reports whether a page has a browser fetch this, as an image or by
// script, rather than go here.
func isFetched(r *http.Request) bool {
	dest := r.Header.Get("Sec-Fetch-Dest")
	return dest != "" && dest != "document"
}

// writePage sends a page whole before it returns: the process may end next.
func writePage(w http.ResponseWriter, p page) {
	body, policy, err := p.render()
	if err != nil {
		http.Error(w, "Go back to your program.", http.StatusOK)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	_ = http.NewResponseController(w).Flush()
}

// quiet is a log of what strangers' connections do wrong: nowhere.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
