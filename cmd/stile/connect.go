package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/stile-mcp/stile/bridge"
	"github.com/stile-mcp/stile/internal/fetch"
	"github.com/stile-mcp/stile/stepup"
	"github.com/stile-mcp/stile/stepup/loopback"
	"github.com/stile-mcp/stile/stepup/saved"
)

// connectCommand is a bridge from a local client that speaks stdio to a protected
// server.
type connectCommand struct {
	Login  bool `xor:"do" help:"Log in now, and end."`
	Logout bool `xor:"do" help:"Forget the login, and end."`
	List   bool `xor:"do" help:"List the logins that are kept, and end."`

	Header []string `sep:"none" placeholder:"NAME=VALUE" help:"Sent with every request to the server; \"$${NAME}\" in it is taken from the environment. May be repeated."`
	Scope  []string `sep:"none" placeholder:"SCOPES" help:"Ask for these too at each login, with spaces between. May be repeated."`

	ClientID          string `name:"client-id" group:"Which client logs in" placeholder:"ID" help:"A client that the issuer knows. Default: one that registers itself, where the issuer lets it."`
	ClientSecretFile  string `group:"Which client logs in" placeholder:"FILE" help:"The secret of --client-id. Default: STILE_CLIENT_SECRET of the environment, if it is set."`
	ClientMetadataURL string `name:"client-metadata-url" group:"Which client logs in" placeholder:"URL" help:"A client id metadata document that allows http://127.0.0.1/callback, for issuers that read one."`
	Issuer            string `group:"Which client logs in" placeholder:"ISSUER" help:"Log in at this issuer only: a server that names another gets no secret, signature or assertion that way. Default: the one that the server names at first."`
	CallbackPort      int    `group:"Which client logs in" placeholder:"PORT" help:"Take the answer of a login at this port of 127.0.0.1, for a client that was registered with it. Default: any."`

	Grant         string `group:"Logging in without a browser" placeholder:"GRANT" help:"client_credentials: a login without a person, with the secret of --client-id or --key."`
	Key           string `group:"Logging in without a browser" placeholder:"FILE" help:"The private key that proves who --client-id is (private_key_jwt), as PEM or JWK."`
	KeyID         string `name:"key-id" group:"Logging in without a browser" placeholder:"ID" help:"The name of --key at the issuer. Default: the kid of a JWK."`
	AssertionFile string `group:"Logging in without a browser" placeholder:"FILE" help:"A login without a person, with the JWT in this file, which a platform renews (RFC 7523)."`

	IDP                 string `name:"idp" group:"Logging in without a browser" placeholder:"ISSUER" help:"The company's identity provider, which vouches for the person (enterprise-managed authorization)."`
	IDTokenFile         string `name:"id-token-file" group:"Logging in without a browser" placeholder:"FILE" help:"With --idp: the id token of the person."`
	IDPClientID         string `name:"idp-client-id" group:"Logging in without a browser" placeholder:"ID" help:"With --idp: the client at the identity provider."`
	IDPClientSecretFile string `name:"idp-client-secret-file" group:"Logging in without a browser" placeholder:"FILE" help:"With --idp: the secret of that client."`

	NoBrowser bool          `help:"Print the address of a login, do not open it."`
	CA        string        `name:"ca" placeholder:"FILE" help:"Certificates to trust instead of the system's, as PEM."`
	Proxy     string        `placeholder:"URL" help:"Go through this proxy. Default: what HTTPS_PROXY, HTTP_PROXY and NO_PROXY say."`
	Storage   saved.Storage `placeholder:"WHERE" default:"auto" help:"Where logins are kept: keyring, file, memory for nowhere, or auto: the keyring if there is one. Default: ${default}."`
	Timeout   time.Duration `default:"5m" help:"How long a login may take. Default: ${default}."`
	Debug     bool          `help:"Tell more on standard error, never secrets."`

	URL string `arg:"" optional:"" help:"The endpoint."`
}

// connection is what a connectCommand comes to.
type connection struct {
	url    string
	header http.Header
	store  stepup.Store
	config stepup.Config
	voice  *bridge.Voice
	log    *slog.Logger
}

func (c *connectCommand) run(p *process) error {
	if c.List {
		return c.list(p)
	}
	if err := c.check(); err != nil {
		return err
	}
	conn, err := c.connection(p)
	if err != nil {
		return err
	}
	switch {
	case c.Logout:
		return conn.logout(p)
	case c.Login:
		return conn.login(p, c.Timeout)
	}
	return conn.carry(p)
}

// check tells everything that is wrong with the command line at once.
func (c *connectCommand) check() error {
	var wrong []string
	add := func(bad bool, text string) {
		if bad {
			wrong = append(wrong, text)
		}
	}
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		add(true, "expected the URL of an MCP server")
	case err != nil || u.Host == "" || u.Opaque != "":
		add(true, fmt.Sprintf("%q: expected the URL of an MCP server, such as https://mcp.example.com/mcp", printable(c.URL)))
	case u.User != nil:
		add(true, "expected a URL without user information: give a credential with --header")
	case u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !fetch.IsLoopback(u.Hostname())):
		add(true, fmt.Sprintf("%q: expected an https URL (http only to this machine), without a fragment", printable(c.URL)))
	}
	add(!slices.Contains([]saved.Storage{saved.Auto, saved.Keyring, saved.File, inMemory}, c.Storage), "--storage: expected keyring, file, memory or auto")
	add(c.Timeout <= 0, "--timeout: expected a time span above zero")
	add(c.CallbackPort < 0 || c.CallbackPort > 65535, "--callback-port: expected 1 to 65535")
	add(c.ClientSecretFile != "" && c.ClientID == "", "--client-secret-file: expected with --client-id")
	add(c.ClientMetadataURL != "" && c.ClientID != "", "--client-metadata-url: it is a client of its own, beside --client-id")
	wrong = append(wrong, c.checkGrant()...)
	if len(wrong) > 0 {
		return usageError{strings.Join(wrong, "; ")}
	}
	return nil
}

// connection makes everything ready.
func (c *connectCommand) connection(p *process) (*connection, error) {
	level := slog.LevelWarn
	if c.Debug {
		level = slog.LevelDebug
	}
	conn := &connection{url: c.URL, voice: new(bridge.Voice), log: slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: level}))}
	var err error
	if conn.header, err = readHeaders(c.Header, p.around); err != nil {
		return nil, err
	}
	if conn.store, err = c.openStore(p, func(text string) { conn.voice.Say(text) }); err != nil {
		return nil, err
	}
	conn.config = stepup.Config{Store: conn.store, Scopes: strings.Fields(strings.Join(c.Scope, " ")), LoginTimeout: c.Timeout,
		ClientMetadataURL: c.ClientMetadataURL, Log: conn.log}
	if err := c.setNetwork(p, &conn.config); err != nil {
		return nil, err
	}
	if err := c.setClient(p, conn); err != nil {
		return nil, err
	}
	return conn, nil
}

// inMemory is to keep logins as long as the process lives.
const inMemory saved.Storage = "memory"

// openStore opens what keeps logins. What it tells goes to standard error too.
func (c *connectCommand) openStore(p *process, tell func(text string)) (stepup.Store, error) {
	if c.Storage == inMemory {
		return stepup.NewMemory(), nil
	}
	return saved.Open(saved.Options{Storage: c.Storage, Tell: func(text string) {
		fmt.Fprintln(p.stderr, "stile:", printable(text))
		tell(text)
	}})
}

// setClient says who logs in.
func (c *connectCommand) setClient(p *process, conn *connection) (err error) {
	if conn.config.Client, err = c.client(p.around); err != nil {
		return err
	}
	if conn.config.Grant, err = c.grant(p.around); err != nil || conn.config.Grant != nil {
		return err
	}
	desk := loopback.Config{Port: c.CallbackPort, NoBrowser: c.NoBrowser, Out: p.stderr, Tell: func(text string) { conn.voice.Say(text) }}
	if c.Login {
		desk.Paste = p.stdin
	}
	conn.config.Person = loopback.New(desk)
	return nil
}

// carry is the bridge.
func (conn *connection) carry(p *process) error {
	if keyboard, ok := p.stdin.(*os.File); ok && term.IsTerminal(int(keyboard.Fd())) {
		fmt.Fprintln(p.stderr, "This is for the configuration of an MCP client, which speaks to it. To log in now: stile connect --login URL")
	}
	transport, err := stepup.New(conn.config)
	if err != nil {
		return err
	}
	return bridge.Run(p.ctx, bridge.Config{URL: conn.url, Transport: explaining{transport}, Header: conn.header, In: p.stdin, Out: p.stdout,
		Voice: conn.voice, Advice: "Try again, or run \"stile connect --login " + conn.shown() + "\" in a terminal.", Log: conn.log})
}

// resource is the name under which the login is kept.
func (conn *connection) resource() string {
	u, err := url.Parse(conn.url)
	if err != nil {
		return conn.url
	}
	u.RawQuery, u.Fragment, u.User = "", "", nil
	return u.String()
}

// shown is the URL without what a query may hide: clients hand what they are told to a
// model, and write it down.
func (conn *connection) shown() string {
	if strings.Contains(conn.url, "?") {
		return conn.resource() + "?..."
	}
	return conn.resource()
}

// errInterrupted ends what a signal ended.
var errInterrupted = errors.New("interrupted")
