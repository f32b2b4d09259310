package loopback

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/stile-mcp/stile/internal/fetch"
	"github.com/stile-mcp/stile/stepup"
)

// errNoBrowser says that there is nothing to open an address with.
var errNoBrowser = errors.New("no browser here")

// maxAddress is the longest address that is opened, in bytes: systems have a limit
// for what a program is called with.
const maxAddress = 16 << 10

// checkAddress returns the address to open if it is safe to: https, or http to this
// machine for an MCP server on this machine, in the characters of RFC 3986.
func checkAddress(r stepup.Request) (string, error) {
	u, err := fetch.CheckURL(r.URL, true)
	if err != nil {
		return "", fmt.Errorf("the address to log in at is not safe to open: %w", err)
	}
	address := u.String()
	resource, err := url.Parse(r.Resource)
	switch {
	case err != nil || fetch.IsLoopback(u.Hostname()) && !fetch.IsLoopback(resource.Hostname()):
		return "", errors.New("the address to log in at is not safe to open: a server elsewhere sends the browser to this machine")
	case len(address) > maxAddress:
		return "", fmt.Errorf("the address to log in at is longer than %d bytes", maxAddress)
	}
	for _, c := range address {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && !strings.ContainsRune("-._~:/?#[]@!$&'()*+,;=%", c) {
			return "", fmt.Errorf("the address to log in at is not safe to open: it has the character %q", c)
		}
	}
	return address, nil
}

// openBrowser has the system open an address, and waits for the program that does.
// It ends by itself; a browser that it became lives on when this process ends.
func openBrowser(address string) error {
	command, err := openerFor(runtime.GOOS, os.Getenv, exec.LookPath)
	if err != nil {
		return err
	}
	c := exec.Command(command[0], append(command[1:], address)...)
	c.Env = append(os.Environ(), here(runtime.GOOS).desktop()...)
	c.SysProcAttr = detached()
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w", command[0], err)
	}
	return nil
}

// openerFor is the program that opens addresses on a system, with what it takes
// before the address. None of them is a shell.
func openerFor(goos string, getenv func(string) string, look func(string) (string, error)) ([]string, error) {
	if goos == "windows" {
		return []string{"rundll32", "url.dll,FileProtocolHandler"}, nil
	}
	// A list of browsers, or one with arguments, is what xdg-open knows to read.
	if b := getenv("BROWSER"); b != "" && !strings.ContainsAny(b, ": \t%") {
		if path, err := look(b); err == nil {
			return []string{path}, nil
		}
	}
	name := "xdg-open"
	if goos == "darwin" {
		name = "open"
	}
	path, err := look(name)
	if err != nil {
		return nil, errNoBrowser
	}
	return []string{path}, nil
}
