package main

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/stile-mcp/stile/doctor"
	"github.com/stile-mcp/stile/stepup/loopback"
)

// doctorCommand looks at a protected MCP server as a client would.
type doctorCommand struct {
	JSON      bool   `name:"json" xor:"form" help:"Write the report as JSON."`
	Markdown  bool   `name:"md" xor:"form" help:"Write the report as Markdown."`
	Login     bool   `xor:"who" help:"Log in in a browser, to go on as a client would. The login is forgotten afterwards."`
	TokenFile string `xor:"who" placeholder:"FILE" help:"Go on with an access token of a first login: in a file, - for standard input. Default: STILE_TOKEN of the environment, if it is set."`
	Call      string `placeholder:"NAME" help:"An operation that the login may not use yet, to try a step-up: a tool, or a method and a name, as \"prompts/get summarise\". It is really called."`
	Args      string `placeholder:"JSON" help:"The arguments of --call."`

	Scope             []string      `group:"With --login" sep:"none" placeholder:"SCOPES" help:"Ask for these too, with spaces between. May be repeated."`
	ClientID          string        `group:"With --login" name:"client-id" placeholder:"ID" help:"A client that the issuer knows. Default: one that registers itself."`
	ClientSecretFile  string        `group:"With --login" placeholder:"FILE" help:"The secret of --client-id. Default: STILE_CLIENT_SECRET of the environment, if it is set."`
	ClientMetadataURL string        `group:"With --login" name:"client-metadata-url" placeholder:"URL" help:"A client id metadata document that allows http://127.0.0.1/callback, for issuers that read one."`
	CallbackPort      int           `group:"With --login" placeholder:"PORT" help:"Take the answer of a login at this port of 127.0.0.1. Default: any."`
	NoBrowser         bool          `group:"With --login" help:"Print the address of a login, do not open it; the answer may be pasted."`
	Timeout           time.Duration `group:"With --login" default:"5m" help:"How long a login may take. Default: ${default}."`

	CA string `name:"ca" placeholder:"FILE" help:"Certificates to trust instead of the system's, as PEM."`

	URL string `arg:"" help:"The endpoint."`
}

// Exit codes of doctor, by what is worst.
const (
	exitWarnings = 3
	exitErrors   = 4
)

// foundTrouble ends doctor with the exit code of the worst finding when everything
// has been said.
type foundTrouble int

func (foundTrouble) Error() string { return "something is wrong with the server" }

func (c *doctorCommand) run(p *process) error {
	o := doctor.Options{URL: c.URL}
	var err error
	if o.Call, err = c.operation(); err != nil {
		return err
	}
	if err := c.checkLogin(); err != nil {
		return err
	}
	if o.Login, err = c.login(p); err != nil {
		return err
	}
	if o.Login == nil {
		if o.Token, err = c.token(p); err != nil {
			return err
		}
	}
	if o.Call != nil && o.Token == "" && o.Login == nil {
		return usageError{"--call needs a login or an access token: give --login or --token-file, or set STILE_TOKEN"}
	}
	if c.CA != "" {
		if o.RootCAs, err = readCertificates(p.around, c.CA); err != nil {
			return err
		}
	}
	report, err := doctor.Examine(p.ctx, o)
	if p.ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	if err := c.write(p.stdout, report); err != nil {
		return err
	}
	switch worst, _ := report.Worst(); worst {
	case doctor.Error:
		return foundTrouble(exitErrors)
	case doctor.Warning:
		return foundTrouble(exitWarnings)
	}
	return nil
}

// checkLogin refuses what is for --login only.
func (c *doctorCommand) checkLogin() error {
	switch {
	case !c.Login && (len(c.Scope) > 0 || c.ClientID != "" || c.ClientSecretFile != "" || c.ClientMetadataURL != "" || c.CallbackPort != 0 || c.NoBrowser):
		return usageError{"--scope, --client-id, --client-secret-file, --client-metadata-url, --callback-port and --no-browser: expected with --login"}
	case c.ClientMetadataURL != "" && c.ClientID != "":
		return usageError{"--client-metadata-url: it is a client of its own, beside --client-id"}
	case c.ClientSecretFile != "" && c.ClientID == "":
		return usageError{"--client-secret-file: expected with --client-id"}
	case c.CallbackPort < 0 || c.CallbackPort > 65535:
		return usageError{"--callback-port: expected 1 to 65535"}
	case c.Timeout <= 0:
		return usageError{"--timeout: expected a time span above zero"}
	}
	return nil
}

// login is how to log in; nil without --login.
func (c *doctorCommand) login(p *process) (*doctor.Login, error) {
	if !c.Login {
		return nil, nil
	}
	client, err := (&connectCommand{ClientID: c.ClientID, ClientSecretFile: c.ClientSecretFile}).client(p.around)
	if err != nil {
		return nil, err
	}
	desk := loopback.New(loopback.Config{Port: c.CallbackPort, NoBrowser: c.NoBrowser, Out: p.stderr, Paste: p.stdin,
		Tell: func(text string) { fmt.Fprintln(p.stderr, "stile:", printable(text)) }})
	return &doctor.Login{Person: desk, Client: client, ClientMetadataURL: c.ClientMetadataURL, Scopes: strings.Fields(strings.Join(c.Scope, " ")), Timeout: c.Timeout}, nil
}

// operation is what --call and --args name.
func (c *doctorCommand) operation() (*doctor.Call, error) {
	if c.Call == "" {
		if c.Args != "" {
			return nil, usageError{"--args: expected with --call"}
		}
		return nil, nil
	}
	call := &doctor.Call{Method: "tools/call", Target: c.Call}
	if method, target, found := strings.Cut(c.Call, " "); found {
		call.Method, call.Target = method, strings.TrimSpace(target)
	}
	if c.Args != "" {
		var object map[string]any
		if json.Unmarshal([]byte(c.Args), &object) != nil || object == nil {
			return nil, usageError{"--args: expected a JSON object"}
		}
		call.Args = json.RawMessage(c.Args)
	}
	return call, nil
}

// maxToken is the longest token that is read, in bytes.
const maxToken = 64 << 10

// token is the access token to go on with. It is never taken from the command line,
// where others could read it.
func (c *doctorCommand) token(p *process) (string, error) {
	if c.TokenFile == "" {
		token, _ := p.around.lookup("STILE_TOKEN")
		return strings.TrimSpace(token), nil
	}
	var (
		data []byte
		err  error
	)
	if c.TokenFile == "-" {
		data, err = io.ReadAll(io.LimitReader(p.stdin, maxToken))
	} else {
		data, err = p.around.read(c.TokenFile)
	}
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", plainFileError(err))
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("--token-file: %s: expected one token and nothing else", c.TokenFile)
	}
	return token, nil
}

// readCertificates reads who may vouch for a server.
func readCertificates(around surroundings, name string) (*x509.CertPool, error) {
	data, err := around.read(name)
	if err != nil {
		return nil, fmt.Errorf("--ca: %s: %w", name, plainFileError(err))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("--ca: %s: expected certificates as PEM", name)
	}
	return pool, nil
}

func (c *doctorCommand) write(w io.Writer, r doctor.Report) error {
	switch {
	case c.JSON:
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(r)
	case c.Markdown:
		return r.WriteMarkdown(w)
	}
	return r.WriteText(w, isColourful(w))
}

// isColourful reports whether colours would be seen: on a terminal, unless NO_COLOR
// is set.
func isColourful(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
