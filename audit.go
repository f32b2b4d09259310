package stile

import (
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/message"
)

// auditLog writes one JSON object a line for every decision, before anything is
// forwarded or answered. It never sees a token; arguments are not recorded.
// Records that come together leave in one write.
type auditLog struct {
	w    io.Writer
	turn chan struct{} // held while writing
	torn bool          // the last line broke off in the middle; of the turn

	mu   sync.Mutex // guards next
	next *auditBatch
}

func newAuditLog(w io.Writer) *auditLog {
	return &auditLog{w: w, turn: make(chan struct{}, 1)}
}

// auditBatch is what leaves in one write.
type auditBatch struct {
	lines []byte
	done  chan struct{} // closed when err is there; nil while nobody waits for it
	err   error
}

// auditRecord is what one line says.
type auditRecord struct {
	requestID string
	server    string
	outcome   string
	status    int
	x         *exchange
	decision  authorize.Decision
	elevated  string // the scopes held when this was last refused (DES-46)
	err       string
}

// write appends the record as one line. An error means that there may be no record,
// so there must be no call.
func (a *auditLog) write(r auditRecord) error {
	b, others := a.join(r)
	if others { // its owner is about to write it
		<-b.done
		return b.err
	}
	runtime.Gosched() // whoever has a record by then comes along
	return a.flush(b)
}

// join puts a record into the next batch, which may be that of others.
func (a *auditLog) join(r auditRecord) (b *auditBatch, others bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b = a.next; b != nil {
		b.lines = r.append(b.lines)
		if b.done == nil {
			b.done = make(chan struct{})
		}
		return b, true
	}
	b = auditBatches.Get().(*auditBatch)
	b.lines = r.append(b.lines[:0])
	a.next = b
	return b, false
}

var auditBatches = sync.Pool{New: func() any { return &auditBatch{} }}

// maxKept is the longest batch that is used again, in bytes.
const maxKept = 64 << 10

var errNotRecorded = errors.New("the audit log was not written")

// flush writes a batch. Whoever waits for it hears how it ended, also when the writer
// panics.
func (a *auditLog) flush(b *auditBatch) error {
	a.turn <- struct{}{}
	defer func() { <-a.turn }()
	a.mu.Lock()
	a.next = nil
	a.mu.Unlock()
	b.err = errNotRecorded
	if b.done != nil {
		defer close(b.done)
	}
	if a.torn { // half a line spoils no other
		b.lines = append([]byte{'\n'}, b.lines...)
	}
	before := a.torn
	a.torn = true // unless it comes back
	n, err := a.w.Write(b.lines)
	if err == nil && n < len(b.lines) {
		err = io.ErrShortWrite
	}
	a.torn = err != nil && (n > 0 || before)
	b.err = err
	if b.done == nil && cap(b.lines) <= maxKept {
		auditBatches.Put(b)
	}
	return err
}

func (r auditRecord) append(b []byte) []byte {
	b = append(b, `{"time":"`...)
	b = time.Now().UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	b = appendField(b, "request_id", r.requestID)
	b = appendField(b, "server", r.server)
	b = appendField(b, "outcome", r.outcome)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(r.status), 10)
	b = r.appendWho(b)
	b = r.appendWhat(b)
	b = appendSet(b, "needed", r.decision.Required)
	if r.x.identity != nil {
		b = appendSet(b, "held", r.x.identity.Scopes)
	}
	b = appendSet(b, "missing", r.decision.Missing)
	b = appendSet(b, "rules", r.decision.Rules)
	b = appendField(b, "elevated_from", r.elevated)
	b = appendField(b, "reason", r.decision.Reason)
	b = appendField(b, "error", r.err)
	return append(b, '}', '\n')
}

// appendWho writes the identity. The token is told apart by the first eight
// bytes of its hash, which say nothing about it.
func (r auditRecord) appendWho(b []byte) []byte {
	id := r.x.identity
	if id == nil {
		return b
	}
	b = appendField(b, "issuer", id.Issuer)
	b = appendField(b, "subject", id.Subject)
	b = appendField(b, "client_id", id.ClientID)
	b = append(b, `,"token":"`...)
	b = hex.AppendEncode(b, id.TokenHash[:8])
	return append(b, '"')
}

func (r auditRecord) appendWhat(b []byte) []byte {
	call := r.x.call
	if call == nil {
		return appendField(b, "http_method", r.x.r.Method)
	}
	b = appendField(b, "era", eraName(call.Era))
	switch call.Kind {
	case message.Stream, message.Close:
		b = appendField(b, "http_method", r.x.r.Method)
	case message.Response:
		b = appendField(b, "kind", "response")
	}
	b = appendField(b, "method", call.Method)
	b = appendField(b, "name", call.Name)
	return appendField(b, "uri", call.URI)
}

func eraName(e message.Era) string {
	if e == message.Era2026 {
		return "2026"
	}
	return "2025"
}

// appendField appends a member, or nothing for an empty value.
func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return appendQuoted(b, value)
}

// appendQuoted appends a JSON string. Invalid UTF-8 becomes U+FFFD: the error
// that AppendQuote returns beside it changes nothing for a log line.
func appendQuoted(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

func appendSet[S ~[]string](b []byte, name string, set S) []byte {
	if len(set) == 0 {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':', '[')
	for i, v := range set {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, v)
	}
	return append(b, ']')
}
