package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// A call is a tools/call of 2026-07-28 whose tool is named after what the
// upstream is to answer with, so that neither proxy has to be told.
type call struct {
	tool string
	body []byte // with the id at idAt
	text int    // bytes of filler in the request
	back int    // bytes of filler in the answer
	rows int    // events before the answer; -1: the answer is JSON
	// judge holds an answer against the call where its bytes may differ; nil: it
	// must be the one that answer makes.
	judge func(got, id []byte) error
}

const (
	idDigits = 12
	bodyHead = `{"jsonrpc":"2.0","id":"`
	bodyMid  = `","method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientCapabilities":{}},"name":"`
	bodyArgs = `","arguments":{"text":"`
	bodyTail = `"}}}`

	answerHead = `{"jsonrpc":"2.0","id":"`
	answerMid  = `","result":{"resultType":"complete","content":[{"type":"text","text":"`
	answerTail = `"}]}}`

	eventHead = "event: message\ndata: "
	eventTail = "\n\n"
	progress  = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":`
)

var idAt = len(bodyHead)

// calls by tool. The filler sizes make the bodies about what the name says.
var callsByTool = map[string]*call{}

func init() {
	const kib = 1 << 10
	for _, c := range []call{
		{tool: "small", text: 2 * kib, back: 2 * kib, rows: -1},
		{tool: "both64k", text: 64 * kib, back: 64 * kib, rows: -1},
		{tool: "put1m", text: 1024 * kib, back: 64, rows: -1},
		{tool: "get1m", text: 64, back: 1024 * kib, rows: -1},
		{tool: "event", text: 2 * kib, back: 2 * kib, rows: 0},
		{tool: "events1000", text: 2 * kib, back: 2 * kib, rows: 1000},
		{tool: "wait", text: 64, back: 0, rows: 1},
	} {
		c.body = slab(bodyHead, zeros, bodyMid, c.tool, bodyArgs, string(filler(c.text)), bodyTail)
		callsByTool[c.tool] = &c
	}
}

var zeros = string(bytes.Repeat([]byte{'0'}, idDigits))

func slab(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// filler is text as tools return it: lines of English, a quotation now and then,
// and few characters beyond ASCII.
func filler(n int) []byte {
	const line = `Nobody minds the quick brown fox that jumps over the lazy dog, 42 times a day.\n`
	words := []byte(strings.Repeat(line, 7) + `\"Größe\" is what they call it – a size.\n`)
	b := bytes.Repeat(words, n/len(words)+1)[:n]
	for n > 0 && (b[n-1] >= 0x80 || b[n-1] == '\\') {
		b[n-1] = '.'
		n--
	}
	return b
}

// putID writes the number of a call into its body.
func putID(body []byte, n uint64) []byte {
	id := body[idAt : idAt+idDigits]
	for i := idDigits - 1; i >= 0; i-- {
		id[i] = '0' + byte(n%10)
		n /= 10
	}
	return id
}

// answer appends what the upstream answers to a call with that id.
func (c *call) answer(b, id []byte) []byte {
	if c.rows < 0 {
		return c.result(b, id)
	}
	for i := range c.rows {
		b = event(b, i)
	}
	if c.tool == "wait" {
		return b
	}
	b = append(b, eventHead...)
	b = c.result(b, id)
	return append(b, eventTail...)
}

func (c *call) result(b, id []byte) []byte {
	b = append(append(b, answerHead...), id...)
	b = append(append(b, answerMid...), fillers[c.back]...)
	return append(b, answerTail...)
}

func event(b []byte, i int) []byte {
	b = append(append(b, eventHead...), progress...)
	b = strconv.AppendInt(b, int64(i), 10)
	return append(append(b, "}}"...), eventTail...)
}

var fillers = map[int][]byte{}

func init() {
	for _, c := range callsByTool {
		if fillers[c.back] == nil {
			fillers[c.back] = filler(c.back)
		}
	}
}

// head is everything before the body of a request.
func (c *call) head(addr, token string) []byte {
	auth := ""
	if token != "" {
		auth = "Authorization: Bearer " + token + "\r\n"
	}
	return fmt.Appendf(nil, "POST /mcp HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nContent-Type: application/json\r\n"+
		"Accept: application/json, text/event-stream\r\nMcp-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: %s\r\n"+
		"%sContent-Length: %d\r\n\r\n", addr, c.tool, auth, len(c.body))
}
