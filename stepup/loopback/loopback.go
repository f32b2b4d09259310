// Package loopback is a stepup.Person for programs on a desk: it opens the system's
// browser and takes the answer at a port of 127.0.0.1 (RFC 8252 §7.3). Where there
// is no browser it prints the address, and takes the answer pasted as well.
//
// Addresses come from documents of strangers. They are opened only if they are https,
// or http to this machine while the MCP server is on this machine too, and no shell
// ever sees one (attacks.md: CVE-2025-6514).
package loopback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/stile-mcp/stile/stepup"
)

// Path is where answers are taken.
const Path = "/callback"

// Config says how a person is reached. The zero value is good.
type Config struct {
	// Port is the one to take answers at, for clients that were registered with it.
	// Default: that of the last registration if it is free, else a free one.
	Port int
	// NoBrowser has addresses printed and never opened, as it is without a screen
	// and in a remote shell.
	NoBrowser bool
	// Browser opens an address and returns when that is done or has failed; it may
	// take as long as the browser runs. It is called by a goroutine of its own.
	// Default: the browser of the system, or what $BROWSER names if that is one
	// program.
	Browser func(address string) error
	// Out is where addresses are printed. Default: standard error.
	Out io.Writer
	// Paste is where pasted answers come from, a line each. It is read from the
	// first time that a browser is missing until it ends. Default: the terminal of
	// the process, if Out is a terminal and this process is in its foreground.
	Paste io.Reader
	// Tell is told what is going on, in one line for the person at the client. It
	// may be called by several goroutines. Optional.
	Tell func(text string)
}

// Person authorises in the browser of this desk. It is safe for concurrent use.
type Person struct {
	config Config
	pasted *pump // nil: Config.Paste is
}

// New returns a Person.
func New(c Config) *Person {
	c.NoBrowser = c.NoBrowser || c.Browser == nil && here(runtime.GOOS).screenless()
	if c.Browser == nil {
		c.Browser = openBrowser
	}
	if c.Out == nil {
		c.Out = os.Stderr
	}
	if c.Tell == nil {
		c.Tell = func(string) {}
	}
	p := &Person{config: c}
	if c.Paste != nil {
		p.pasted = newPump(c.Paste)
	}
	return p
}

// Bounds of the callback.
const (
	maxHeader   = 64 << 10         // bytes; codes of some issuers are long
	readTime    = 10 * time.Second // for a request
	outcomeTime = 15 * time.Second // a page waits so long for the token
	leaveTime   = 2 * time.Second  // Close waits so long for the page to be sent
)

// Begin listens at a port of 127.0.0.1: the one of the configuration, else that of
// the preferred redirect URI if it is free, else any.
func (p *Person) Begin(ctx context.Context, preferred string) (stepup.Visit, error) {
	listener, err := p.listen(ctx, portOf(preferred))
	if err != nil {
		return nil, err
	}
	v := &visit{p: p, host: listener.Addr().String(), listener: listener, answers: make(chan url.Values, 1), told: make(chan struct{})}
	v.server = &http.Server{Handler: v, ReadHeaderTimeout: readTime, MaxHeaderBytes: maxHeader, ErrorLog: quiet()}
	v.server.SetKeepAlivesEnabled(false)
	go func() { _ = v.server.Serve(listener) }()
	return v, nil
}

func (p *Person) listen(ctx context.Context, preferred int) (net.Listener, error) {
	var c net.ListenConfig
	at := func(port int) (net.Listener, error) {
		return c.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	if p.config.Port != 0 {
		listener, err := at(p.config.Port)
		if err != nil {
			return nil, fmt.Errorf("the port for the answer of the login: %w", err)
		}
		return listener, nil
	}
	if preferred != 0 {
		if listener, err := at(preferred); err == nil {
			return listener, nil
		}
	}
	return at(0)
}

// portOf is the port of a redirect URI of an earlier visit; 0 if it is none.
func portOf(redirect string) int {
	u, err := url.Parse(redirect)
	if err != nil || u.Scheme != "http" || u.Hostname() != "127.0.0.1" || u.Path != Path || u.RawQuery != "" {
		return 0
	}
	port, _ := strconv.Atoi(u.Port())
	return port
}

// visit is one login. It is also the handler of the callback.
type visit struct {
	p        *Person
	host     string
	listener net.Listener
	server   *http.Server
	answers  chan url.Values // holds the one answer
	told     chan struct{}   // closed when outcome is known
	once     sync.Once
	outcome  error
	request  request
}

// RedirectURI is where the answer is taken.
func (v *visit) RedirectURI() string { return "http://" + v.host + Path }

// Authorize opens the address, or prints it, and waits for the answer.
func (v *visit) Authorize(ctx context.Context, r stepup.Request) (url.Values, error) {
	address, err := checkAddress(r)
	if err != nil {
		return nil, err
	}
	v.request.set(r)
	say := wording{redirect: v.RedirectURI(), address: address, request: r}
	failed := make(chan error, 1)
	if v.p.config.NoBrowser {
		failed <- errNoBrowser
	} else {
		v.p.config.Tell(say.opening())
		v.p.print(say.openingAt())
		go func() { failed <- v.p.config.Browser(address) }()
	}
	pasted, stop := make(chan url.Values), func() {}
	defer func() { stop() }()
	for {
		select {
		case answer := <-v.answers:
			return answer, nil
		case answer := <-pasted:
			return answer, nil
		case err := <-failed:
			if err == nil {
				continue
			}
			stop = v.p.withoutBrowser(ctx, say, err, pasted)
		case <-ctx.Done():
			return nil, fmt.Errorf("nobody answered the login: %w", cmp.Or(context.Cause(ctx), ctx.Err()))
		}
	}
}

// withoutBrowser prints the address, and takes pasted answers until stop is called.
func (p *Person) withoutBrowser(ctx context.Context, say wording, err error, pasted chan<- url.Values) (stop func()) {
	p.config.Tell(say.byHand())
	if !errors.Is(err, errNoBrowser) {
		p.print("The browser could not be opened: " + plain(err.Error()) + "\n")
	}
	lines := p.lines()
	p.print(say.byHandAt(lines != nil))
	if lines == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer lines.close()
		p.takePasted(ctx, lines, say, pasted)
	}()
	return func() { cancel(); <-done }
}

func (p *Person) print(text string) { _, _ = io.WriteString(p.config.Out, text) }

// Told lets the page in the browser say how it ended, and Tell that it went well.
// What went wrong is the error of the request that wanted it.
func (v *visit) Told(err error) {
	v.once.Do(func() {
		v.outcome = err
		close(v.told)
		if r := v.request.get(); r != nil && err == nil {
			text := outcomePage(*r, nil).Title + " (" + plain(r.Resource) + ")."
			v.p.config.Tell(text)
			v.p.print(text + "\n")
		}
	})
}

// Close stops listening, once a page that is being sent has gone.
func (v *visit) Close() error {
	v.Told(errors.New("the login was broken off"))
	_ = v.listener.Close()
	v.request.wait(leaveTime)
	return v.server.Close()
}
