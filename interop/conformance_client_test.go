package interop_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	clientDriver = "github.com/stile-mcp/stile/interop/conformance/driver"
	goSDKClient  = "github.com/modelcontextprotocol/go-sdk/conformance/everything-client"
	era2025March = "2025-03-26"
)

// mustRefuse are the scenarios in which a client must not get in, with what ours
// says then. In all others it has to do what it came for.
var mustRefuse = map[string]string{
	"auth/iss-normalized":           "of another issuer",
	"auth/iss-supported-missing":    "does not say that it is of",
	"auth/iss-unexpected":           "of another issuer",
	"auth/iss-wrong-issuer":         "of another issuer",
	"auth/metadata-issuer-mismatch": "of another issuer",
	"auth/resource-mismatch":        "of the resource",
	retryLimit:                      "the server still says that it is missing",
}

const (
	sseRetry   = "sse-retry"
	retryLimit = "auth/scope-retry-limit"
)

// notForClients are the scenarios that what passes messages on has no part in.
var notForClients = map[string]string{
	"sep-2640-client-verify-digest":      "who loads skills verifies them",
	"sep-2640-client-verify-frontmatter": "who loads skills verifies them",
	"sep-2640-client-verify-size":        "who loads skills verifies them",
}

// beforeTheBridge are the scenarios that a client of 2025-11-25 cannot pass at
// 2026-07-28, though Stile is between.
var beforeTheBridge = map[string]string{
	"http-standard-headers": "the server answers initialize, so that nothing is translated, and 2025-11-25 has no such headers",
	"request-metadata":      "the server answers initialize, so that nothing is translated, and 2025-11-25 has no such metadata",
}

// selection is a part of the suite.
type selection struct {
	name      string
	revision  string // empty: each scenario at its own
	auth      bool   // those with an authorization server, or the others
	scenarios int    // how many there are
}

var selections = []selection{
	{"`auth/*`, each at its own revision", "", true, 33},
	{"the others, each at its own revision", "", false, 12},
	{"`auth/*` of " + era2025March, era2025March, true, 2},
	{"`auth/*` of " + era2025, era2025, true, 14},
	{"the others of " + era2025, era2025, false, 5},
	{"`auth/*` of " + era2026, era2026, true, 25},
	{"the others of " + era2026, era2026, false, 8},
}

func (s selection) has(scenario string) bool {
	return notForClients[scenario] == "" && strings.HasPrefix(scenario, "auth/") == s.auth
}

// conformanceClient is a client that the suite runs.
type conformanceClient struct {
	command string
	own     bool              // it has to pass
	words   bool              // its refusals are in our words to the last
	otherAt map[string]string // by revision of the server, what it speaks instead; no other revision is run
}

// TestClientConformance runs the suite's scenarios for clients against Stile's client
// side, and beside it go-sdk's own client: stepup.Transport under go-sdk's client, and
// `stile connect` under one that speaks stdio, of the server's generation and of the
// other. Ours pass without a warning, and do or say what they must.
func TestClientConformance(t *testing.T) {
	driver := build(t, clientDriver)
	connect := driver + " -stile " + stileBinary(t)
	clients := []conformanceClient{
		{command: build(t, goSDKClient)},
		{command: driver, own: true},
		{command: connect, own: true, words: true},
		{command: connect, own: true, otherAt: map[string]string{era2025: era2026, era2026: era2025}},
	}
	table := newTable("scenarios of the suite", "go-sdk's client", "`stepup.Transport`", "`stile connect`", "a client of the other generation before it")
	ran := map[string]map[string]clientVerdict{}
	for _, s := range selections {
		row := []string{s.name}
		for i, client := range clients {
			if client.otherAt != nil && client.otherAt[s.revision] == "" {
				row = append(row, "")
				continue
			}
			key := fmt.Sprint(i, s.revision)
			if ran[key] == nil {
				ran[key] = client.run(t, s.revision)
			}
			row = append(row, ratio(client.passed(t, s, ran[key]), s.scenarios))
		}
		table.add(row...)
	}
	table.publish(t, "conformance-client.md")
}

// clientVerdict is what the suite says about a client in one scenario, and what the
// client said itself.
type clientVerdict struct {
	verdict
	done bool   // it has done what it came for
	said string // else why not
}

// clean is what the suite calls passed: no failed check and no warning.
func (v clientVerdict) clean() bool {
	return len(v.checks) > 0 && len(v.failures)+len(v.warnings) == 0
}

// passed counts the scenarios of a selection that passed, and fails the test for the
// others where all have to.
func (c conformanceClient) passed(t *testing.T, s selection, all map[string]clientVerdict) int {
	t.Helper()
	passed, there := 0, 0
	for scenario, v := range all {
		if !s.has(scenario) {
			continue
		}
		there++
		wrong := ""
		if !v.clean() {
			wrong = strings.Join(slices.Concat(v.failures, v.warnings), "\n")
		} else if c.own {
			wrong = c.wrong(scenario, v)
		}
		reason := ""
		if c.otherAt[s.revision] == era2025 {
			reason = beforeTheBridge[scenario]
		}
		switch {
		case wrong == "":
			passed++
			if reason != "" {
				t.Errorf("%s, %s: passes, and it cannot: %s", s.name, scenario, reason)
			}
		case c.own && reason == "":
			t.Errorf("%s, %s, %s: %s\n%s", s.name, c.command, scenario, wrong, v.said)
		}
	}
	if there != s.scenarios {
		t.Errorf("%s: the suite has %d scenarios, want %d: %v", s.name, there, s.scenarios, slices.Sorted(maps.Keys(all)))
	}
	return passed
}

// wrong tells what a client did or said that it must not; empty for nothing.
func (c conformanceClient) wrong(scenario string, v clientVerdict) string {
	says, refuses := mustRefuse[scenario]
	if scenario == retryLimit && !c.words {
		says = "" // go-sdk hides it
	}
	switch {
	case refuses && (v.done || !strings.Contains(v.said, says)):
		return fmt.Sprintf("done is %v, want a refusal that says %q", v.done, says)
	case !refuses && !v.done:
		return "the client failed"
	}
	return ""
}

// run runs all scenarios at a revision, or each at its own.
func (c conformanceClient) run(t *testing.T, revision string) map[string]clientVerdict {
	t.Helper()
	command, arguments := c.command, []string{"--suite", "all"}
	if other := c.otherAt[revision]; other != "" {
		command += " -speak " + other
	}
	if revision != "" {
		arguments = append(arguments, "--spec-version", revision)
	}
	found := tryClient(t, command, arguments...)
	if _, timed := found[sseRetry]; timed {
		// It measures how soon the client comes back, and fifty others are in its way; a
		// slow machine may be late by itself too.
		for tries := 0; tries == 0 || tries < 3 && !found[sseRetry].clean(); tries++ {
			found[sseRetry] = tryClient(t, command, "--scenario", sseRetry)[sseRetry]
		}
	}
	return found
}

// tryClient runs a part of the suite. That scenarios fail is no error.
func tryClient(t *testing.T, command string, arguments ...string) map[string]clientVerdict {
	t.Helper()
	results := t.TempDir()
	arguments = append([]string{"--require", "./conformance/globsync.cjs", suite + "/dist/index.js", "client",
		"--command", command, "--output-dir", results}, arguments...)
	out, err := run(t, nil, node(t), arguments...)
	found := map[string]clientVerdict{}
	for _, pattern := range []string{"*/checks.json", "auth/*/checks.json"} {
		files, wrong := filepath.Glob(filepath.Join(results, pattern))
		if wrong != nil {
			t.Fatal(wrong)
		}
		for _, file := range files {
			folder, wrong := filepath.Rel(results, filepath.Dir(file))
			if wrong != nil {
				t.Fatal(wrong)
			}
			found[withoutTime(folder)] = readClient(t, file)
		}
	}
	if len(found) == 0 {
		t.Fatalf("the suite left no results: %v\n%s", err, tail(string(out), 100))
	}
	return found
}

func readClient(t *testing.T, checks string) clientVerdict {
	t.Helper()
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(checks), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	return clientVerdict{verdict: readChecks(t, checks), done: read("stdout.txt") == "done\n", said: tail(read("stderr.txt"), 20)}
}

// TestBadClientsAreCaught has the same client misbehave, one way at a time: the suite
// that passes ours is one that sees it.
func TestBadClientsAreCaught(t *testing.T) {
	driver := build(t, clientDriver)
	for _, c := range []struct{ bad, scenario, check string }{
		{"no-pkce", "auth/metadata-default", "pkce-code-challenge-sent"},
		{"no-resource", "auth/token-endpoint-auth-none", "resource-parameter-in-authorization"},
		{"ignores-scopes", "auth/scope-from-www-authenticate", "scope-from-www-authenticate"},
		{"ignores-scopes", "auth/scope-from-scopes-supported", "scope-from-scopes-supported"},
		{"invents-scopes", "auth/scope-omitted-when-undefined", "scope-omitted-when-undefined"},
		{"forgets-scopes", "auth/scope-step-up", "sep-2350-scope-union-on-reauth"},
		{"ignores-403", "auth/scope-step-up", "scope-step-up-escalation"},
		{"never-tires", "auth/scope-retry-limit", "scope-retry-limit"},
		{"believes-any-iss", "auth/iss-wrong-issuer", "sep-2468-client-compare-iss-supported"},
		{"believes-any-iss", "auth/iss-normalized", "sep-2468-client-no-normalization"},
		{"bound-as-bearer", "auth/dpop", "sep-1932-client-dpop-auth-scheme"},
		{"replays-proofs", "auth/dpop", "sep-1932-client-fresh-proof"},
		{"no-document", "auth/basic-cimd", "cimd-client-id-used"},
		{"unknown-client", "auth/pre-registration", "pre-registration-auth"},
		{"shares-clients", "auth/authorization-server-migration", "sep-2352-no-reuse-on-as-change"},
		{"expired-assertion", "auth/wif-jwt-bearer", "wif-assertion-expired"},
		{"foreign-assertion", "auth/wif-jwt-bearer", "wif-assertion-audience"},
	} {
		t.Run(fmt.Sprintf("%s in %s", c.bad, c.scenario), func(t *testing.T) {
			t.Parallel()
			revision := []string{"--scenario", c.scenario}
			if c.check == "sep-2350-scope-union-on-reauth" {
				revision = append(revision, "--spec-version", era2026)
			}
			got := tryClient(t, driver+" -bad "+c.bad, revision...)[c.scenario]
			if !slices.ContainsFunc(slices.Concat(got.failures, got.warnings), func(line string) bool { return strings.HasPrefix(line, c.check+":") }) {
				t.Errorf("the suite did not see it: %q, %q\n%s", got.failures, got.warnings, got.said)
			}
		})
	}
}
