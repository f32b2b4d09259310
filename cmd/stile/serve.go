package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/internal/problem"
	"github.com/stile-mcp/stile/internal/stdio"
)

const (
	// headerTimeout is how long a request's head may take.
	headerTimeout = 10 * time.Second
	// idleTimeout is how long a quiet connection is kept.
	idleTimeout = 2 * time.Minute
	// maxHeaderBytes bounds a request's head: a 16 KiB token and room beside it.
	maxHeaderBytes = 64 << 10
	// lastWords is what streams get to say goodbye when the drain time is over.
	lastWords = 500 * time.Millisecond
)

// serveCommand runs the gateway.
type serveCommand struct {
	configFlag
	Debug   bool          `help:"Show every request, answer and message on standard error, without secrets."`
	Listen  string        `placeholder:"HOST:PORT" help:"With a URL or a command: where to listen. Default: 127.0.0.1:8080."`
	Env     []string      `short:"e" sep:"none" placeholder:"NAME[=VALUE]" help:"With a command: a variable it may see, besides PATH, HOME and the like."`
	APIKey  bool          `name:"api-key" help:"With a URL or a command: print a key that opens everything, instead of letting people sign in."`
	Timeout time.Duration `default:"1m" help:"With a URL or a command: how long it may take to say what it offers. Default: ${default}."`
	Target  []string      `arg:"" optional:"" help:"A URL, or after -- a command, to stand in front of instead of a configuration."`
}

func (c *serveCommand) run(p *process) error {
	if os.Getpid() == 1 {
		// In a container without an init, orphans of the commands become ours.
		reaping, stop := context.WithCancel(context.Background())
		defer stop()
		go stdio.Reap(reaping)
	}
	if len(c.Target) > 0 {
		return c.runQuick(p)
	}
	if c.Listen != "" || c.Env != nil || c.APIKey {
		return usageError{"--listen, --env and --api-key are for a URL or a command; a configuration has keys for that"}
	}
	// From here on a SIGHUP no longer ends the process.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	s := newServer(c.Config, p)
	s.debug = c.Debug
	if err := s.open(); err != nil {
		if _, missing := os.Stat(c.Config); errors.Is(missing, fs.ErrNotExist) && c.Config == defaultConfigFile {
			return usageError{err.Error() + "\n" + whatToServe}
		}
		return err
	}
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	go s.watch(ctx, hup)
	return s.run(ctx, p.stdout)
}

// server runs one listener whose Gateway can be swapped while requests are under
// way: each request is answered wholly by the Gateway it began with.
type server struct {
	path    string
	process *process
	log     *slog.Logger
	key     []byte // seals sessions where the file keeps no key
	current atomic.Pointer[loaded]

	commands commandPool // processes that outlive a reload
	stores   storePool   // and stores
	given    *File       // instead of a file at path
	debug    bool        // show what passes on standard error
	// greet is what is printed besides the endpoints; nil is the invitation alone.
	greet func(endpoint, invitation string) string

	// listener is where it listens, and listen what the configuration said then.
	listener net.Listener
	listen   string

	reloads  sync.Mutex // one reload at a time; guards stopping
	stopping bool       // no reload any more

	mu    sync.Mutex // guards alive
	alive map[*loaded]struct{}
}

// loaded is one configuration, built.
type loaded struct {
	// uses counts the requests that are answered by it, and one for being the
	// current one. At 0 it is closed.
	uses atomic.Int64

	gateway   *stile.Gateway
	handler   http.Handler // the gateway, behind what is between it and the network
	tls       atomic.Pointer[certificates]
	file      *File
	listen    string   // as the file has it
	endpoints []string // URLs, for the line that is printed
	files     []string // what the configuration was read from
	shutdown  time.Duration
	opened    io.Closer // audit, upstreams and key sets
}

func newServer(path string, p *process) *server {
	key := make([]byte, minSessionKey)
	rand.Read(key)
	return &server{path: path, process: p, key: key, log: slog.New(slog.NewTextHandler(p.stderr, nil)), alive: map[*loaded]struct{}{}}
}

// open listens, builds the configuration and makes it the current one.
func (s *server) open() error {
	first, err := s.load()
	if err != nil {
		if s.listener != nil {
			err = errors.Join(err, s.listener.Close())
		}
		return err
	}
	s.current.Store(first)
	return nil
}

// bind listens where the first configuration says, and tells every one that says
// the same which port that is.
func (s *server) bind(f *File) error {
	if s.listener == nil {
		listener, err := net.Listen("tcp", f.Listen)
		switch {
		case errors.Is(err, syscall.EADDRINUSE) && s.given != nil:
			return fmt.Errorf("%s is taken: give another address with --listen, such as 127.0.0.1:0", f.Listen)
		case err != nil:
			return fmt.Errorf("%s: listen: %w", s.path, err)
		}
		s.listener, s.listen = listener, f.Listen
	}
	host, port, err := net.SplitHostPort(f.Listen)
	if err == nil && port == "0" && f.Listen == s.listen {
		_, port, err = net.SplitHostPort(s.listener.Addr().String())
		f.listeningOn(net.JoinHostPort(host, port))
	}
	return err
}

// load reads the file and builds a Gateway from it, or tells every mistake.
func (s *server) load() (*loaded, error) {
	f := s.given
	if f == nil {
		var err error
		if f, err = load(s.path, s.process.around); err != nil {
			return nil, err
		}
	}
	f.commands, f.stores = &s.commands, &s.stores
	if s.debug {
		f.Debug.Tap = tapStderr
	}
	listen := f.Listen
	if err := s.bind(f); err != nil {
		return nil, err
	}
	config, opened, err := build(f, s.log, s.process.stdout, s.process.stderr)
	if err != nil {
		return nil, err
	}
	if len(config.SessionKeys) == 0 {
		config.SessionKeys = [][]byte{s.key} // sessions outlive a reload
	}
	gateway, err := stile.New(config)
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	l := &loaded{gateway: gateway, handler: f.tap.around(f.withAuthServer(gateway)), file: f, listen: listen, shutdown: time.Duration(f.ShutdownTimeout), opened: opened, files: f.files()}
	if s.given == nil { // that one is built again at a reload
		f.forget()
	}
	l.uses.Store(1)
	l.tls.Store(f.certificates)
	for i := range f.Servers {
		l.endpoints = append(l.endpoints, f.resource(&f.Servers[i].Value))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive[l] = struct{}{}
	return l, nil
}

// ServeHTTP answers with the Gateway of this moment. What that writes to and
// sends through stays open until the last of its requests is over, however long
// after a reload that is: a body may take longer to come than calls may take to
// end when the gateway stops.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l := s.enter()
	defer s.leave(l)
	l.handler.ServeHTTP(w, r)
}

// enter returns the configuration of this moment, to be left again.
func (s *server) enter() *loaded {
	for {
		l := s.current.Load()
		// At 0 it was replaced and closed since it was looked up.
		if n := l.uses.Load(); n > 0 && l.uses.CompareAndSwap(n, n+1) {
			return l
		}
	}
}

// leave lets go of a configuration and closes it after the last use.
func (s *server) leave(l *loaded) {
	if l.uses.Add(-1) > 0 {
		return
	}
	s.mu.Lock()
	delete(s.alive, l)
	s.mu.Unlock()
	if err := l.opened.Close(); err != nil {
		s.log.Warn("closing an old configuration", "error", err)
	}
}

// reload swaps in a new Gateway. A file with mistakes changes nothing and is told.
func (s *server) reload() {
	s.reloads.Lock()
	defer s.reloads.Unlock()
	if s.stopping {
		return
	}
	next, err := s.load()
	if err != nil {
		s.log.Error("configuration not reloaded; the old one goes on", "file", s.path, "error", err)
		return
	}
	old := s.current.Swap(next)
	if (old.file.TLS == nil) != (next.file.TLS == nil) {
		s.log.Warn("tls was added or taken away; that needs a restart")
	}
	if next.listen != s.listen {
		s.log.Warn("listen changed; that needs a restart", "old", s.listen, "new", next.listen)
	}
	// Streams that wait for news start anew under the new configuration; calls
	// under way finish under the one that judged them.
	old.gateway.Drain()
	s.leave(old)
	s.log.Info("configuration reloaded", "file", s.path)
}

// run serves until ctx ends or a signal to stop comes, then drains.
func (s *server) run(ctx context.Context, out io.Writer) error {
	h := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- s.serve(h) }()
	fmt.Fprintln(out, "stile serves", strings.Join(s.current.Load().endpoints, " "))
	invitation, stopInviting, err := s.invite(ctx)
	if err != nil {
		s.log.Error("accounts", "error", err)
	}
	if s.greet != nil {
		invitation = s.greet(s.current.Load().endpoints[0], invitation)
	}
	fmt.Fprint(out, invitation)
	defer func() { _ = stopInviting() }()
	endRest()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	err = s.stop(h)
	// Only now is the listener closed for certain.
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// serve accepts connections until the listener is closed.
func (s *server) serve(h *http.Server) error {
	if s.current.Load().file.TLS == nil {
		return h.Serve(s.listener)
	}
	h.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if c := s.current.Load().tls.Load(); c != nil {
			return c.config, nil
		}
		return nil, errors.New("the configuration has no certificate any more")
	}}
	return h.ServeTLS(s.listener, "", "")
}

// reloadCertificates reads the certificates of the listener again. Where they are
// not good, the old ones stay.
func (s *server) reloadCertificates() {
	s.reloads.Lock()
	defer s.reloads.Unlock()
	now := s.current.Load()
	if s.stopping || now.file.TLS == nil {
		return
	}
	var list problem.List
	next := now.file.readListener(s.process.around, &list)
	if next == nil {
		s.log.Error("certificate not reloaded; the old one goes on", "error", list.Err())
		return
	}
	now.tls.Store(next)
	s.log.Info("certificate reloaded", "file", now.file.TLS.Certificate)
}

// stop drains: streams that wait for news end at once, calls may finish within
// the shutdown time, then what is left is told and cut.
func (s *server) stop(h *http.Server) error {
	s.reloads.Lock()
	s.stopping = true
	s.reloads.Unlock()
	now := s.current.Load()
	s.log.Info("stopping", "within", now.shutdown)
	now.gateway.Drain()
	ctx, cancel := context.WithTimeout(context.Background(), now.shutdown)
	defer cancel()
	err := h.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.tellAll()
		last, cancel := context.WithTimeout(context.Background(), lastWords)
		defer cancel()
		if err = h.Shutdown(last); err != nil {
			s.log.Warn("calls were cut off", "error", err)
			err = h.Close()
		}
	}
	return errors.Join(err, now.opened.Close())
}

// tellAll ends every stream, also those that an older configuration still answers.
func (s *server) tellAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.alive {
		l.gateway.Stop()
	}
}
