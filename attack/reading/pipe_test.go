package reading_test

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// child is a decoder in another language that lives as long as the tests.
type child struct {
	program, script, install string

	once sync.Once
	err  error // why it does not run
	cmd  *exec.Cmd

	mu  sync.Mutex // guards the two pipes, and that an answer is that of its question
	in  io.WriteCloser
	out *bufio.Reader
}

// children are started when first asked.
var children = []*child{
	{program: "node", script: "pipe/reader.mjs", install: "install Node 20 or later"},
	{program: "python3", script: "pipe/reader.py", install: "install it: apt-get install python3"},
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, c := range children {
		c.end()
	}
	os.Exit(code)
}

func (c *child) start() {
	path, err := exec.LookPath(c.program)
	if err != nil {
		c.err = fmt.Errorf("%s is missing, and Stile's reading must be held against it: %s (%w)", c.program, c.install, err)
		return
	}
	c.cmd = exec.Command(path, c.script)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		c.err = err
		return
	}
	if c.in, c.err = c.cmd.StdinPipe(); c.err != nil {
		return
	}
	c.out = bufio.NewReader(out)
	c.err = c.cmd.Start()
}

// end closes the child's input, at which it ends.
func (c *child) end() {
	if c.cmd == nil || c.cmd.Process == nil {
		return
	}
	_ = c.in.Close()
	_ = c.cmd.Wait() // its exit code tells nothing about Stile
}

// ask returns what the child sees in body, by view. A view that refuses is left
// out. The error is that of the child itself.
func (c *child) ask(body []byte) (map[string]*seen, error) {
	c.once.Do(c.start)
	if c.err != nil {
		return nil, c.err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	if _, err := c.in.Write(append(frame, body...)); err != nil {
		return nil, fmt.Errorf("%s: %w", c.program, err)
	}
	if _, err := io.ReadFull(c.out, frame); err != nil {
		return nil, fmt.Errorf("%s ended at %q: %w", c.program, body, err)
	}
	reply := make([]byte, binary.BigEndian.Uint32(frame))
	if _, err := io.ReadFull(c.out, reply); err != nil {
		return nil, fmt.Errorf("%s ended at %q: %w", c.program, body, err)
	}
	return c.views(reply)
}

// views reads an answer of a child.
func (c *child) views(reply []byte) (map[string]*seen, error) {
	var answer map[string]map[member]json.RawMessage
	if err := json.Unmarshal(reply, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w: %q", c.program, err, reply)
	}
	all := map[string]*seen{}
	for view, members := range answer {
		if members["refused"] != nil {
			continue
		}
		s := &seen{members: map[member]any{}}
		if c.program == "node" {
			s.spelling = asDouble
		}
		for _, what := range []member{method, id, result, failure, params, name, uri, arguments, taskID, refName, refURI} {
			s.members[what] = absent{}
			if raw := members[what]; raw != nil {
				v, err := taggedTree(raw)
				if err != nil {
					return nil, fmt.Errorf("%s: %w: %q", c.program, err, reply)
				}
				s.members[what] = v
			}
		}
		if view == "copied" {
			// A copy of the whole has lost what only a copy of the arguments may
			// lose; authorize refuses those where a rule reads them.
			delete(s.members, params)
		}
		all[c.program+" "+view] = s
	}
	return all, nil
}

// taggedTree reads a value as the children write it.
func taggedTree(raw json.RawMessage) (any, error) {
	var v struct {
		S *string              `json:"s"`
		N *string              `json:"n"`
		B *bool                `json:"b"`
		A []json.RawMessage    `json:"a"`
		O [][2]json.RawMessage `json:"o"`
		Z bool                 `json:"z"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, err
	}
	switch {
	case v.S != nil:
		return *v.S, nil
	case v.N != nil:
		return number(*v.N), nil
	case v.B != nil:
		return *v.B, nil
	case v.Z:
		return nil, nil
	case v.A != nil:
		list := make([]any, 0, len(v.A))
		for _, item := range v.A {
			t, err := taggedTree(item)
			if err != nil {
				return nil, err
			}
			list = append(list, t)
		}
		return list, nil
	case v.O != nil:
		return taggedObject(v.O)
	}
	return nil, errors.New("an untagged value")
}

func taggedObject(pairs [][2]json.RawMessage) (any, error) {
	object := map[string]any{}
	for _, pair := range pairs {
		var key string
		if err := json.Unmarshal(pair[0], &key); err != nil {
			return nil, err
		}
		t, err := taggedTree(pair[1])
		if err != nil {
			return nil, err
		}
		object[key] = t
	}
	return object, nil
}
