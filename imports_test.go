package stile_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/stile-mcp/stile"

// mayImport says which of our packages each package may import, and why no
// other: the way of a request has one direction (ARCHITECTURE.md), and a stage
// uses the values of earlier stages only.
var mayImport = map[string]struct {
	packages string
	why      string
}{
	"authserver":                   {"authserver/browser authserver/internal/protocol authserver/pages authserver/people authserver/portal internal/fetch scope store", "who issues tokens knows nothing of who checks them"},
	"authserver/internal/protocol": {"store", "the protocol keeps things and knows no people"},
	"authserver/browser":           {"", "which browser it is has nothing to do with what is asked there"},
	"authserver/portal/portaltest": {"authserver/browser authserver/people authserver/portal store", "a fake core is a map; everything else is the real thing"},
	"authserver/portal":            {"authserver/browser authserver/pages authserver/people authserver/provider", "what people see knows the protocol by an interface only"},
	"authserver/provider":          {"authserver/people scope internal/problem", "who signed in elsewhere is a person like any other"},
	"authserver/people":            {"", "who may sign in has nothing to do with what they sign in for"},
	"authserver/control":           {"authserver/people", "accounts are what is changed from outside, and nothing else"},
	"authserver/pages":             {"", "a page is a value; it decides nothing"},
	"scope":                        {"", "scopes are plain values; they know no stage"},
	"message":                      {"", "reading a message needs nothing but the JSON reader"},
	"authenticate":                 {"scope internal/fetch internal/problem", "who asks is known before what is asked"},
	"authorize":                    {"authenticate message scope internal/problem", "a policy judges values of earlier stages and writes nothing"},
	"challenge":                    {"scope message", "a refusal is words; it decides nothing"},
	"session":                      {"internal/problem", "a sealed id is bytes; whose it is comes in as a value"},
	"forward":                      {"message session challenge internal/sse internal/relay internal/stdio internal/envelope internal/era internal/mirror internal/problem", "what is forwarded was decided before"},
	"store":                        {"", "values by key; what they mean is for others"},
	"store/storetest":              {"store", "a suite knows what it tests"},
	"propose":                      {"authenticate authorize message scope", "a proposal is a pure function of what a server says; asking is for others"},
	"internal/ask":                 {"propose internal/sse internal/stdio", "a client that looks knows nothing of the gateway"},
	"internal/problem":             {"", "a mistake is a value"},
	"internal/fetch":               {"", "fetching knows no stage"},
	"internal/remote":              {"internal/sse", "how messages reach a server does not depend on what they say"},
	"internal/mirror":              {"message", "which arguments headers repeat is told by the schema of a tool"},
	"internal/era":                 {"message session challenge internal/remote internal/envelope internal/mirror", "a translation of messages that knows no transport on the client's side"},
	"internal/envelope":            {"", "where a message belongs is told by the message alone"},
	"internal/stdio":               {"", "a child process is pipes and signals; what is said on them is not its business"},
	"internal/sse":                 {"", "an event stream knows no stage"},
	"internal/relay":               {"internal/sse", "the way back is mechanics; hooks decide"},
	"stiletest":                    {"authenticate message scope internal/sse", "a fake knows nothing of the gateway it is put beside"},
	"stepup":                       {"challenge message scope internal/fetch", "a client of protected servers; it knows nothing of the gateway"},
	"stepup/loopback":              {"stepup internal/fetch", "a browser and a port; what is asked for is not its business"},
	"stepup/saved":                 {"stepup", "values under names; what they mean is for stepup"},
	"bridge":                       {"challenge scope stepup internal/remote internal/sse internal/stdio internal/envelope internal/era internal/mirror internal/problem", "a bridge knows its server by messages only, and of logins no more than why one failed"},
	"doctor":                       {"challenge doctor/provider internal/fetch internal/sse scope stepup", "a doctor looks from outside, as a client does; it knows nothing of the gateway"},
	"doctor/provider":              {"", "what is known of others' products is a table"},
	".": {"authenticate message session authorize challenge scope internal/problem internal/relay internal/sse",
		"the gateway takes any http.Handler as upstream, so it does not know forward, and nothing of the programs around it"},
}

func TestImportsPointOneWay(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "tools" || (strings.HasPrefix(d.Name(), ".") && path != ".")) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		pkg := filepath.ToSlash(filepath.Dir(path))
		seen[pkg] = true
		checkImports(t, pkg, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range mayImport {
		if !seen[pkg] {
			t.Errorf("%s has import rules but no files: take it out of the table", pkg)
		}
	}
}

func checkImports(t *testing.T, pkg, path string) {
	rule, ok := mayImport[pkg]
	if !ok {
		if pkg == "cmd/stile" || strings.HasPrefix(pkg, "cmd/stile/") || strings.HasPrefix(pkg, "interop") || strings.HasPrefix(pkg, "bench") || strings.HasPrefix(pkg, "attack") {
			return // programs may import everything
		}
		t.Errorf("%s: package %s has no import rule: add one, with its reason", path, pkg)
		return
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	allowed := " " + rule.packages + " "
	for _, spec := range file.Imports {
		name, _ := strconv.Unquote(spec.Path.Value)
		if name != module && !strings.HasPrefix(name, module+"/") {
			continue
		}
		target := strings.TrimPrefix(strings.TrimPrefix(name, module), "/")
		if !strings.Contains(allowed, " "+target+" ") {
			t.Errorf("%s imports %q: not allowed, because %s", path, name, rule.why)
		}
	}
}

// opener starts the browser: always the same few programs, with one address that was
// looked at as their only argument.
const opener = "stepup/loopback/opener.go"

// No text of a stranger's can become a command where no command is started (T19): only
// internal/stdio starts programs, and which ones stands in the operator's file; and one
// file opens a browser.
func TestOnePackageStartsPrograms(t *testing.T) {
	pkgs := 0
	for _, pattern := range []string{"*.go", "*/*.go", "*/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			top, _, _ := strings.Cut(filepath.ToSlash(path), "/")
			if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(filepath.ToSlash(path), "internal/stdio/") || filepath.ToSlash(path) == opener ||
				top == "bench" || top == "attack" || top == "interop" || top == "tools" {
				continue // those who measure and attack start what they like
			}
			pkgs++
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range file.Imports {
				if spec.Path.Value == `"os/exec"` {
					t.Errorf("%s imports os/exec: only internal/stdio starts programs, and %s a browser", path, opener)
				}
			}
		}
	}
	if pkgs < 100 {
		t.Errorf("looked at %d files only", pkgs)
	}
}
