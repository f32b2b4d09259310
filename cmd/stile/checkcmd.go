package main

import (
	"fmt"
	"io"
	"strings"
)

// configFlag is the flag that every command with a configuration has.
type configFlag struct {
	// The default is defaultConfigFile.
	Config string `short:"c" default:"stile.yaml" placeholder:"FILE" help:"The configuration. Default: ${default}."`
}

// checkCommand tells every mistake in a configuration.
type checkCommand struct {
	configFlag
}

func (c *checkCommand) run(p *process) error {
	f, err := load(c.Config, p.around)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%s: no mistakes\n", c.Config)
	return f.summarise(p.stdout)
}

// summarise lists the endpoints.
func (f *File) summarise(w io.Writer) error {
	for _, s := range f.Servers {
		if _, err := fmt.Fprintf(w, "  %s: %s -> %s\n", s.Name, f.resource(&s.Value), f.source.redact(s.Value.upstream())); err != nil {
			return err
		}
	}
	return nil
}

// upstream is what stands behind a server, for people.
func (s *Server) upstream() string {
	if s.Command != nil {
		return strings.Join(s.Command, " ")
	}
	return s.URL
}
