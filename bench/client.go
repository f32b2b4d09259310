package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// client is one raw HTTP/1.1 connection that makes one call after the other and
// holds every answer, byte for byte, against what the upstream must have said.
type client struct {
	addr string
	call *call
	body []byte // its own copy, since the id changes
	nc   net.Conn
	r    *bufio.Reader
	want []byte
	got  []byte
}

// answerTimeout is how long an answer may take before it counts as broken.
const answerTimeout = 20 * time.Second

func newClient(addr string, c *call) *client {
	return &client{addr: addr, call: c, body: bytes.Clone(c.body), r: bufio.NewReaderSize(nil, 64<<10)}
}

func (c *client) close() {
	if c.nc != nil {
		_ = c.nc.Close()
		c.nc = nil
	}
}

// do makes one call. After an error the next call gets a new connection.
func (c *client) do(head []byte, n uint64) error {
	err := c.try(head, n)
	if err != nil {
		c.close()
	}
	return err
}

func (c *client) try(head []byte, n uint64) error {
	id := putID(c.body, n)
	status, err := c.begin(head)
	if err != nil {
		return err
	}
	c.want = c.call.answer(c.want[:0], id)
	if err := c.readBody(status); err != nil {
		return err
	}
	if status.code != 200 {
		return fmt.Errorf("status %d: %.200s", status.code, c.got)
	}
	if c.call.judge != nil {
		if err := c.call.judge(c.got, id); err != nil {
			return err
		}
	} else if !bytes.Equal(c.got, c.want) {
		return fmt.Errorf("%d bytes that differ from the %d expected: %.200q", len(c.got), len(c.want), c.got)
	}
	if status.close {
		c.close()
	}
	return nil
}

// begin sends the call and reads the head of the answer.
func (c *client) begin(head []byte) (status, error) {
	if c.nc == nil {
		nc, err := net.DialTimeout("tcp", c.addr, 5*time.Second)
		if err != nil {
			return status{}, err
		}
		c.nc = nc
		c.r.Reset(nc)
	}
	if err := c.nc.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return status{}, err
	}
	parts := net.Buffers{head, c.body} // one write
	if _, err := parts.WriteTo(c.nc); err != nil {
		return status{}, err
	}
	return readStatus(c.r)
}

// status is what matters of the head of an answer.
type status struct {
	code    int
	length  int // -1: chunked
	close   bool
	chunked bool
}

func readStatus(r *bufio.Reader) (status, error) {
	line, err := readLine(r)
	if err != nil {
		return status{}, err
	}
	s := status{length: -1}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return s, fmt.Errorf("no status line: %.80q", line)
	}
	if s.code, err = strconv.Atoi(string(line[9:12])); err != nil {
		return s, err
	}
	for {
		if line, err = readLine(r); err != nil {
			return s, err
		}
		if len(line) == 0 {
			return s, nil
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			s.length, err = strconv.Atoi(string(value))
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			s.chunked = true
		case bytes.EqualFold(name, []byte("Connection")):
			s.close = bytes.EqualFold(value, []byte("close"))
		}
		if err != nil {
			return s, err
		}
	}
}

func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

var errUnframed = errors.New("the answer has neither length nor chunks")

func (c *client) readBody(s status) error {
	c.got = c.got[:0]
	switch {
	case s.chunked:
		for {
			n, err := c.readChunk()
			if n == 0 || err != nil {
				return err
			}
		}
	case s.length >= 0:
		return c.read(s.length)
	default:
		return errUnframed
	}
}

// readChunk reads one chunk; the last one has no bytes.
func (c *client) readChunk() (int, error) {
	line, err := readLine(c.r)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(line), 16, 31)
	if err != nil {
		return 0, err
	}
	if err := c.read(int(n)); err != nil {
		return 0, err
	}
	line, err = readLine(c.r)
	if err == nil && len(line) > 0 {
		err = fmt.Errorf("a chunk that does not end: %.80q", line)
	}
	return int(n), err
}

func (c *client) read(n int) error {
	at := len(c.got)
	if cap(c.got) < at+n {
		c.got = append(make([]byte, 0, 2*(at+n)), c.got...)
	}
	c.got = c.got[:at+n]
	_, err := io.ReadFull(c.r, c.got[at:])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
