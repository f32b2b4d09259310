package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/stiletest"
)

const manualFile = "../../docs/config.md"

// The manual is made of the comments of the types that are decoded, so that a key cannot be
// described in one way and work in another.
func TestManualIsWhatTheCommentsSay(t *testing.T) {
	got := manual(t)
	if stiletest.Update() {
		if err := os.WriteFile(manualFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(manualFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("docs/config.md is not what the comments say; run: go test ./cmd/stile -run Manual -update\n%s", diff)
	}
}

// Every key of the file and of its parts must have a comment, and every type of
// the file a section.
func TestManualLeavesNothingOut(t *testing.T) {
	got := manual(t)
	for _, typ := range []reflect.Type{reflect.TypeFor[File](), reflect.TypeFor[Issuer](), reflect.TypeFor[Introspection](),
		reflect.TypeFor[AuthServer](), reflect.TypeFor[AuthClient](), reflect.TypeFor[Login](), reflect.TypeFor[LoginAllow](), reflect.TypeFor[Scopes](), reflect.TypeFor[APIKey](), reflect.TypeFor[Server](), reflect.TypeFor[TLS](),
		reflect.TypeFor[CORS](), reflect.TypeFor[Debug](), reflect.TypeFor[UpstreamTLS](), reflect.TypeFor[Timeouts](), reflect.TypeFor[authorize.Config](), reflect.TypeFor[authorize.Rule]()} {
		for key := range fieldsOf(typ) {
			if !strings.Contains(got, "### `"+key+"`") {
				t.Errorf("%s: the key %s is not in the manual", typ, key)
			}
		}
	}
}

const manualHead = `# The configuration file

<!-- Made from the comments in cmd/stile/config.go, configauth.go, configweb.go and
authorize/config.go. To change it, change them and
run: go test ./cmd/stile -run Manual -update -->

` + "`stile serve` and its like read `stile.yaml`, or the file named by `-c`. `stile check`" + `
tells every mistake in one at once, each with its line, and exits with 1 if there
are any.

- Unknown keys are mistakes, and so is a key that is given twice.
- ` + "`${NAME}`" + ` in any value is taken from the environment; that it is not set is a
  mistake. ` + "`$$`" + ` stands for a single ` + "`$`" + `. In a list or mapping in brackets such a
  value needs quotes.
- A value that begins with ` + "`file:`" + ` is the content of that file, without the line
  end. In policies it is not, because resources have such URIs.
- Relative paths start from the folder of the file that they stand in.
- Time spans are written as ` + "`30s`, `5m` or `24h`" + `, sizes as ` + "`65536`, `512KiB` or `4MiB`" + `.
- Anchors, aliases and tags of YAML are not part of the format.
- Secrets are never shown in what Stile says about a file.

`

// manual writes a section for every struct with keys.
func manual(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(manualHead)
	for _, name := range []string{"config.go", "configauth.go", "configweb.go", "../../authorize/config.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			general, ok := declaration.(*ast.GenDecl)
			if !ok || general.Tok != token.TYPE {
				continue
			}
			spec := general.Specs[0].(*ast.TypeSpec)
			if fields, ok := spec.Type.(*ast.StructType); ok {
				writeSection(t, &b, spec.Name.Name, general.Doc.Text(), fields)
			}
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// sections say what a type is in the file, and which text stands there where the
// comment is for programmers.
var sections = map[string]struct{ title, text string }{
	"File":          {title: "The file"},
	"Issuer":        {title: "`issuers[]`"},
	"Login":         {title: "`login`"},
	"LoginAllow":    {title: "`login.allow`"},
	"AuthServer":    {title: "`authserver`"},
	"AuthClient":    {title: "`authserver.clients[]`"},
	"Introspection": {title: "`issuers[].introspection`"},
	"APIKey":        {title: "`api_keys[]`"},
	"Scopes":        {title: "`scopes`"},
	"Server":        {title: "`servers.NAME`"},
	"TLS":           {title: "`tls`"},
	"CORS":          {title: "`cors`"},
	"Debug":         {title: "`debug`"},
	"UpstreamTLS":   {title: "`servers.NAME.tls`"},
	"Timeouts":      {title: "`servers.NAME.timeouts`"},
	"Config":        {title: "`servers.NAME.policy`, or a policy file", text: "Who may do what at a server. See policy.md for examples.\n"},
	"Rule": {title: "`rules[]` of a policy", text: "A rule names what it is about, by one or more of tools, resources, prompts and\n" +
		"methods, and says what holds for it: one of scopes, anonymous and deny.\n"},
}

func writeSection(t *testing.T, b *strings.Builder, name, comment string, fields *ast.StructType) {
	t.Helper()
	section, ok := sections[name]
	if !ok {
		t.Fatalf("config.go: %s has no section in the manual", name)
	}
	if section.text == "" {
		section.text = withoutName(comment, name)
	}
	fmt.Fprintf(b, "## %s\n\n%s\n", section.title, section.text)
	for _, field := range fields.Fields.List {
		if field.Tag == nil {
			continue
		}
		key := reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("yaml")
		text := field.Doc.Text()
		if key == "-" {
			continue
		}
		if text == "" {
			t.Errorf("config.go: the key %s has no comment", key)
		}
		fmt.Fprintf(b, "### `%s`\n\n%s\n", key, text)
	}
}

// withoutName turns "File is a stile.yaml." into "A stile.yaml."
func withoutName(comment, name string) string {
	rest, ok := strings.CutPrefix(comment, name+" is ")
	if !ok {
		return comment
	}
	return strings.ToUpper(rest[:1]) + rest[1:]
}

// The key names are part of the contract: changing one breaks files.
func TestKeysAreThoseOfTheContract(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "stile.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	src, found := parse("stile.yaml", text)
	if found != nil {
		t.Fatal(found)
	}
	fields := fieldsOf(reflect.TypeFor[File]())
	values, _ := mappingValues(src.root)
	var keys []string
	for _, pair := range values {
		keys = append(keys, keyText(pair.Key))
	}
	for _, key := range keys {
		if _, ok := fields[key]; !ok {
			t.Errorf("the contract's key %s is not one", key)
		}
	}
	if !slices.Contains(keys, "servers") {
		t.Error("the contract's example has no servers")
	}
}
