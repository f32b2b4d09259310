// Command stile puts OAuth scopes in front of MCP servers.
//
// Its exit codes: 0, all went well; 1, the configuration has mistakes, something
// failed, or with explain --fail the call would be refused; 2, the command line
// could not be understood. Doctor ends with 3 or 4 if it found something wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/stile-mcp/stile"
)

const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	tuneCollector()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// process is what a command may use of the process it runs in.
type process struct {
	ctx    context.Context
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	around surroundings
}

// command is what every subcommand is. An error that is not a usageError is told
// and ends with exit code 1.
type command interface {
	run(p *process) error
}

// commandLine is everything that can be said to stile.
type commandLine struct {
	Serve   serveCommand   `cmd:"" help:"Run the gateway."`
	Demo    demoCommand    `cmd:"" help:"Show a step-up with everything in one process."`
	Check   checkCommand   `cmd:"" help:"Tell every mistake in a configuration."`
	Init    initCommand    `cmd:"" help:"Write a configuration to start from, made from what a server offers."`
	Explain explainCommand `cmd:"" help:"Tell what would be decided about a call, and why."`
	User    userCommand    `cmd:"" help:"Add, list, remove or change local accounts."`
	Connect connectCommand `cmd:"" help:"Let a local client that speaks stdio use a protected server."`
	Doctor  doctorCommand  `cmd:"" help:"Look at a protected MCP server as a client would. Ends with 3 if the worst is a warning, with 4 if it is an error."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// commands are the subcommands by the first word of what was parsed.
func (c *commandLine) commands() map[string]command {
	return map[string]command{"serve": &c.Serve, "demo": &c.Demo, "check": &c.Check, "init": &c.Init, "explain": &c.Explain,
		"user": &c.User, "connect": &c.Connect, "doctor": &c.Doctor, "version": &c.Version}
}

// usageError is a command line that cannot be acted on.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// errRefused ends explain --fail with exit code 1 when everything has been said.
var errRefused = errors.New("refused")

// run is the whole program, for main and for tests. It returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	var line commandLine
	defer func() {
		// The only panic caught is the one that stands for kong's wish to end
		// the process, after --help.
		if p := recover(); p != nil {
			exit, ok := p.(exitRequest)
			if !ok {
				panic(p)
			}
			code = int(exit)
		}
	}()
	parser, err := kong.New(&line,
		kong.Name("stile"),
		kong.Description("OAuth scopes in front of any MCP server."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 80, NoExpandSubcommands: true}),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exitRequest(code)) }))
	if err != nil {
		fmt.Fprintln(stderr, "stile:", err)
		return exitFailed
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return tell(stderr, usageError{err.Error()})
	}
	p := &process{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, around: system()}
	return tell(stderr, line.commands()[parsed.Selected().Name].run(p))
}

// exitRequest is an exit code on its way out of kong.
type exitRequest int

// tell writes an error where it belongs and turns it into an exit code.
func tell(stderr io.Writer, err error) int {
	var (
		found   mistakes
		usage   usageError
		trouble foundTrouble
	)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errRefused):
		return exitFailed
	case errors.As(err, &trouble):
		return int(trouble)
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "stile: %s\nTry: stile --help\n", usage.text)
		return exitUsage
	case errors.As(err, &found):
		fmt.Fprintln(stderr, found.Error())
		return exitFailed
	default:
		fmt.Fprintln(stderr, "stile:", err)
		return exitFailed
	}
}

// versionCommand prints which build this is.
type versionCommand struct{}

func (c *versionCommand) run(p *process) error {
	_, err := fmt.Fprintln(p.stdout, "stile", version())
	return err
}

// version is that of the module, and the revision of a build from a work tree.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return stile.Version
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return stile.Version + " " + setting.Value
		}
	}
	return stile.Version
}
