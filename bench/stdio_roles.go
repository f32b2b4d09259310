package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
)

// A line that a child gets, as Stile and the bare pipe send it. npm mcp-proxy
// writes it afresh, with the members in another order.
const (
	lineHead = `{"jsonrpc":"2.0","id":`
	lineCall = `,"method":"tools/call"`
)

// serveLines is an MCP server on standard input and output, of both eras, as cheap
// as it can be: it answers what the tools are called after.
func serveLines(in io.Reader, out io.Writer) error {
	r := bufio.NewReaderSize(in, 64<<10)
	var line, answer []byte
	for {
		part, err := r.ReadSlice('\n')
		if line = append(line, part...); errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if errors.Is(err, io.EOF) { // the client has closed the pipe
			return nil
		}
		if err != nil {
			return err
		}
		answer = answerLine(answer[:0], line)
		line = line[:0]
		if len(answer) == 0 {
			continue
		}
		if _, err := out.Write(append(answer, '\n')); err != nil {
			return err
		}
	}
}

// answerLine appends what a line is answered with, nothing where that is nothing.
func answerLine(b, line []byte) []byte {
	if rest, ok := bytes.CutPrefix(line, []byte(lineHead)); ok {
		if id, _, ok := bytes.Cut(rest[:min(len(rest), 64)], []byte(lineCall)); ok {
			return answerSmall(b, id, line)
		}
	}
	var m struct {
		ID     json.RawMessage
		Method string
	}
	if json.Unmarshal(line, &m) != nil || m.ID == nil {
		return b
	}
	switch m.Method {
	case "tools/call":
		return answerSmall(b, m.ID, line)
	case "initialize":
		return fmt.Appendf(b, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}}`, m.ID)
	case "server/discover":
		return fmt.Appendf(b, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28","2025-11-25"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}}`, m.ID)
	case "tools/list":
		return fmt.Appendf(b, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[{"name":"small","inputSchema":{"type":"object"}}]}}`, m.ID)
	case "subscriptions/listen":
		return fmt.Appendf(b, `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s},"notifications":{}}}`, m.ID)
	default:
		return fmt.Appendf(b, `{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)
	}
}

// answerSmall answers the call named "small", whose arguments must be whole.
func answerSmall(b, id, line []byte) []byte {
	c := callsByTool["small"]
	if !bytes.Contains(line, fillers[c.text]) {
		return fmt.Appendf(b, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"not what the client sent"}}`, id)
	}
	b = append(append(b, lineHead...), id...)
	b = append(append(b, answerMid[1:]...), fillers[c.back]...)
	return append(b, answerTail...)
}

// pipe is a child that is asked by several at once: the least that a program
// between HTTP and a pipe has to do.
type pipe struct {
	in      io.Writer
	writing sync.Mutex
	mu      sync.Mutex
	waiting map[string]chan []byte // by the digits of the id
}

func startPipe() (*pipe, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"=mcp")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p := &pipe{in: in, waiting: map[string]chan []byte{}}
	go p.read(out)
	return p, cmd.Start()
}

// read hands each line to who waits for it.
func (p *pipe) read(out io.Reader) {
	r := bufio.NewReaderSize(out, 64<<10)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			log.Println("the child is gone:", err)
			return
		}
		id := line[idAt : idAt+idDigits]
		p.mu.Lock()
		c := p.waiting[string(id)]
		delete(p.waiting, string(id))
		p.mu.Unlock()
		if c != nil {
			c <- line[:len(line)-1]
		}
	}
}

// ask sends a line and waits for its answer.
func (p *pipe) ask(line []byte) ([]byte, error) {
	id := string(line[idAt : idAt+idDigits])
	c := make(chan []byte, 1)
	p.mu.Lock()
	p.waiting[id] = c
	p.mu.Unlock()
	p.writing.Lock()
	_, err := p.in.Write(line)
	p.writing.Unlock()
	if err != nil {
		return nil, err
	}
	return <-c, nil
}

// ServeHTTP is net/http in front of the pipe and nothing else.
func (p *pipe) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := make([]byte, r.ContentLength, r.ContentLength+1)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		http.Error(w, "the body was cut off", http.StatusBadRequest)
		return
	}
	answer, err := p.ask(append(body, '\n'))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	_, _ = w.Write(answer)
}
