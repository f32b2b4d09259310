package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/internal/ask"
	"github.com/stile-mcp/stile/propose"
)

// quickFile is the configuration of serve URL and serve -- COMMAND before the server
// is asked what it offers, but for the server itself and the address.
const quickFile = `api_keys:
  - name: printed-at-start
    sha256: "0000000000000000000000000000000000000000000000000000000000000000"
    scopes: mcp:use
servers:
  mcp:
    path: /mcp
    url: http://127.0.0.1/
    policy:
      baseline: mcp:use
      default: mcp:use
`

// quick makes a configuration from the command line: one endpoint, /mcp, one scope,
// mcp:use, that opens all of it, and one API key that nobody knows yet.
func (c *serveCommand) quick(p *process) (f *File, err error) {
	f, err = loadBytes("the command line", []byte(quickFile), p.around)
	if err != nil {
		return nil, err
	}
	f.Listen = c.Listen
	setDefault(&f.Listen, defaultListen)
	f.PublicURL = "http://" + f.Listen
	server := &f.Servers[0].Value
	if isURL(c.Target) {
		server.URL, server.Transport = c.Target[0], transportAuto
	} else {
		server.URL, server.Command = "", c.Target
		if server.Env, err = environment(c.Env, p.around); err != nil {
			return nil, err
		}
	}
	var texts []string
	for _, one := range f.check() {
		texts = append(texts, strings.TrimPrefix(one.Path, "servers.mcp.")+" "+one.Value+": "+one.Want)
	}
	if len(texts) > 0 {
		return nil, usageError{strings.Join(texts, "; ")}
	}
	return f, f.findProgram(p.ctx)
}

// whatToServe is told to who named nothing that could be served.
const whatToServe = "Give the URL of a server, a command after --, or a configuration with -c."

// isURL tells a URL from a command.
func isURL(target []string) bool {
	return len(target) == 1 && (strings.HasPrefix(target[0], "http://") || strings.HasPrefix(target[0], "https://"))
}

// environment reads NAME=VALUE, and NAME for a variable of this process.
func environment(list []string, around surroundings) (map[string]string, error) {
	env := map[string]string{}
	for _, one := range list {
		name, value, given := strings.Cut(one, "=")
		if !given {
			if value, given = around.lookup(name); !given {
				return nil, usageError{"--env " + name + ": there is no such variable; give --env " + name + "=VALUE"}
			}
		}
		env[name] = value
	}
	return env, nil
}

// findProgram says at once that a command is not there, where nobody can have
// meant another machine.
func (f *File) findProgram(ctx context.Context) error {
	server := &f.Servers[0]
	if server.Value.Command == nil {
		return nil
	}
	command, err := forward.NewCommand(f.commandConfig(server, slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer command.Close()
	if err := command.Ready(ctx); err != nil {
		return usageError{err.Error() + "\n" + whatToServe}
	}
	return nil
}

// runQuick serves what the command line names.
func (c *serveCommand) runQuick(p *process) error {
	if c.Config != defaultConfigFile {
		return usageError{"either a configuration or what to serve, not both"}
	}
	if c.Timeout <= 0 {
		return usageError{"--timeout: expected more than nothing, such as 30s"}
	}
	f, err := c.quick(p)
	if err != nil {
		return err
	}
	// A terminal that is closed ends it in good order, with its processes.
	ctx, stop := signal.NotifyContext(p.ctx, syscall.SIGHUP)
	defer stop()
	s := newServer("the command line", p)
	s.given, s.debug = f, c.Debug
	if c.APIKey {
		key, hash := newKey()
		f.APIKeys[0].SHA256 = hash
		s.greet = func(_, _ string) string { return greetKey(key) }
	} else {
		// Before anybody waits for the server: that the address is free.
		if err := s.bind(f); err != nil {
			return err
		}
		tidy, err := c.protect(ctx, s, p.around)
		defer tidy()
		if err != nil {
			return errors.Join(err, s.listener.Close())
		}
	}
	if err := s.open(); err != nil {
		return err
	}
	if c.APIKey {
		s.warnUnreachable(ctx)
	}
	return s.run(ctx, p.stdout)
}

// protect puts in place of the one scope what init would propose, and in place of the
// key the embedded authorization server. tidy removes what is not to be kept.
func (c *serveCommand) protect(ctx context.Context, s *server, around surroundings) (tidy func(), err error) {
	tidy = func() {}
	f := s.given
	proposal, err := c.ask(ctx, f, s.log)
	if err != nil {
		return tidy, err
	}
	f.APIKeys, f.Scopes.Descriptions = nil, proposal.Descriptions()
	rules := proposal.Policy()
	f.Servers[0].Name, f.Servers[0].Value.Policy = proposal.Name, &rules
	f.policies = map[string]*policy{}
	if wrong := f.compilePolicies(around); len(wrong) > 0 {
		return tidy, wrong
	}
	if err := tryCalls(f.policies[proposal.Name].compiled, proposal); err != nil {
		return tidy, err
	}
	kept := ""
	s.greet = func(endpoint, invitation string) string { return greetPeople(proposal, endpoint, invitation, kept) }
	if _, port, _ := net.SplitHostPort(c.Listen); port != "0" {
		kept = quickDir(around, f.Listen)
		f.DataDir = kept
		return tidy, nil
	}
	// Another address the next time is another issuer, to which nothing of this one
	// is of use.
	f.DataDir, err = os.MkdirTemp("", "stile-")
	return func() { _ = os.RemoveAll(f.DataDir) }, err
}

// quickDir is where accounts and grants are kept for an address, as user finds them.
func quickDir(around surroundings, listen string) string {
	return stateDir(around, "at-"+strings.NewReplacer("[", "", "]", "", ":", "-").Replace(listen))
}

// ask asks the server what it offers. There is nothing to fall back on when it does
// not say: one scope that opens everything is what people should not be asked for,
// and one that opens nothing helps nobody. So it is waited for, and then given up.
func (c *serveCommand) ask(ctx context.Context, f *File, log *slog.Logger) (*propose.Proposal, error) {
	server := &f.Servers[0].Value
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for waiting := false; ; waiting = true {
		inventory, err := ask.Inventory(ctx, ask.Target{URL: server.URL, Command: server.Command, Env: server.Env})
		if err == nil {
			return propose.Make(inventory, ""), nil
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			if !waiting {
				log.Warn("the server does not take connections yet; waiting for it", "within", c.Timeout)
			}
			select {
			case <-again.C:
				continue
			case <-ctx.Done():
			}
		}
		return nil, fmt.Errorf("the server does not say what it offers, so there are no scopes to ask people for:\n"+
			"  %s\nRun the server first; or write a configuration (stile init), or give --api-key\nfor one key that opens everything", printable(err.Error()))
	}
}

// askAgain is the pause between two attempts at a server that is not there yet.
const askAgain = 250 * time.Millisecond

// warnUnreachable says at once that a server does not take connections, since it may
// be a slip; it may also come later.
func (s *server) warnUnreachable(ctx context.Context) {
	server := &s.given.Servers[0].Value
	if server.URL == "" {
		return
	}
	probe, err := forward.NewHTTP(forward.HTTPConfig{URL: server.URL, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return // it was checked
	}
	defer probe.Close()
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	if err := probe.Ready(ctx); err != nil {
		s.log.Warn("the server does not take connections yet; calls are answered with 502 until it does", "error", err)
	}
}

// reachTime bounds the look at a server before it is served.
const reachTime = 2 * time.Second
