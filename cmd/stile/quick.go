package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/stile-mcp/stile/forward"
)

// quickFile is the configuration of serve URL and serve -- COMMAND, but for the
// server itself, the address and the hash of the key.
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
// mcp:use, that opens all of it, and one API key, which is returned and kept
// nowhere.
func (c *serveCommand) quick(p *process) (f *File, key string, err error) {
	f, err = loadBytes("the command line", []byte(quickFile), p.around)
	if err != nil {
		return nil, "", err
	}
	f.Listen = c.Listen
	setDefault(&f.Listen, defaultListen)
	f.PublicURL = "http://" + f.Listen
	// Long and random, so that its hash needs no salt (authenticate.APIKey).
	key = "stile_" + rand.Text()
	hash := sha256.Sum256([]byte(key))
	f.APIKeys[0].SHA256 = hex.EncodeToString(hash[:])
	server := &f.Servers[0].Value
	if isURL(c.Target) {
		server.URL, server.Transport = c.Target[0], transportAuto
	} else {
		server.URL, server.Command = "", c.Target
		if server.Env, err = environment(c.Env, p.around); err != nil {
			return nil, "", err
		}
	}
	var texts []string
	for _, one := range f.check() {
		texts = append(texts, strings.TrimPrefix(one.Path, "servers.mcp.")+" "+one.Value+": "+one.Want)
	}
	if len(texts) > 0 {
		return nil, "", usageError{strings.Join(texts, "; ")}
	}
	return f, key, f.findProgram(p.ctx)
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
	f, key, err := c.quick(p)
	if err != nil {
		return err
	}
	// A terminal that is closed ends it in good order, with its processes.
	ctx, stop := signal.NotifyContext(p.ctx, syscall.SIGHUP)
	defer stop()
	s := newServer("the command line", p)
	s.given, s.debug = f, c.Debug
	// Said once, after the line that every serve prints.
	s.hello = "API key, shown only now: " + key + "\n" +
		`  send it as "Authorization: Bearer KEY" or "X-API-Key: KEY"` + "\n"
	if err := s.open(); err != nil {
		return err
	}
	s.warnUnreachable(ctx)
	return s.run(ctx, p.stdout)
}

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
