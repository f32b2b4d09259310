package stile

import (
	"crypto/rand"
	"net/http"
	"sync/atomic"
)

// requestIDs make ids that tell requests apart in answers, audit and log. They
// are no secret: random letters for the process and a counter. They have no
// digits, so that no client finds the number of another status in an answer
// (DES-14).
type requestIDs struct {
	prefix string
	last   atomic.Uint64
}

const letters = "abcdefghijklmnopqrstuvwxyz"

func (ids *requestIDs) start() {
	b := make([]byte, 9, 10)
	rand.Read(b)
	for i, v := range b {
		b[i] = letters[int(v)%len(letters)]
	}
	ids.prefix = string(append(b, '-'))
}

// requestIDHeader tells a caller which request an operator should look for.
const requestIDHeader = "X-Request-Id"

// mark gives an id to an answer that is not made by an exchange.
func (ids *requestIDs) mark(h http.Header) { h.Set(requestIDHeader, ids.next()) }

func (ids *requestIDs) next() string {
	id := make([]byte, 0, 24)
	id = append(id, ids.prefix...)
	for n := ids.last.Add(1); n > 0; n /= uint64(len(letters)) {
		id = append(id, letters[n%uint64(len(letters))])
	}
	return string(id)
}
