// Command driver is the client that the conformance suite runs: it does what a
// scenario wants of a client, with go-sdk's client in front of Stile's own client
// side. That is stepup.Transport in this process, or, with -stile, the real program
// as a child that speaks stdio.
//
// The suite names the scenario, the revision and what the client is given beforehand
// in its environment, and the server in the last argument.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// patience is longer than any scenario takes; the suite ends clients itself.
const patience = time.Minute

// driver is one run of one scenario.
type driver struct {
	scenario string
	url      string
	revision string // what the client speaks
	given    given
	stile    string // the program to drive; empty: stepup.Transport
	bad      string // how to misbehave; empty: not at all
	home     string // where the program keeps its logins
}

// given is what the suite tells a client beforehand (MCP_CONFORMANCE_CONTEXT).
type given struct {
	ClientID      string `json:"client_id"`
	ClientSecret  string `json:"client_secret"`
	PrivateKey    string `json:"private_key_pem"`
	Algorithm     string `json:"signing_algorithm"`
	IdPClientID   string `json:"idp_client_id"`
	IdPIDToken    string `json:"idp_id_token"`
	IdPIssuer     string `json:"idp_issuer"`
	WorkloadToken string `json:"valid_jwt"`
	ExpiredToken  string `json:"expired_jwt"`
	ForeignToken  string `json:"wrong_audience_jwt"`
	ToolCalls     []struct {
		Name      string         `json:"name"`
		Arguments map[string]any `json:"arguments"`
	} `json:"toolCalls"`
}

func main() {
	if filepath.Base(os.Args[0]) == browserName {
		exit(browse(os.Args[1:]))
	}
	d := driver{scenario: os.Getenv("MCP_CONFORMANCE_SCENARIO"), revision: os.Getenv("MCP_CONFORMANCE_PROTOCOL_VERSION")}
	flag.StringVar(&d.stile, "stile", "", "drive this program as a child")
	flag.StringVar(&d.bad, "bad", "", "misbehave in this way")
	local := flag.String("speak", "", "speak this revision, whatever the server speaks")
	flag.Parse()
	if *local != "" {
		d.revision = *local
	}
	d.url = flag.Arg(0)
	if told := os.Getenv("MCP_CONFORMANCE_CONTEXT"); told != "" {
		if err := json.Unmarshal([]byte(told), &d.given); err != nil {
			exit(fmt.Errorf("MCP_CONFORMANCE_CONTEXT: %w", err))
		}
	}
	exit(d.run())
}

// exit tells the suite how it went, and whoever reads its results: it keeps what
// clients wrote, and not how they ended.
func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("done")
	os.Exit(0)
}

func (d *driver) run() error {
	act, known := scenarios[d.scenario]
	if !known {
		return fmt.Errorf("no way to drive the scenario %q", d.scenario)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := d.act(ctx, act)
	for range tries[d.bad] {
		err = d.act(ctx, act)
	}
	return err
}

// tries are how often a bad client begins anew.
var tries = map[string]int{neverTires: 4}

// act connects and does what the scenario wants.
func (d *driver) act(ctx context.Context, act action) error {
	transport, err := d.transport()
	if d.home != "" {
		defer func() { _ = os.RemoveAll(d.home) }()
	}
	if err != nil {
		return err
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "driver", Version: "1"}, clientOptions())
	if err := mcp.AddSendingCustomMethod[*skillsParams, *skillsResult](client, listSkills); err != nil {
		return err
	}
	session, err := client.Connect(ctx, transport, &mcp.ClientSessionOptions{ProtocolVersion: d.revision})
	if err != nil {
		return err
	}
	err = act(ctx, session, d.given)
	if closed := session.Close(); err == nil {
		err = closed
	}
	return err
}

func (d *driver) transport() (mcp.Transport, error) {
	if d.stile != "" {
		return d.through()
	}
	return d.directly()
}
