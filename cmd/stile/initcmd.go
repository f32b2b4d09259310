package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/stile-mcp/stile/internal/ask"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/propose"
)

// initCommand asks a server what it offers and writes a stile.yaml to start from.
type initCommand struct {
	Output    string        `short:"o" default:"stile.yaml" placeholder:"FILE" help:"The file to write, which must not be there yet; - for standard output. Default: ${default}."`
	Name      string        `placeholder:"NAME" help:"What scopes begin with. Default: what the server calls itself."`
	PublicURL string        `name:"public-url" placeholder:"URL" help:"What clients see, such as https://mcp.example.com."`
	Issuer    string        `placeholder:"URL" help:"Who issues tokens. Default: Stile itself, with accounts of its own."`
	APIKey    bool          `name:"api-key" help:"Make an API key that opens everything, and print it."`
	Header    []string      `sep:"none" placeholder:"NAME:VALUE" help:"A header for every request to the URL; $${VAR} stands for a variable of the environment, in the file too."`
	Env       []string      `sep:"none" placeholder:"NAME[=VALUE]" help:"A variable for the command: as given, or as it is set here."`
	Timeout   time.Duration `default:"1m" help:"How long the server may take. Default: ${default}."`
	Target    []string      `arg:"" optional:"" help:"The URL of an MCP server, or -- and a command that speaks stdio."`
}

func (c *initCommand) run(p *process) error {
	target, setup, err := c.target(p.around)
	if err != nil {
		return err
	}
	if err := c.free(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, c.Timeout)
	defer cancel()
	inventory, err := ask.Inventory(ctx, target)
	if err != nil {
		return errors.New(printable(err.Error()))
	}
	proposal := propose.Make(inventory, c.Name)
	key := ""
	if c.APIKey {
		key, setup.KeySHA256 = newKey()
	}
	text := proposal.YAML(setup)
	if err := tryProposal(c.Output, text, proposal, p.around); err != nil {
		return err
	}
	if err := c.write(text, p.stdout); err != nil {
		return err
	}
	told := p.stdout
	if c.Output == "-" {
		told = p.stderr
	}
	return c.tell(told, proposal, key)
}

// target reads the command line.
func (c *initCommand) target(around surroundings) (ask.Target, propose.Setup, error) {
	target := ask.Target{}
	setup := propose.Setup{PublicURL: c.PublicURL, Issuer: c.Issuer}
	if err := c.checkFlags(); err != nil {
		return target, setup, err
	}
	if isURL(c.Target) {
		var list problem.List
		checkUpstream(&list, "", c.Target[0])
		if len(list) > 0 {
			return target, setup, usageError{strings.TrimPrefix(list[0].Error(), ": ")}
		}
		header, written, err := headersOf(c.Header, around)
		target.URL, target.Header, setup.URL, setup.Headers = c.Target[0], header, c.Target[0], written
		return target, setup, err
	}
	env, err := environment(c.Env, around)
	if err != nil {
		return target, setup, err
	}
	target.Command, target.Env = c.Target, env
	setup.Command, setup.Env = c.Target, map[string]string{}
	for _, one := range c.Env {
		name, value, given := strings.Cut(one, "=")
		setup.Env[name] = "${" + name + "}"
		if given {
			setup.Env[name] = strings.ReplaceAll(value, "$", "$$")
		}
	}
	return target, setup, noFileReference(append(slices.Collect(maps.Values(setup.Env)), c.Target...))
}

// noFileReference refuses what the file has no way to say.
func noFileReference(values []string) error {
	for _, value := range values {
		if strings.HasPrefix(value, "file:") {
			return usageError{printable(value) + `: in a configuration, what begins with "file:" is the content of that file`}
		}
	}
	return nil
}

// checkFlags looks at what can be wrong before anything is asked.
func (c *initCommand) checkFlags() error {
	switch {
	case len(c.Target) == 0:
		return usageError{"expected the URL of an MCP server, or -- and a command that speaks stdio"}
	case c.Name != "" && propose.SafeName(c.Name) != c.Name:
		return usageError{fmt.Sprintf("--name %q: expected lower-case letters, digits, and \".\", \"_\" and \"-\" between them, such as %s",
			printable(c.Name), propose.SafeName(c.Name))}
	case c.PublicURL != "" && !isOrigin(c.PublicURL):
		return usageError{fmt.Sprintf("--public-url %q: expected \"https://host\" with an optional port, without path or trailing slash", printable(c.PublicURL))}
	case c.Issuer != "" && secureURL(c.Issuer) == nil:
		return usageError{fmt.Sprintf("--issuer %q: expected an https URL, or http on loopback", printable(c.Issuer))}
	case c.Timeout <= 0:
		return usageError{"--timeout: expected more than nothing, such as 30s"}
	case len(c.Header) > 0 && !isURL(c.Target):
		return usageError{"--header is only for URLs: a command gets its credentials by --env"}
	case len(c.Env) > 0 && isURL(c.Target):
		return usageError{"--env is only for commands: a URL gets its credentials by --header"}
	default:
		return nil
	}
}

// headersOf reads NAME:VALUE, for asking and as the file has it.
func headersOf(list []string, around surroundings) (http.Header, map[string]string, error) {
	header, written := http.Header{}, map[string]string{}
	for _, one := range list {
		name, text, ok := strings.Cut(one, ":")
		name, text = strings.TrimSpace(name), strings.TrimSpace(text)
		value, _, err := around.interpolate(text)
		if !ok || text == "" {
			err = errors.New("expected a name, a colon and a value")
		}
		var list problem.List
		checkHeader(&list, "", name, value)
		if err == nil && len(list) > 0 {
			err = errors.New(list[0].Want)
		}
		if err == nil {
			err = noFileReference([]string{text})
		}
		if err != nil {
			return nil, nil, usageError{"--header " + printable(name) + ": " + err.Error()}
		}
		header.Set(name, value)
		written[name] = text
	}
	return header, written, nil
}

// newKey makes an API key, long and random, and its hash.
func newKey() (key, hash string) {
	key = "stile_" + rand.Text()
	sum := sha256.Sum256([]byte(key))
	return key, hex.EncodeToString(sum[:])
}

// free says at once that the file is there, so that nothing is asked in vain.
func (c *initCommand) free() error {
	if c.Output == "-" {
		return nil
	}
	if _, err := os.Lstat(c.Output); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return err
		}
		return c.isThere()
	}
	return nil
}

func (c *initCommand) isThere() error {
	return fmt.Errorf("%s is there already, and init overwrites nothing: choose another name with -o, or - for standard output", c.Output)
}

// write writes a file that only its owner can read, and never over another.
func (c *initCommand) write(text []byte, stdout io.Writer) error {
	if c.Output == "-" {
		_, err := stdout.Write(text)
		return err
	}
	file, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return c.isThere()
	}
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(c.Output))
	}
	return nil
}

// tell says what was written and what to do next.
func (c *initCommand) tell(w io.Writer, p *propose.Proposal, key string) error {
	var b strings.Builder
	name := c.Output
	if name == "-" {
		name = "standard output"
	}
	fmt.Fprintf(&b, "%s: %s of %s\n\n", name, p.Count(), p.Name)
	tellGrants(&b, p)
	b.WriteString("\nEvery one of them was tried against these rules. The scopes follow the server's\n" +
		"own hints: read the file through before you rely on it.\n")
	if key != "" {
		b.WriteString("\n" + greetKey(key))
	}
	if c.Output != "-" {
		fmt.Fprintf(&b, "\nNext:\n  stile serve -c %s\n", c.Output)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// tellGrants tells the scopes, what each opens, and what none does.
func tellGrants(b *strings.Builder, p *propose.Proposal) {
	for _, g := range p.Grants {
		fmt.Fprintf(b, "  %-*s  %s\n", len(p.Name)+len(":write"), g.Scope, g.Count())
	}
	for i, left := range p.LeftOut {
		if i == 10 {
			fmt.Fprintf(b, "  and %d more\n", len(p.LeftOut)-i)
			break
		}
		if i == 0 {
			b.WriteString("\nLeft out, so refused:\n")
		}
		fmt.Fprintf(b, "  %s\n", left)
	}
}
