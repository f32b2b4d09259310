package stile_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/doctor"
	"github.com/stile-mcp/stile/doctor/provider"
	"github.com/stile-mcp/stile/stiletest"
)

// TestDoctorDocument holds the parts of docs/doctor.md that are made from elsewhere
// against it: the findings, the reports and the providers. With -update they are
// written anew.
func TestDoctorDocument(t *testing.T) {
	const file = "docs/doctor.md"
	want := readDoc(t, file)
	made := map[string]string{"findings": findingsTable(), "providers": providersText(t)}
	for _, name := range []string{"stile-embedded", "typescript", "mcp-proxy", "go-sdk", "epicme"} {
		made[name] = "```text\n" + readDoc(t, filepath.Join("interop", "testdata", "doctor", name+".txt")) + "```\n"
	}
	for name, text := range made {
		before, rest, found := strings.Cut(want, "<!-- made: "+name+" -->\n")
		_, after, ended := strings.Cut(rest, "<!-- end -->")
		if !found || !ended {
			t.Fatalf("%s has no place for %s", file, name)
		}
		want = before + "<!-- made: " + name + " -->\n" + text + "<!-- end -->" + after
	}
	if stiletest.Update() {
		writeDoc(t, file, want)
	} else if readDoc(t, file) != want {
		t.Errorf("%s is out of date: go test . -run TestDoctorDocument -update", file)
	}
}

// findingsTable is every finding there is.
func findingsTable() string {
	var b strings.Builder
	b.WriteString("| Id | | What is wrong | Hurts | How to mend it | Rule |\n|---|---|---|---|---|---|\n")
	for _, f := range doctor.All() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", f.ID, f.Severity, cell(f.Title), cell(strings.Join(f.Hurts, "; ")),
			cell(f.Mend), strings.Join(f.Rule, ", "))
	}
	return b.String()
}

func cell(s string) string { return strings.NewReplacer("|", `\|`, "*", `\*`, "<", "&lt;").Replace(s) }

// providersText tells of each provider as its recorded document does.
func providersText(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("doctor", "testdata", "providers", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			provider.Metadata
			Product  string   `json:"_product"`
			Recorded string   `json:"_recorded"`
			At       []string `json:"_at"`
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		p := provider.Recognise(doc.Issuer, doc.Metadata)
		if p == nil {
			t.Fatalf("%s is of nobody who is known", file)
		}
		oauth := slices.ContainsFunc(doc.At, func(at string) bool { return strings.HasPrefix(at, "/.well-known/oauth-authorization-server") })
		sections[p.Name] = providerSection(p, doc.Product+", recorded "+doc.Recorded, append(provider.Lacks(doc.Metadata, oauth), p.Beyond...))
	}
	var b strings.Builder
	for _, p := range provider.All() {
		b.WriteString("\n" + sections[p.Name])
	}
	return b.String() + "\n"
}

func providerSection(p *provider.Profile, recorded string, lacks []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n%s.\n\n", p.Name, recorded)
	for _, one := range lacks {
		fmt.Fprintf(&b, "- %s\n", cell(one))
	}
	fmt.Fprintf(&b, "\n%s\n\n```yaml\n%s```\n", cell(p.Setup), p.Config("ISSUER"))
	if d := p.Direct("ISSUER"); d != "" {
		fmt.Fprintf(&b, "\nTo take its own tokens:\n\n```yaml\n%s```\n", d)
	}
	return b.String()
}
