package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// maxPasswordLine bounds what is read for one password, in bytes.
const maxPasswordLine = 4096

// errNotTheSame is a password that was typed otherwise the second time.
var errNotTheSame = errors.New("the two passwords are not the same")

// newPassword asks for a password: twice and without showing it where somebody
// types, or one line of standard input where a program does. It is never taken
// from the command line, which every user of a machine can read.
func newPassword(p *process, name string) (string, error) {
	keyboard, ok := p.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(keyboard.Fd())) {
		return passwordLine(p.stdin)
	}
	first, err := prompt(p, keyboard, "Password for "+name+": ")
	if err != nil {
		return "", err
	}
	again, err := prompt(p, keyboard, "Again: ")
	if err == nil && first != again {
		err = errNotTheSame
	}
	return first, err
}

// passwordLine reads a line, of which only the end of the line is taken off.
func passwordLine(from io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(from, maxPasswordLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if line == "" {
		return "", errors.New("no password was given on standard input")
	}
	return line, nil
}

// prompt reads a line that is not shown. A signal ends it, and leaves the terminal
// as it was.
func prompt(p *process, keyboard *os.File, text string) (string, error) {
	fd := int(keyboard.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	fmt.Fprint(p.stderr, text)
	defer fmt.Fprintln(p.stderr)
	type typed struct {
		text []byte
		err  error
	}
	done := make(chan typed, 1)
	go func() {
		line, err := term.ReadPassword(fd)
		done <- typed{line, err}
	}()
	select {
	case t := <-done:
		return string(t.text), t.err
	case <-p.ctx.Done():
		return "", errors.Join(context.Cause(p.ctx), term.Restore(fd, before))
	}
}
