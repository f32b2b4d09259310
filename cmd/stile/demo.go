package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authserver"
	"github.com/stile-mcp/stile/scope"
	"github.com/stile-mcp/stile/stiletest"
)

const (
	demoPath = "/mcp"
	// demoTimeout bounds the whole step-up.
	demoTimeout = 30 * time.Second
	// The client of the demo, which is registered beforehand, so that it is the same
	// client that comes back for more.
	demoClient, demoCallback = "demo-agent", "http://127.0.0.1/callback"
)

// demoCommand shows a step-up with everything in one process.
type demoCommand struct {
	Once bool `help:"End after the step-up instead of staying up."`
}

// demoFile is the configuration of the demo, but for the addresses. There are no
// issuers, so the embedded authorization server issues the tokens.
const demoFile = `
public_url: %s
scopes:
  descriptions:
    notes:read: Read your notes
    notes:write: Create, change and delete notes
    notes:admin: Delete notes for good
authserver:
  clients:
    - id: demo-agent
      name: Demo Agent
      redirect_uris: [http://127.0.0.1/callback]
servers:
  notes:
    path: /mcp
    url: %s
    policy:
      baseline: notes:read
      implies:
        notes:admin: notes:write
        notes:write: notes:read
      rules:
        - {tools: [list_notes, get_note], scopes: notes:read}
        - {tools: [create_note, delete_note], scopes: notes:write}
        - {tools: delete_note, when: args.permanent == true, scopes: notes:admin}
        - {tools: drop_everything, deny: not offered through this gateway}
`

func (c *demoCommand) run(p *process) error {
	d, err := startDemo(p.around)
	if err != nil {
		return err
	}
	defer d.close()
	story := newStory(p.stdout, d)
	story.opening()
	ctx, cancel := context.WithTimeout(p.ctx, demoTimeout)
	defer cancel()
	if err := story.play(ctx); err != nil {
		return fmt.Errorf("the demo did not go as told: %w", err)
	}
	if c.Once {
		return nil
	}
	d.page.Store(story.page())
	if err := story.invitation(ctx); err != nil {
		return err
	}
	<-p.ctx.Done()
	return nil
}

// demo is the cast: an MCP server, and Stile between it and the client, with the
// authorization server inside.
type demo struct {
	notes    *stiletest.Notes
	upstream string
	public   string
	url      string // of the protected endpoint
	server   *authserver.Server
	page     atomic.Pointer[[]byte] // what happened, once it has
	closers  []func()
}

func startDemo(around surroundings) (*demo, error) {
	d := &demo{notes: stiletest.NewNotes(stiletest.NotesOptions{})}
	if err := d.start(around); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *demo) start(around surroundings) error {
	d.closers = append(d.closers, func() { _ = d.notes.Close() })
	upstream, err := d.listen(d.notes)
	if err != nil {
		return err
	}
	d.upstream = upstream + demoPath
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.public = "http://" + listener.Addr().String()
	d.url = d.public + demoPath
	handler, err := d.gateway(around)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	d.serve(listener, handler)
	return nil
}

// gateway is Stile in front of the notes server, as a file would make it, but that
// all is kept in memory.
func (d *demo) gateway(around surroundings) (http.Handler, error) {
	f, err := loadBytes("the demo", fmt.Appendf(nil, demoFile, d.public, d.upstream), around)
	if err != nil {
		return nil, err
	}
	config, opened, wrong := f.assemble(slog.New(slog.DiscardHandler))
	d.closers = append(d.closers, func() { _ = opened.Close() })
	if len(wrong) > 0 {
		return nil, wrong
	}
	config.Audit = io.Discard
	gateway, err := stile.New(config)
	if err != nil {
		return nil, err
	}
	d.server = f.authServer
	mux := http.NewServeMux()
	mux.Handle("/", f.withAuthServer(gateway))
	mux.HandleFunc("GET "+pageDemo, d.showPage)
	mux.HandleFunc("GET "+pageDemoStyle, showDemoStyle)
	return mux, nil
}

func (d *demo) listen(h http.Handler) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	d.serve(listener, h)
	return "http://" + listener.Addr().String(), nil
}

func (d *demo) serve(listener net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout}
	go func() { _ = server.Serve(listener) }()
	d.closers = append(d.closers, func() { _ = server.Close() })
}

func (d *demo) close() {
	for _, c := range d.closers {
		c()
	}
}

// play runs the client through the whole step-up and checks every step.
func (s *story) play(ctx context.Context) error {
	s.chapter("1. The client connects and logs in")
	client, err := stiletest.NewClient(ctx, s.demo.url, stiletest.ClientOptions{
		Version:    stiletest.Version2025,
		HTTPClient: &http.Client{Transport: &s.recorder},
		Client:     stiletest.Client{ID: demoClient},
	})
	if err != nil {
		return err
	}
	defer client.Close()
	s.exchanges()
	s.say("The client asked for the baseline and nothing more: it was told to.")
	id := client.ID()
	if err := s.checkAsked("notes:read"); err != nil {
		return err
	}

	s.chapter("2. What the baseline allows")
	if err := s.call(ctx, client, "list_notes", map[string]any{}); err != nil {
		return err
	}

	s.chapter("3. The step-up")
	if err := s.call(ctx, client, "delete_note", map[string]any{"id": "3", "permanent": true}); err != nil {
		return err
	}
	if err := s.checkStepUp(id, client); err != nil {
		return err
	}
	s.say("One 403 named every scope the call needs: the baseline, what delete_note\n" +
		"needs, and what permanent=true needs. The client asked for those, the person\n" +
		"agreed, and the same call went through on the same session. The MCP server\n" +
		"saw the call once and never saw a token.")

	s.chapter("4. What no scope can open")
	return s.denied(ctx, client)
}

// call calls a tool and tells what went over the wire.
func (s *story) call(ctx context.Context, client *mcp.ClientSession, tool string, args map[string]any) error {
	result, err := client.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: args})
	s.exchanges()
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", tool, err)
	case result.IsError:
		return fmt.Errorf("%s: %s", tool, textOf(result))
	}
	return nil
}

// denied calls what the policy denies and wants an answer that a person can read.
func (s *story) denied(ctx context.Context, client *mcp.ClientSession) error {
	result, err := client.CallTool(ctx, &mcp.CallToolParams{Name: "drop_everything", Arguments: map[string]any{}})
	s.exchanges()
	switch {
	case err != nil:
		return err
	case !result.IsError:
		return errors.New("drop_everything was allowed")
	case s.demo.notes.Calls("drop_everything") != 0:
		return errors.New("drop_everything reached the server")
	}
	s.say("No challenge here: asking for more scopes would not help, so the answer is\n" +
		"final and says why.")
	return nil
}

// authorizations are the scopes that the client asked for, each time it did.
func (s *story) authorizations() []scope.Set {
	var all []scope.Set
	for _, e := range s.recorder.Exchanges() {
		if u, err := url.Parse(e.URL); err == nil && u.Query().Get("response_type") == "code" {
			all = append(all, scope.Set(strings.Fields(u.Query().Get("scope"))))
		}
	}
	return all
}

// checkAsked compares what the last authorization asked for.
func (s *story) checkAsked(want string) error {
	all := s.authorizations()
	if len(all) == 0 {
		return errors.New("the client never asked for authorization")
	}
	got := all[len(all)-1]
	if !got.Equal(scope.Set(strings.Fields(want))) { // the go-sdk keeps no order
		return fmt.Errorf("the client asked for %q, not for %q", got, want)
	}
	return nil
}

// checkStepUp checks that the step-up went as it is told.
func (s *story) checkStepUp(id string, client *mcp.ClientSession) error {
	if err := s.checkAsked("notes:read notes:write notes:admin"); err != nil {
		return err
	}
	challenges := 0
	for _, e := range s.all {
		if e.Status == http.StatusForbidden {
			challenges++
		}
	}
	switch {
	case challenges != 1:
		return fmt.Errorf("there were %d challenges, not one", challenges)
	case len(s.authorizations()) != 2:
		return errors.New("the client did not authorize exactly twice")
	case client.ID() != id:
		return errors.New("the session changed")
	case s.demo.notes.Calls("delete_note") != 1:
		return errors.New("delete_note did not reach the server exactly once")
	case s.demo.notes.Saw("Authorization"):
		return errors.New("a token reached the server")
	}
	return nil
}
