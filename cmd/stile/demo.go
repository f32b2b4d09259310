package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authenticate"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/forward"
	"github.com/stile-mcp/stile/scope"
	"github.com/stile-mcp/stile/stiletest"
)

const (
	demoPath = "/mcp"
	// demoTimeout bounds the whole step-up.
	demoTimeout = 30 * time.Second
	// demoToken is how long the token for curl is good.
	demoToken = time.Hour
)

// demoCommand shows a step-up with everything in one process.
type demoCommand struct {
	Once bool `help:"End after the step-up instead of staying up."`
}

// demoPolicy is what the demo's notes server needs.
func demoPolicy() authorize.Config {
	return authorize.Config{
		Baseline: "notes:read",
		Implies: map[string]authorize.Strings{
			"notes:admin": {"notes:write"},
			"notes:write": {"notes:read"},
		},
		Rules: []authorize.Rule{
			{Tools: authorize.Strings{"list_notes", "get_note"}, Scopes: authorize.Strings{"notes:read"}},
			{Tools: authorize.Strings{"create_note", "delete_note"}, Scopes: authorize.Strings{"notes:write"}},
			{Tools: authorize.Strings{"delete_note"}, When: "args.permanent == true", Scopes: authorize.Strings{"notes:admin"}},
			{Tools: authorize.Strings{"drop_everything"}, Deny: "not offered through this gateway"},
		},
	}
}

func (c *demoCommand) run(p *process) error {
	d, err := startDemo()
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
	story.invitation()
	<-p.ctx.Done()
	return nil
}

// demo is the cast: an MCP server, an authorization server, and Stile between
// the client and the first.
type demo struct {
	issuer   *stiletest.Issuer
	notes    *stiletest.Notes
	upstream string
	url      string // of the protected endpoint
	closers  []func()
}

func startDemo() (*demo, error) {
	d := &demo{
		issuer: stiletest.NewIssuer(stiletest.IssuerOptions{Lifetime: demoToken}),
		notes:  stiletest.NewNotes(stiletest.NotesOptions{}),
	}
	if err := d.start(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *demo) start() error {
	if err := d.issuer.Start("127.0.0.1:0"); err != nil {
		return err
	}
	d.closers = append(d.closers, func() { _ = d.issuer.Close() }, func() { _ = d.notes.Close() })
	upstream, err := d.listen(d.notes)
	if err != nil {
		return err
	}
	d.upstream = upstream + demoPath
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	public := "http://" + listener.Addr().String()
	d.url = public + demoPath
	gateway, err := d.gateway(public)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	d.serve(listener, gateway)
	return nil
}

// gateway is Stile in front of the notes server.
func (d *demo) gateway(public string) (*stile.Gateway, error) {
	policy, err := authorize.New(demoPolicy())
	if err != nil {
		return nil, err
	}
	upstream, err := forward.NewHTTP(forward.HTTPConfig{URL: d.upstream})
	if err != nil {
		return nil, err
	}
	keys, err := authenticate.NewKeySet(authenticate.KeySetConfig{Issuer: d.issuer.URL()})
	if err != nil {
		return nil, err
	}
	d.closers = append(d.closers, upstream.Close)
	jwt, err := authenticate.NewJWT(authenticate.JWTConfig{Issuer: d.issuer.URL(), Audiences: []string{d.url}, Keys: keys})
	if err != nil {
		return nil, err
	}
	return stile.New(stile.Config{
		PublicURL: public,
		Servers: []stile.Server{{
			Name: "notes", Path: demoPath, Upstream: upstream, Policy: policy,
			Verifiers: []authenticate.Verifier{jwt},
			Issuers:   []*authenticate.Profile{{Issuer: d.issuer.URL()}},
		}},
		Audit: io.Discard,
		Log:   slog.New(slog.DiscardHandler),
	})
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

// checkAsked compares what the last authorization asked for.
func (s *story) checkAsked(want string) error {
	requests := s.demo.issuer.Requests(stiletest.EndpointAuthorize)
	if len(requests) == 0 {
		return errors.New("the client never asked for authorization")
	}
	got := scope.Set(requests[len(requests)-1].Scopes())
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
	case len(s.demo.issuer.Requests(stiletest.EndpointAuthorize)) != 2:
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
