package stile_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The documents say what is done and which test proves it. These tests hold them
// to it: a number that is missing, a test that was renamed, a link that leads
// nowhere or an example that no longer works fails here.

// requirements are the numbers that comments cite, section by section.
var requirements = docNumbers("REQ", [][2]int{{1, 17}, {20, 39}, {50, 60}, {70, 73}, {80, 82}})

// designRules are the rules of our own that comments cite.
var designRules = docNumbers("DES", [][2]int{{1, 16}, {20, 29}, {30, 35}, {40, 46}, {50, 53}})

// featureRows is how many features docs/features.md lists.
const featureRows = 88

func docNumbers(prefix string, ranges [][2]int) []string {
	var all []string
	for _, r := range ranges {
		for n := r[0]; n <= r[1]; n++ {
			all = append(all, fmt.Sprintf("%s-%02d", prefix, n))
		}
	}
	return all
}

// docStates are what a row may say of itself, by document, and whether it has to
// name a test then.
var docStates = map[string]map[string]bool{
	"docs/spec.md":     {"done": true, "differs": true, "absent": false},
	"docs/features.md": {"done": true, "partly": true, "planned": false},
	"docs/threats.md":  {"done": true, "partly": true, "planned": false},
}

// docRow is one line of a table that begins with a number.
type docRow struct {
	id, state, text string
}

var docRowStart = regexp.MustCompile(`^\| ((?:REQ|DES)-\d\d|T\d+|\d+) \|`)

// docRows reads the numbered rows of a document. The state is the third cell.
func docRows(t *testing.T, file string) []docRow {
	t.Helper()
	var rows []docRow
	for line := range strings.Lines(readDoc(t, file)) {
		m := docRowStart.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		cells := strings.Split(strings.ReplaceAll(line, `\|`, ""), "|")
		if len(cells) != 6 {
			t.Errorf("%s: row %s has %d cells, want 4: number, what, state, how and test", file, m[1], len(cells)-2)
			continue
		}
		rows = append(rows, docRow{m[1], strings.TrimSpace(cells[3]), line})
	}
	return rows
}

func TestDocumentsAreComplete(t *testing.T) {
	features := docNumbers("", [][2]int{{1, featureRows}})
	for i := range features {
		features[i] = fmt.Sprint(i + 1)
	}
	threats := docRows(t, "docs/threats.md")
	want := map[string][]string{
		"docs/spec.md":     append(slices.Clone(requirements), designRules...),
		"docs/features.md": features,
		"docs/threats.md":  nil,
	}
	for i := range threats {
		want["docs/threats.md"] = append(want["docs/threats.md"], fmt.Sprintf("T%d", i+1))
	}
	for file, ids := range want {
		var found []string
		for _, r := range docRows(t, file) {
			found = append(found, r.id)
			checkState(t, file, r)
		}
		if !slices.Equal(found, ids) {
			t.Errorf("%s has rows\n%v\nwant each of these once, in this order\n%v", file, found, ids)
		}
	}
	if len(threats) == 0 {
		t.Error("docs/threats.md has no rows")
	}
}

func checkState(t *testing.T, file string, r docRow) {
	t.Helper()
	needsTest, known := docStates[file][r.state]
	if !known {
		t.Errorf("%s: %s has state %q, want one of %v", file, r.id, r.state, docStates[file])
	}
	if needsTest && len(docReferences(r.text)) == 0 {
		t.Errorf("%s: %s is %s but names no test", file, r.id, r.state)
	}
	if strings.Contains(r.text, "TBD") {
		t.Errorf("%s: %s is not written yet", file, r.id)
	}
}

// docReference is a test that a document names: a function of a package, a
// transcript of testdata/flow, or a script of cmd/stile/testdata/script.
type docReference struct{ folder, name string }

var (
	namedFunction   = regexp.MustCompile("`([a-z/0-9]+)\\.((?:Test|Fuzz|Benchmark|Example)[A-Za-z0-9_]*)`")
	namedTranscript = regexp.MustCompile("`(flow|script)/([a-z0-9_-]+)`")
)

func docReferences(text string) []docReference {
	var found []docReference
	for _, pattern := range []*regexp.Regexp{namedFunction, namedTranscript} {
		for _, m := range pattern.FindAllStringSubmatch(text, -1) {
			found = append(found, docReference{m[1], m[2]})
		}
	}
	return found
}

// check wants the test that a reference names to exist.
func (r docReference) check(t *testing.T) error {
	t.Helper()
	switch r.folder {
	case "flow":
		return fileExists("testdata/flow/" + r.name + ".txtar")
	case "script":
		return fileExists("cmd/stile/testdata/script/" + r.name + ".txtar")
	case "stile":
		return hasFunction(t, ".", r.name)
	default:
		return hasFunction(t, r.folder, r.name)
	}
}

func fileExists(file string) error {
	_, err := os.Stat(filepath.FromSlash(file))
	return err
}

func hasFunction(t *testing.T, folder, name string) error {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.FromSlash(folder), "*_test.go"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if strings.Contains(readDoc(t, file), "\nfunc "+name+"(") {
			return nil
		}
	}
	return fmt.Errorf("no test file of %s has func %s", folder, name)
}

func TestDocumentsNameTestsThatExist(t *testing.T) {
	named := 0
	for _, file := range ourDocuments(t) {
		for _, r := range docReferences(readDoc(t, file)) {
			named++
			if err := r.check(t); err != nil {
				t.Errorf("%s names %s/%s: %v", file, r.folder, r.name, err)
			}
		}
	}
	if named == 0 {
		t.Error("no document names a test")
	}
}

// citation is a number as comments write it: REQ-25, or REQ-25..29.
var citation = regexp.MustCompile(`\b(REQ|DES)-(\d\d)(?:\.\.(\d\d))?`)

// TestCitedNumbersAreExplained wants every number that code or documents cite to
// be a row of docs/spec.md.
func TestCitedNumbersAreExplained(t *testing.T) {
	known := append(slices.Clone(requirements), designRules...)
	for _, file := range ourFiles(t, ".go", ".md", ".txtar") {
		for _, m := range citation.FindAllStringSubmatch(readDoc(t, file), -1) {
			for _, number := range []string{m[2], m[3]} {
				if id := m[1] + "-" + number; number != "" && !slices.Contains(known, id) {
					t.Errorf("%s cites %s, which docs/spec.md does not explain", file, id)
				}
			}
		}
	}
}

var (
	docFence     = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	docLink      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	docHeading   = regexp.MustCompile(`(?m)^#+ (.+)$`)
	docNotInSlug = regexp.MustCompile("[^a-z0-9 _-]")
)

func TestLinksLeadSomewhere(t *testing.T) {
	for _, file := range ourDocuments(t) {
		for _, m := range docLink.FindAllStringSubmatch(docFence.ReplaceAllString(readDoc(t, file), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if err := fileExists(target); err != nil {
				t.Errorf("%s: link to %s: %v", file, m[1], err)
				continue
			}
			if anchor != "" && !slices.Contains(docAnchors(readDoc(t, target)), anchor) {
				t.Errorf("%s: %s has no heading %q", file, target, anchor)
			}
		}
	}
}

// docAnchors are the names that GitHub gives to headings.
func docAnchors(text string) []string {
	var found []string
	for _, m := range docHeading.FindAllStringSubmatch(docFence.ReplaceAllString(text, ""), -1) {
		slug := docNotInSlug.ReplaceAllString(strings.ToLower(m[1]), "")
		found = append(found, strings.ReplaceAll(slug, " ", "-"))
	}
	return found
}

// fencedBlocks returns the fenced blocks of a document in one language.
func fencedBlocks(t *testing.T, file, language string) []string {
	t.Helper()
	var found []string
	for _, m := range docFence.FindAllStringSubmatch(readDoc(t, file), -1) {
		if m[1] == language {
			found = append(found, m[2])
		}
	}
	return found
}

// policyBeside is the policy file that the examples of docs/clients.md name.
const policyBeside = "baseline: notes:read\nrules:\n  - tools: [\"*\"]\n    scopes: notes:read\n"

// docEnvironment is what the examples take from the environment.
var docEnvironment = []string{"IDP_SECRET=secret", "NOTES_KEY=secret", "LOGIN_SECRET=secret", "CI_KEY_SHA256=" + strings.Repeat("0f", 32)}

// TestConfigurationsInDocuments runs `stile check` on every block that is a whole
// stile.yaml, and the commands of README.md on its first one.
func TestConfigurationsInDocuments(t *testing.T) {
	stile := buildStile(t)
	for file, want := range map[string]int{"README.md": 2, "docs/clients.md": 7, "docs/login.md": 1} {
		found := 0
		for _, block := range fencedBlocks(t, file, "yaml") {
			if !strings.Contains(block, "\nservers:\n") {
				continue
			}
			found++
			folder := t.TempDir()
			writeDoc(t, filepath.Join(folder, "stile.yaml"), block)
			writeDoc(t, filepath.Join(folder, "notes.policy.yaml"), policyBeside)
			if out, err := runInFolder(folder, stile, "check"); err != nil {
				t.Errorf("%s: stile check: %v\n%s\n%s", file, err, out, block)
			}
			if file == "README.md" && found == 1 {
				checkExplain(t, folder, stile)
			}
		}
		if found < want {
			t.Errorf("%s has %d configurations, want %d at least", file, found, want)
		}
	}
}

// checkExplain wants the explain command of README.md to show the challenge that
// README.md shows, which is the one of the transcript.
func checkExplain(t *testing.T, folder, stile string) {
	t.Helper()
	challenge := lineOf(t, "README.md", "WWW-Authenticate: ")
	if flow := lineOf(t, "testdata/flow/step-up-tool-2025.txtar", "WWW-Authenticate: "); challenge != flow {
		t.Errorf("README.md shows\n%s\nthe transcript\n%s", challenge, flow)
	}
	command := strings.TrimPrefix(lineOf(t, "README.md", "stile explain "), "stile ")
	out, err := runInFolder(folder, "sh", "-c", stile+" "+command)
	if err != nil {
		t.Errorf("%s: %v", command, err)
	}
	if want := strings.TrimPrefix(challenge, "WWW-Authenticate: "); !strings.Contains(out, want) {
		t.Errorf("%s prints\n%s\nwithout\n%s", command, out, want)
	}
}

// lineOf is the first line of a file that begins so.
func lineOf(t *testing.T, file, start string) string {
	t.Helper()
	for l := range strings.Lines(readDoc(t, file)) {
		if strings.HasPrefix(l, start) {
			return strings.TrimRight(l, "\n")
		}
	}
	t.Errorf("%s has no line that begins with %q", file, start)
	return ""
}

func buildStile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stile")
	if out, err := exec.Command("go", "build", "-o", path, "./cmd/stile").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

func runInFolder(folder, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Dir, c.Env = folder, append(os.Environ(), docEnvironment...)
	out, err := c.CombinedOutput()
	return string(out), err
}

// TestREADMEExample holds the Go code of README.md against Example.
func TestREADMEExample(t *testing.T) {
	found := fencedBlocks(t, "README.md", "go")
	if len(found) != 1 {
		t.Fatalf("README.md has %d blocks of Go, want 1", len(found))
	}
	if want := bodyOf(t, "example_test.go", "Example"); found[0] != want {
		t.Errorf("README.md does not have the code of Example, which is\n%s", want)
	}
}

// bodyOf is the body of a function without its indentation.
func bodyOf(t *testing.T, file, function string) string {
	t.Helper()
	text := readDoc(t, file)
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range parsed.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != function {
			continue
		}
		body := text[files.Position(f.Body.Lbrace).Offset+2 : files.Position(f.Body.Rbrace).Offset]
		return strings.ReplaceAll(strings.TrimPrefix(body, "\t"), "\n\t", "\n")
	}
	t.Fatalf("%s has no func %s", file, function)
	return ""
}

// ourDocuments are our documents.
func ourDocuments(t *testing.T) []string { return ourFiles(t, ".md") }

// ourFiles are our files with one of these endings.
func ourFiles(t *testing.T, endings ...string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || (strings.HasPrefix(d.Name(), ".") && path != ".")) {
			return filepath.SkipDir
		}
		if !d.IsDir() && slices.Contains(endings, filepath.Ext(path)) {
			found = append(found, filepath.ToSlash(path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func readDoc(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.FromSlash(file))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeDoc(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
