package era

import (
	"context"
	"crypto/rand"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/internal/envelope"
	"github.com/stile-mcp/stile/session"
)

// newSealer seals what requestState says. Its key is this process's, since the call
// that goes on is here as well.
func newSealer(asking time.Duration) (*session.Sealer, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	// The state outlives the call by a little, so that a late client is told that it
	// is late by the same answer as always.
	return session.New(session.Config{Keys: [][]byte{key}, MaxAge: (asking + time.Minute).Truncate(time.Second)})
}

// gatherTime is how long questions are waited for that a server asks at once, so that
// the client is told of them at once.
const gatherTime = 50 * time.Millisecond

// sealedFor is what the state is bound to besides its owner.
const sealedFor = "requestState"

// follow passes on what comes of a call, until it has an answer or a question.
func (m *Modern) follow(ctx context.Context, p *packet, w wrapping, c *farCall) ([]byte, error) {
	var (
		gathered <-chan time.Time
		enough   bool
	)
	for {
		c.mu.Lock()
		news, final, questions, finished := c.news, c.final, c.asks, c.finished
		for _, n := range news {
			c.size -= len(n.params)
		}
		c.news = nil
		c.mu.Unlock()
		for _, n := range news {
			if line := w.pass(n); line != nil {
				m.o.Emit(line, p.key())
			}
		}
		switch {
		case finished:
			return m.conclude(p, w, c, final)
		case len(questions) > 0 && enough:
			return m.park(ctx, p, c)
		case len(questions) > 0 && gathered == nil:
			gathered = time.After(gatherTime)
		}
		select {
		case <-c.wake:
		case <-gathered:
			enough = true
		case <-ctx.Done():
			c.abort(ctx, "the client cancelled the call")
			return nil, ctx.Err()
		}
	}
}

// pass is a notification about a call as its client may have it, nil for none.
func (w wrapping) pass(n *packet) []byte {
	switch n.method {
	case "notifications/progress":
		if w.token == nil {
			return nil
		}
		return n.all.with("params", lenient(n.params).with(metaToken, w.token).bytes()).bytes()
	case "notifications/message":
		if level := levels[lenient(n.params).text("level")]; w.level == "" || level < levels[w.level] {
			return nil
		}
	}
	return n.all.bytes()
}

// conclude makes the answer to the client's request.
func (m *Modern) conclude(p *packet, w wrapping, c *farCall, final []byte) ([]byte, error) {
	said := lenient(final)
	if failed := said.get("error"); failed != nil {
		if codeOf(failed) == codeURLNeeded && mayAsk(p.method) {
			return m.askForURLs(p, w, failed)
		}
		return errorLine(p.id, errorToModern(failed)), nil
	}
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	result, ok := resultToModern(p.method, said.get("result"), s.server)
	if !ok {
		return nil, &failure{code: codeInternal, text: "the MCP server sent a result that is no object"}
	}
	return resultLine(p.id, result), nil
}

// park answers with the questions that are open. The call waits for the retry.
func (m *Modern) park(ctx context.Context, p *packet, c *farCall) ([]byte, error) {
	m.mu.Lock()
	full := len(m.waiting) >= m.o.MaxAsking
	if !full {
		m.waiting[c.id] = c
	}
	m.mu.Unlock()
	if full {
		c.abort(ctx, "too many calls wait for their client")
		return nil, &failure{code: http.StatusTooManyRequests, text: "too many calls of this caller wait for input; finish some and try again"}
	}
	c.mu.Lock()
	c.round++
	round := c.round
	requests := object{}
	for _, q := range c.asks {
		requests = requests.with(q.name, q.bytes())
	}
	c.given = time.AfterFunc(m.o.AskTime, func() {
		if m.take(c.id, round) != nil {
			m.o.Log.Info("call ended: its client did not come back with what the server asked for", "method", c.method)
			c.abort(m.desk.ctx, "the client did not answer in time")
		}
	})
	c.mu.Unlock()
	state, err := m.sealer.Seal(sealedFor, m.o.Owner, c.id+"."+strconv.Itoa(round))
	if err != nil {
		return nil, err
	}
	return resultLine(p.id, inputRequired(requests, state)), nil
}

func inputRequired(requests object, state string) jsontext.Value {
	return object{}.with("resultType", []byte(`"input_required"`)).with("inputRequests", requests.bytes()).
		with("requestState", quote(state)).bytes()
}

// bytes is the question as an input request.
func (q *question) bytes() jsontext.Value {
	// elicitationId came with 2025-11-25 and went with it. Some clients want params
	// where there are none.
	return object{}.with("method", quote(q.method)).with("params", lenient(q.params).without("elicitationId").bytes()).bytes()
}

// take finds the call of a state and takes it out of those that wait.
func (m *Modern) take(id string, round int) *farCall {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.waiting[id]
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.round != round {
		return nil
	}
	if c.given != nil {
		c.given.Stop()
	}
	delete(m.waiting, id)
	return c
}

// forgive stops the clock of a call that waits for its client.
func (c *farCall) forgive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.given != nil {
		c.given.Stop()
	}
}

var (
	errState = &failure{code: codeInvalidParams, text: "requestState is not valid, or no longer: repeat the call without it"}
	errOther = &failure{code: codeInvalidParams, text: "requestState belongs to another call"}
)

// resume goes on with a call whose client has answered.
func (m *Modern) resume(ctx context.Context, p *packet, w wrapping) ([]byte, error) {
	params := lenient(p.params)
	opened, err := m.sealer.Open(params.text("requestState"), sealedFor, m.o.Owner)
	if err != nil {
		return nil, errState
	}
	answers, err := readObject(orEmpty(params.get("inputResponses")))
	if err != nil {
		return nil, &failure{code: codeInvalidParams, text: "inputResponses is not an object"}
	}
	if rest, ok := strings.CutPrefix(opened, statePrefix); ok {
		return m.resumeURLs(ctx, p, w, rest, answers)
	}
	id, round, _ := strings.Cut(opened, ".")
	n, _ := strconv.Atoi(round)
	m.mu.Lock()
	c := m.waiting[id]
	m.mu.Unlock()
	if c == nil {
		return nil, errState
	}
	if c.digest != same(p.method, params) {
		return nil, errOther
	}
	if m.take(id, n) == nil {
		return nil, errState
	}
	if w.level != "" {
		c.session.lowerLevel(ctx, w.level)
	}
	c.mu.Lock()
	c.level = levels[w.level]
	c.mu.Unlock()
	c.reply(answers)
	return m.follow(ctx, p, w, c)
}

func orEmpty(v jsontext.Value) jsontext.Value {
	if v == nil {
		return jsontext.Value("{}")
	}
	return v
}

// reply answers the server's questions. Those that the client left out stay.
func (c *farCall) reply(answers object) {
	c.mu.Lock()
	var open []*question
	var answered []func()
	for _, q := range c.asks {
		value := answers.get(q.name)
		if !isObject(value) {
			open = append(open, q)
			continue
		}
		c.size -= len(q.params)
		answered = append(answered, func() { q.answer(resultLine(q.id, value)) })
	}
	c.asks = open
	c.mu.Unlock()
	for _, f := range answered {
		f()
	}
}

// A server of 2025-11-25 may refuse a call until its user has been to certain URLs
// (error -32042). The call is over then; the state only says which it was.

// statePrefix begins the state of such a call.
const statePrefix = "url."

// askForURLs makes questions of such an error.
func (m *Modern) askForURLs(p *packet, w wrapping, failed jsontext.Value) ([]byte, error) {
	if !capability(w.capabilities, "elicitation/create", jsontext.Value(`{"mode":"url"}`)) {
		return (&failure{code: codeMissing, text: "the MCP server needs its user to open a URL, which this client does not offer",
			data: jsontext.Value(`{"requiredCapabilities":{"elicitation":{"url":{}}}}`)}).line(p.id), nil
	}
	list := lenient(lenient(failed).get("data")).get("elicitations")
	requests := object{}
	for _, one := range elements(list) {
		q := &question{method: "elicitation/create", params: lenient(one).with("mode", []byte(`"url"`)).bytes()}
		requests = requests.with("u"+strconv.Itoa(len(requests)+1), q.bytes())
	}
	if len(requests) == 0 {
		return errorLine(p.id, errorToModern(failed)), nil
	}
	digest := same(p.method, lenient(p.params))
	state, err := m.sealer.Seal(sealedFor, m.o.Owner, statePrefix+string(digest[:]))
	if err != nil {
		return nil, err
	}
	return resultLine(p.id, inputRequired(requests, state)), nil
}

// resumeURLs makes such a call again, unless the user did not want to.
func (m *Modern) resumeURLs(ctx context.Context, p *packet, w wrapping, digest string, answers object) ([]byte, error) {
	if now := same(p.method, lenient(p.params)); digest != string(now[:]) {
		return nil, errOther
	}
	for _, a := range answers {
		if lenient(a.value).text("action") != "accept" {
			return nil, &failure{code: codeInternal, text: "the MCP server needs its user to open a URL, which was declined"}
		}
	}
	_, params := unwrap(p.params)
	return m.call(ctx, p, w, params)
}

// elements are those of a JSON array.
func elements(v jsontext.Value) []jsontext.Value {
	if len(v) == 0 || v[0] != '[' {
		return nil
	}
	parts, err := envelope.Split(v)
	if err != nil {
		return nil
	}
	out := make([]jsontext.Value, len(parts))
	for i, part := range parts {
		out[i] = part
	}
	return out
}
