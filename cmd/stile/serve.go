package main

// serveCommand runs the gateway.
type serveCommand struct {
	configFlag
	Target []string `arg:"" optional:"" help:"A URL, or after -- a command, to stand in front of instead of a configuration."`
}

func (c *serveCommand) run(p *process) error {
	if len(c.Target) > 0 {
		return usageError{"serve URL and serve -- COMMAND are not in this version yet: write a configuration and use serve -c FILE"}
	}
	_, err := load(c.Config, p.around)
	return err
}
