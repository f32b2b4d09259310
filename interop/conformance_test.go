package interop_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

const (
	suite            = "node_modules/@modelcontextprotocol/conformance"
	everythingServer = "github.com/modelcontextprotocol/go-sdk/conformance/everything-server"
)

// conformancePolicy lets every call of the suite through for the one scope that
// the injected token has.
const conformancePolicy = `
baseline: mcp:use
default: mcp:use
rules:
  - methods: ["*"]
    scopes: mcp:use
`

// verdicts is what the suite says about each scenario.
type verdicts map[string]verdict

// verdict is the outcome of one scenario.
type verdict struct {
	checks   []string // each "id status", sorted
	failures []string // why they failed, for a person to read
	warnings []string // the same of recommendations
}

// TestConformance runs the suite's required scenarios against the go-sdk's
// everything-server: directly, through Stile, and through Stile that runs the same
// server as a command. All of them pass, and no check of any scenario, required or
// not, has another verdict through Stile.
func TestConformance(t *testing.T) {
	table := newTable("revision", "directly", "through Stile", "through Stile to a command", "checks directly", "checks through Stile", "checks through Stile to a command")
	for _, c := range []struct {
		revision string
		stateful bool // the everything-server wants it for the 2025 revisions
		required int
	}{
		{era2025, true, 30},
		{era2026, false, 37},
	} {
		t.Run(c.revision, func(t *testing.T) {
			required := requiredScenarios(t, c.revision)
			if len(required) != c.required {
				t.Fatalf("the suite requires %d scenarios, want %d", len(required), c.required)
			}
			server := startEverything(t, c.stateful)
			direct := runSuite(t, server, c.revision)
			through := runSuite(t, injectToken(t, stileConfig{upstream: server}), c.revision)
			compare(t, c.revision, direct, through)
			command := runSuite(t, injectToken(t, everythingCommand(t)), c.revision)
			compare(t, c.revision+" over stdio", direct, command)
			table.add(c.revision,
				ratio(direct.passed(t, "directly", required), c.required),
				ratio(through.passed(t, "through Stile", required), c.required),
				ratio(command.passed(t, "through Stile to a command", required), c.required),
				direct.checks(), through.checks(), command.checks())
		})
	}
	table.publish(t, "conformance.md")
}

func ratio(part, whole int) string { return fmt.Sprintf("%d of %d", part, whole) }

// requiredScenarios answers the server scenarios that a revision requires.
func requiredScenarios(t *testing.T, revision string) []string {
	t.Helper()
	node(t) // for its message when the packages are missing
	data, err := os.ReadFile(filepath.Join(suite, "requirements", revision+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Server []string }
	if err := yaml.Unmarshal(data, &set); err != nil {
		t.Fatal(err)
	}
	return set.Server
}

// startEverything runs the go-sdk's own conformance server and answers its URL.
func startEverything(t *testing.T, stateful bool) string {
	t.Helper()
	address := freeAddress(t)
	p := start(t, nil, build(t, everythingServer), "-http", address, fmt.Sprintf("-stateless=%t", !stateful))
	p.awaitListening(address)
	return "http://" + address + "/"
}

// everythingCommand has the same server run by Stile, as a command that speaks
// stdio. The suite opens a session for each scenario and leaves most of them open.
func everythingCommand(t *testing.T) stileConfig {
	t.Helper()
	return stileConfig{command: fmt.Sprintf("[%q]", build(t, everythingServer)), server: "max_per_caller: 200\nmax_processes: 200"}
}

// injectToken starts Stile in front of a server, and a proxy in front of Stile
// that adds an access token and changes nothing else: Host, Origin and every
// header the suite sends reach Stile as they are.
func injectToken(t *testing.T, config stileConfig) string {
	t.Helper()
	as := startIssuer(t, "SCOPES=mcp:use")
	config.issuer, config.policy = as.url, conformancePolicy
	g := startStile(t, config)
	token := as.token(t, g.endpoint, "mcp:use")
	target, err := url.Parse(g.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL = target // r.Out.Host stays what the suite sent
			r.Out.Header.Set("Authorization", "Bearer "+token)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "test proxy: "+err.Error(), http.StatusBadGateway)
		},
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The body is taken whole. Read while it is forwarded, it is closed by the
		// server as soon as the answer begins; the transport's last look at it then
		// fails, and it cuts off the answer's event stream.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "test proxy: "+err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		proxy.CloseClientConnections()
		proxy.Close()
	})
	return proxy.URL + "/mcp"
}

// runSuite runs what a revision requires, and what the suite runs beside it
// without scoring, against a server.
func runSuite(t *testing.T, server, revision string) verdicts {
	t.Helper()
	found, err := trySuite(t, server, revision)
	if err != nil {
		t.Error(err)
	}
	return found
}

// trySuite is runSuite where scenarios may fail, which is the error.
func trySuite(t *testing.T, server, revision string) (verdicts, error) {
	t.Helper()
	results := t.TempDir()
	out, err := run(t, nil, node(t), "--require", "./conformance/globsync.cjs", suite+"/dist/index.js",
		"server", "--url", server, "--requirements", revision, "--output-dir", results)
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, tail(string(out), 200))
	}
	files, wrong := filepath.Glob(filepath.Join(results, "server-*", "checks.json"))
	if wrong != nil {
		t.Fatal(wrong)
	}
	found := verdicts{}
	for _, file := range files {
		found[scenarioOf(file)] = readChecks(t, file)
	}
	if len(found) == 0 {
		t.Fatalf("the suite left no results:\n%s", tail(string(out), 200))
	}
	return found, err
}

// scenarioOf answers the scenario of a result in
// server-SCENARIO-2026-11-25T03-17-54-032Z/checks.json.
func scenarioOf(file string) string {
	return withoutTime(strings.TrimPrefix(filepath.Base(filepath.Dir(file)), "server-"))
}

// withoutTime takes the time off the name of a result's folder.
func withoutTime(folder string) string {
	return folder[:max(0, len(folder)-len("-2006-01-02T15-04-05-000Z"))]
}

func readChecks(t *testing.T, file string) verdict {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var checks []struct{ ID, Status, ErrorMessage string }
	if err := json.Unmarshal(data, &checks); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var v verdict
	for _, c := range checks {
		v.checks = append(v.checks, c.ID+" "+c.Status)
		switch c.Status {
		case "FAILURE":
			v.failures = append(v.failures, c.ID+": "+c.ErrorMessage)
		case "WARNING":
			v.warnings = append(v.warnings, c.ID+": "+c.ErrorMessage)
		}
	}
	slices.Sort(v.checks)
	return v
}

// passed counts the required scenarios that ran without a failed check, and
// fails the test for the others.
func (v verdicts) passed(t *testing.T, how string, required []string) int {
	t.Helper()
	passed := 0
	for _, scenario := range required {
		found, ran := v[scenario]
		switch {
		case !ran:
			t.Errorf("%s %s: did not run", scenario, how)
		case len(found.failures) > 0:
			t.Errorf("%s %s: %s", scenario, how, strings.Join(found.failures, "\n"))
		default:
			passed++
		}
	}
	return passed
}

// checks tells how many checks passed of those that were decided.
func (v verdicts) checks() string {
	passed, failed := 0, 0
	for _, found := range v {
		failed += len(found.failures)
		for _, c := range found.checks {
			if strings.HasSuffix(c, " SUCCESS") {
				passed++
			}
		}
	}
	return ratio(passed, passed+failed)
}

// compare wants equal verdicts, but for the scenarios of baseline.yml, which
// must differ.
func compare(t *testing.T, section string, direct, through verdicts) {
	t.Helper()
	known := baseline(t)[section]
	scenarios := map[string]bool{}
	for _, found := range []verdicts{direct, through} {
		for scenario := range found {
			scenarios[scenario] = true
		}
	}
	for scenario := range scenarios {
		diff := cmp.Diff(direct[scenario].checks, through[scenario].checks)
		reason, listed := known[scenario]
		switch {
		case diff != "" && !listed:
			t.Errorf("%s: another verdict through Stile (-direct +through):\n%s%s", scenario, diff,
				strings.Join(slices.Concat(through[scenario].failures, through[scenario].warnings), "\n"))
		case diff == "" && listed:
			t.Errorf("%s: baseline.yml says that it differs (%s), and it does not", scenario, reason)
		}
	}
	for scenario := range known {
		if !scenarios[scenario] {
			t.Errorf("%s: baseline.yml names a scenario that did not run", scenario)
		}
	}
}

// baseline reads baseline.yml: by section and scenario, why it differs.
func baseline(t *testing.T) map[string]map[string]string {
	t.Helper()
	data, err := os.ReadFile("baseline.yml")
	if err != nil {
		t.Fatal(err)
	}
	var known map[string]map[string]string
	if err := yaml.UnmarshalWithOptions(data, &known, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return known
}

func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
