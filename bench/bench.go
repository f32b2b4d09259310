package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/stile-mcp/stile/stiletest"
)

// bench is one run.
type bench struct {
	ctx      context.Context
	options  *options
	dir      string
	binary   string
	issuer   *stiletest.Issuer
	upstream *process
	proxy    *process
	children []*process
	table    table
	section  string
	policies map[int]string // files, by the number of rules

	requests, broken, brokenBare int
	firstError                   error
}

// introspectionDelay makes sure that callers of one token meet.
const introspectionDelay = 20 * time.Millisecond

func newBench(ctx context.Context, o *options) (*bench, error) {
	dir, err := os.MkdirTemp("", "stile-bench-")
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(dir, "audit"), 0o700); err != nil {
		return nil, err
	}
	b := &bench{ctx: ctx, options: o, dir: dir, binary: o.binary, policies: map[int]string{}}
	b.issuer = stiletest.NewIssuer(stiletest.IssuerOptions{Lifetime: time.Hour,
		Intercept: func(e stiletest.Endpoint, _ http.ResponseWriter, _ *http.Request) bool {
			if e == stiletest.EndpointIntrospect {
				time.Sleep(introspectionDelay)
			}
			return false
		}})
	err = b.issuer.Start("127.0.0.1:0")
	if err == nil && b.binary == "" {
		err = b.build()
	}
	if err == nil {
		b.upstream, err = b.role("upstream", "")
	}
	if err == nil {
		b.proxy, err = b.role("proxy", b.upstream.addr)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() {
	for _, p := range b.children {
		p.stop()
	}
	_ = b.issuer.Close()
	_ = os.RemoveAll(b.dir)
}

// build makes the stile that is measured, and with -profile one that can be told
// to write profiles; nothing else differs.
func (b *bench) build() error {
	b.binary = filepath.Join(b.dir, "stile")
	args := []string{"build", "-o", b.binary}
	if b.options.profile != "" {
		overlay, err := b.overlay()
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(b.ctx, "go", append(args, "github.com/stile-mcp/stile/cmd/stile")...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// gatewayOptions are what differs between the gateways under test.
type gatewayOptions struct {
	rules         int
	introspection bool
}

// gateway starts a `stile serve` in front of the upstream, and waits until it
// answers.
func (b *bench) gateway(o gatewayOptions) (*process, error) {
	config, addr, err := b.config(o)
	if err != nil {
		return nil, err
	}
	p, err := b.exec(config, addr)
	if err != nil {
		return nil, err
	}
	return p, p.refuses(time.Now().Add(10 * time.Second))
}

// exec runs the binary and does not wait for it.
func (b *bench) exec(config, addr string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(b.dir, "stile.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p, out, err := spawn(addr, log, []string{"STILE_BENCH_PROFILE=" + b.profileDir()}, b.binary, "serve", "-c", config)
	if err != nil {
		return nil, err
	}
	go p.reap(out)
	b.children = append(b.children, p)
	return p, nil
}

// config writes a stile.yaml and returns where it is and where it listens.
func (b *bench) config(o gatewayOptions) (file, addr string, err error) {
	if addr, err = freeAddress(); err != nil {
		return "", "", err
	}
	policy, err := b.policy(o.rules)
	if err != nil {
		return "", "", err
	}
	audit := b.options.audit
	if audit == "" {
		// Not beside the configuration: that folder is watched, and each record
		// would wake the watcher.
		audit = filepath.Join(b.dir, "audit", "audit.log")
	}
	var y strings.Builder
	fmt.Fprintf(&y, "streams_per_caller: off\nlisten: %s\npublic_url: http://%s\naudit: %s\nissuers:\n  - issuer: %s\n    audiences: [%q]\n",
		addr, addr, audit, b.issuer.URL(), b.issuer.URL())
	if o.introspection {
		rs := stiletest.ResourceServer()
		fmt.Fprintf(&y, "    introspection:\n      url: %s\n      client_id: %s\n      client_secret: %s\n",
			b.issuer.EndpointURL(stiletest.EndpointIntrospect), rs.ID, rs.Secret)
	}
	fmt.Fprintf(&y, "servers:\n  bench:\n    path: /mcp\n    url: http://%s/mcp\n    policy_file: %s\n", b.upstream.addr, policy)
	file = filepath.Join(b.dir, "stile-"+strings.ReplaceAll(addr, ":", "-")+".yaml")
	return file, addr, os.WriteFile(file, []byte(y.String()), 0o600)
}

// policy writes a policy of n rules: mostly exact names, some globs, templates
// and conditions, as they are written for real servers.
func (b *bench) policy(n int) (string, error) {
	if file := b.policies[n]; file != "" {
		return file, nil
	}
	var y strings.Builder
	y.WriteString("baseline: bench:read\nimplies:\n  bench:admin: [bench:write]\n  bench:write: [bench:read]\nrules:\n")
	fmt.Fprint(&y, "  - tools: [small, both64k, put1m, get1m, event, events1000, wait]\n    scopes: bench:read bench:call\n")
	for i := range n - 1 {
		switch i % 10 {
		case 7:
			fmt.Fprintf(&y, "  - tools: [\"group_%d_*\"]\n    scopes: bench:write\n", i)
		case 8:
			fmt.Fprintf(&y, "  - resources: [\"bench://shelf_%d/{id}\"]\n    scopes: bench:read\n", i)
		case 9:
			fmt.Fprintf(&y, "  - tools: [delete_%d]\n    when: args.permanent == true\n    scopes: bench:admin\n", i)
		default:
			fmt.Fprintf(&y, "  - tools: [tool_%d]\n    scopes: bench:write\n", i)
		}
	}
	b.policies[n] = filepath.Join(b.dir, fmt.Sprintf("policy-%d.yaml", n))
	return b.policies[n], os.WriteFile(b.policies[n], []byte(y.String()), 0o600)
}

// token mints a good token; n makes it another one.
func (b *bench) token(n int, opaque bool) string {
	return b.issuer.Token(stiletest.Claims{Scope: "bench:read bench:call notes:read files:read", Opaque: opaque,
		ClientID: "https://client.example.com/oauth/metadata.json", Extra: map[string]any{"jti": fmt.Sprintf("token-%d", n)}})
}

// refuses waits until the child answers a call without a token by 401.
func (p *process) refuses(deadline time.Time) error {
	head := callsByTool["wait"].head(p.addr, "")
	for {
		c := newClient(p.addr, callsByTool["wait"])
		s, err := c.begin(head)
		c.close()
		if err == nil && s.code == http.StatusUnauthorized {
			return nil
		}
		if err == nil {
			return fmt.Errorf("a call without a token was answered %d, not 401", s.code)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("stile did not answer: %w", err)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// count adds what a side did to the sums.
func (b *bench) count(s *side, r sample) {
	b.requests += r.requests
	switch {
	case r.broken == 0:
	case s.bare || s.process == b.proxy || s.process == b.upstream:
		b.brokenBare += r.broken
	default:
		b.broken += r.broken
		if b.firstError == nil {
			b.firstError = fmt.Errorf("%s, %s: %w", b.section, s.name, errors.Join(r.err))
		}
	}
}

// show prints the figures of every side for -v.
func (b *bench) show(sides []*side, got rounds) {
	if !b.options.verbose {
		return
	}
	for _, s := range sides {
		fmt.Fprintf(os.Stderr, "  %-12s %-14s %7.0f/s  cpu %6.1f µs  p50 %6.0f µs  p99 %6.0f µs\n", s.call.tool, s.name,
			got.median(s, sample.rate), 1e6*got.median(s, sample.each), 1e6*got.median(s, p50), 1e6*got.median(s, p99))
	}
}

// copyFile is for profiles, which the child writes where it was started.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
