package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"strings"

	"github.com/stile-mcp/stile/internal/sse"
	"github.com/stile-mcp/stile/stepup"
)

// maxBody is how much of an answer is read, in bytes.
const maxBody = 1 << 20

// answer is one HTTP answer, as far as it was read.
type answer struct {
	method string
	status int
	header http.Header
	body   []byte
	why    error // that a client which logs in did not; nil for any other
}

// line tells of the answer in a few words: what was asked and what came.
func (a answer) line() string {
	s := fmt.Sprintf("%s answered %d", a.method, a.status)
	if t := a.header.Get("Content-Type"); t != "" {
		s += " " + clean(t, 60)
	}
	return s
}

// ok reports whether a JSON-RPC result came.
func (a answer) ok() bool {
	m := a.rpc()
	return a.status == http.StatusOK && m != nil && m.Error == nil
}

// code is that of the JSON-RPC error that came, 0 for none.
func (a answer) code() int {
	if m := a.rpc(); m != nil && m.Error != nil {
		return m.Error.Code
	}
	return 0
}

// told is the answer in a few words, with the challenge and the code of an error.
func (a answer) told() string {
	s := a.line()
	if c := a.code(); c != 0 {
		s += fmt.Sprintf(", JSON-RPC error %d", c)
	}
	if values := a.header.Values("WWW-Authenticate"); len(values) > 0 {
		s += ", WWW-Authenticate: " + strings.Join(values, " | ")
	}
	return s
}

// rpcMessage is as much of a JSON-RPC response as is looked at.
type rpcMessage struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// rpc is the JSON-RPC response of the body, or of the first such event; nil if
// there is none.
func (a answer) rpc() *rpcMessage {
	media, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	if media != "text/event-stream" {
		return readMessage(a.body)
	}
	var found *rpcMessage
	_ = (&sse.Scanner{Max: maxBody}).Feed(a.body, func(ev sse.Event) error {
		if found == nil {
			found = readMessage(ev.Data)
		}
		return nil
	})
	return found
}

// readMessage reads a JSON-RPC response; nil for anything else.
func readMessage(data []byte) *rpcMessage {
	m := new(rpcMessage)
	if json.Unmarshal(data, m) != nil || m.JSONRPC != "2.0" || m.Result == nil && m.Error == nil {
		return nil
	}
	return m
}

// ask sends one request to the endpoint and reads its answer. A stream is read until
// its first response or the timeout.
func (v *visit) ask(method string, h http.Header, body []byte) (answer, error) {
	return v.askAt(v.endpoint.String(), method, h, body)
}

// maxSlow is how many requests may run into their time limit before no more are sent.
const maxSlow = 3

var errSlow = errors.New("not asked: the server was too slow before")

func (v *visit) askAt(address, method string, h http.Header, body []byte) (answer, error) {
	if v.slow >= maxSlow {
		return answer{}, errSlow
	}
	ctx, cancel := context.WithTimeout(v.ctx, v.options.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	a, err := send(v.http, r, h)
	if ctx.Err() != nil && v.ctx.Err() == nil {
		if v.slow++; v.slow == maxSlow {
			v.notTried("All that was left: three requests were not answered within " + v.options.Timeout.String() + ".")
		}
	}
	return a, err
}

// send sends a request with these headers. Host among them is the name to ask under.
func send(client *http.Client, r *http.Request, h http.Header) (answer, error) {
	for name, values := range h {
		r.Header[name] = values
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
		r.Header.Del("Host")
	}
	r.Header.Set("User-Agent", "stile-doctor")
	resp, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{method: r.Method, status: resp.StatusCode, header: resp.Header, why: stepup.Explanation(resp)}
	a.read(resp.Body)
	return a, nil
}

// read reads the body; of a stream, what comes until a response is whole. What
// breaks off stays as it is.
func (a *answer) read(body io.Reader) {
	stream := strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream")
	if stream && a.method == http.MethodGet {
		return // it may never say anything
	}
	buf := make([]byte, 16<<10)
	for len(a.body) < maxBody {
		n, err := body.Read(buf)
		a.body = append(a.body, buf[:n]...)
		if err != nil || stream && a.rpc() != nil {
			return
		}
	}
}

// rpcRequest is a JSON-RPC request of ours.
type rpcRequest struct {
	Method string
	Name   string // what Mcp-Name says; empty for none
	Params map[string]any
}

// Revisions that the messages are of.
const (
	legacyVersion = "2025-11-25"
	modernVersion = "2026-07-28"
)

func (m rpcRequest) bytes() []byte {
	b, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": m.Method, "params": m.Params})
	if err != nil {
		panic("doctor: a request of ours cannot be written: " + err.Error())
	}
	return b
}

// headers are those that 2026-07-28 mirrors (REQ-25, REQ-26).
func (m rpcRequest) headers() http.Header {
	h := http.Header{"Mcp-Protocol-Version": {modernVersion}, "Mcp-Method": {m.Method}}
	if m.Name != "" {
		h.Set("Mcp-Name", m.Name)
	}
	return h
}

func self() map[string]any { return map[string]any{"name": "stile-doctor", "version": "1"} }

// jsonHeaders are what every POST of MCP has.
func jsonHeaders() http.Header {
	return http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
}

// initialize opens a session of the 2025 revisions.
func initialize() rpcRequest {
	return rpcRequest{Method: "initialize", Params: map[string]any{
		"protocolVersion": legacyVersion, "capabilities": map[string]any{}, "clientInfo": self()}}
}

// ping is the least that can be asked in a session of the 2025 revisions.
func ping() rpcRequest { return rpcRequest{Method: "ping", Params: map[string]any{}} }

// modern is a request of 2026-07-28.
func modern(method string, params map[string]any) rpcRequest {
	if params == nil {
		params = map[string]any{}
	}
	params["_meta"] = map[string]any{
		"io.modelcontextprotocol/protocolVersion":    modernVersion,
		"io.modelcontextprotocol/clientInfo":         self(),
		"io.modelcontextprotocol/clientCapabilities": map[string]any{},
	}
	return rpcRequest{Method: method, Params: params}
}

// post sends a message with the headers of the transport and those in extra, which
// win.
func (v *visit) post(m rpcRequest, extra ...http.Header) (answer, error) {
	return v.ask(http.MethodPost, joined(append([]http.Header{jsonHeaders()}, extra...)...), m.bytes())
}

// joined are all headers; later ones win.
func joined(headers ...http.Header) http.Header {
	all := http.Header{}
	for _, h := range headers {
		maps.Copy(all, h)
	}
	return all
}
