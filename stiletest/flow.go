package stiletest

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

// FlowEnv is what a transcript is played against.
type FlowEnv struct {
	// Handler is under test. Required.
	Handler http.Handler
	// Issuer mints the tokens of ${TOKEN:…}. Required where a transcript has one.
	Issuer *Issuer
	// Upstream tells what reached it; a Notes or Scripted. Required where a
	// transcript has upstream sections.
	Upstream interface{ Recorded() []RecordedRequest }
	// Audience is the aud of the tokens. Default: that of the issuer.
	Audience string
	// Vars are further variables.
	Vars map[string]string
	// Timeout bounds each step. Default 10 s.
	Timeout time.Duration
}

// updateFlag is the name of the flag that has RunFlow write transcripts anew.
const updateFlag = "update"

func init() {
	if testing.Testing() && flag.Lookup(updateFlag) == nil {
		flag.Bool(updateFlag, false, "write the response sections of transcripts that do not match anew")
	}
}

// Update reports whether tests run with -update. The flag is this package's
// wherever it is imported; a test with golden files of its own asks here.
func Update() bool {
	f := flag.Lookup(updateFlag)
	return testing.Testing() && f != nil && f.Value.String() == "true"
}

// RunFlow plays the transcript in a file, whose form the package comment tells,
// and reports every difference to t. With -update it writes the response
// sections that differ anew instead. Differences in upstream sections are
// reported always.
func RunFlow(t testing.TB, file string, env FlowEnv) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatalf("transcript: %v", err)
	}
	changed, problems := playFlow(archive, env, Update())
	for _, p := range problems {
		t.Errorf("%s: %s", file, p)
	}
	if changed {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatalf("transcript: %v", err)
		}
	}
}

// flowStep is one step: indexes into the archive's files, -1 where there is none.
type flowStep struct {
	number                      int
	request, upstream, response int
}

// readSteps finds the steps of an archive.
func readSteps(archive *txtar.Archive) ([]flowStep, error) {
	var steps []flowStep
	for index, f := range archive.Files {
		var kind string
		var number int
		if _, err := fmt.Sscanf(f.Name, "%s %d", &kind, &number); err != nil || f.Name != fmt.Sprintf("%s %d", kind, number) {
			return nil, fmt.Errorf("section %q: \"request N\", \"upstream N\" or \"response N\" was expected", f.Name)
		}
		if kind == "request" && number == len(steps)+1 {
			steps = append(steps, flowStep{number, index, -1, -1})
			continue
		}
		if number != len(steps) || number == 0 {
			return nil, fmt.Errorf("section %q: steps are numbered from 1, and begin with their request", f.Name)
		}
		step := &steps[number-1]
		slot := map[string]*int{"upstream": &step.upstream, "response": &step.response}[kind]
		if slot == nil || *slot != -1 {
			return nil, fmt.Errorf("section %q: unknown or twice", f.Name)
		}
		*slot = index
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("no \"request 1\"")
	}
	return steps, nil
}

// playFlow plays an archive. With update it puts what was answered into the
// archive where it differs, and says so.
func playFlow(archive *txtar.Archive, env FlowEnv, update bool) (changed bool, problems []string) {
	steps, err := readSteps(archive)
	if err != nil {
		return false, []string{err.Error()}
	}
	server := httptest.NewServer(env.Handler)
	defer server.Close()
	defer server.CloseClientConnections()
	p := &player{env: env, vars: newVariables(env, server.URL), archive: archive, address: server.Listener.Addr().String()}
	for n := range steps {
		found := p.play(&steps[n], update)
		for _, f := range found {
			problems = append(problems, fmt.Sprintf("step %d: %s", steps[n].number, f))
		}
	}
	if p.changed {
		archive.Files = insertMissing(archive.Files, steps, p.written)
	}
	return p.changed, problems
}

// player plays the steps of one transcript.
type player struct {
	env     FlowEnv
	vars    *variables
	archive *txtar.Archive
	address string
	changed bool
	written map[int][]byte // new response sections by step, where there was none
}

// play plays one step and returns what differs.
func (p *player) play(step *flowStep, update bool) []string {
	text, err := p.vars.expand(string(p.archive.Files[step.request].Data))
	if err != nil {
		return []string{err.Error()}
	}
	expected := ""
	if step.response != -1 {
		expected = string(p.archive.Files[step.response].Data)
	}
	before := p.seen()
	got, err := exchange(p.address, parseSection(text), p.timeout(), func(body string) bool {
		return p.vars.atOpenEnd(expected, body)
	})
	if err != nil {
		return []string{err.Error()}
	}
	var problems []string
	if step.upstream != -1 {
		problems = p.checkUpstream(string(p.archive.Files[step.upstream].Data), before)
	}
	difference := p.vars.matchResponse(expected, got)
	if difference == "" {
		return problems
	}
	if !update {
		return append(problems, "response: "+difference)
	}
	p.rewrite(step, p.vars.describe(expected, got))
	return problems
}

// rewrite puts a new response section into the archive.
func (p *player) rewrite(step *flowStep, text string) {
	p.changed = true
	if step.response != -1 {
		p.archive.Files[step.response].Data = []byte(text)
		return
	}
	if p.written == nil {
		p.written = map[int][]byte{}
	}
	p.written[step.number] = []byte(text)
}

// insertMissing puts the response sections that did not exist behind the other
// sections of their step.
func insertMissing(files []txtar.File, steps []flowStep, written map[int][]byte) []txtar.File {
	var out []txtar.File
	for n, step := range steps {
		end := len(files)
		if n+1 < len(steps) {
			end = steps[n+1].request
		}
		out = append(out, files[step.request:end]...)
		if data, ok := written[step.number]; ok {
			out = append(out, txtar.File{Name: fmt.Sprintf("response %d", step.number), Data: data})
		}
	}
	return out
}

func (p *player) timeout() time.Duration {
	if p.env.Timeout > 0 {
		return p.env.Timeout
	}
	return 10 * time.Second
}

// seen is how many requests had reached the upstream.
func (p *player) seen() int {
	if p.env.Upstream == nil {
		return 0
	}
	return len(p.env.Upstream.Recorded())
}

// checkUpstream compares what reached the upstream in this step.
func (p *player) checkUpstream(text string, before int) []string {
	if p.env.Upstream == nil {
		return []string{"upstream: FlowEnv.Upstream is not set"}
	}
	got := p.env.Upstream.Recorded()[before:]
	if strings.TrimSpace(text) == "nothing" {
		if len(got) > 0 {
			return []string{fmt.Sprintf("upstream: nothing was expected to reach it, but %d requests did, the first %s %s", len(got), got[0].Method, got[0].Path)}
		}
		return nil
	}
	if len(got) != 1 {
		return []string{fmt.Sprintf("upstream: one request was expected, %d reached it", len(got))}
	}
	if difference := p.vars.matchUpstream(text, got[0]); difference != "" {
		return []string{"upstream: " + difference}
	}
	return nil
}
