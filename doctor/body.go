package doctor

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"
)

// A stranger's body that is too long, of which only a beginning is sent, and how long
// to wait for an answer without the rest.
const (
	strangerLength = 64 << 20
	strangerSent   = 16 << 10
	strangerWait   = 3 * time.Second
)

// holderLength is how much is really sent with a token: more than any message of MCP
// needs, in bytes.
const holderLength = 17 << 20

// judgeStrangersBody announces a very long body without a token and holds back most of
// it: who looks at the token, or at the length, answers at once.
func (v *visit) judgeStrangersBody() {
	if v.wall == nil {
		return
	}
	ctx, cancel := context.WithTimeout(v.ctx, min(strangerWait, v.options.Timeout))
	defer cancel()
	body, held := io.Pipe()
	go func() {
		_, _ = held.Write(padded(ping(), strangerSent))
		<-ctx.Done()
		_ = held.CloseWithError(context.Cause(ctx))
	}()
	defer func() { _ = body.Close() }()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, v.endpoint.String(), body)
	if err != nil {
		return
	}
	r.ContentLength = strangerLength
	if _, err := send(v.http, r, jsonHeaders()); err != nil && ctx.Err() != nil && v.ctx.Err() == nil {
		v.find("body-stranger", "no answer to a POST without a token that announces 64 MiB and sends 16 KiB")
	}
}

// judgeBodyLimit sends a message that does nothing, with much white space behind it.
func (v *visit) judgeBodyLimit(m rpcRequest, h http.Header) {
	ctx, cancel := context.WithTimeout(v.ctx, v.options.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, v.endpoint.String(), bytes.NewReader(padded(m, holderLength)))
	if err != nil {
		return
	}
	for name, values := range jsonHeaders() {
		r.Header[name] = values
	}
	if a, err := send(v.http, r, h); err == nil && a.ok() {
		v.find("body-unlimited", a.line()+" to a message of 17 MiB")
	}
}

// padded is a message of that length.
func padded(m rpcRequest, length int) []byte {
	b := m.bytes()
	return append(b, bytes.Repeat([]byte(" "), length-len(b))...)
}
