package era_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var transcriptName = regexp.MustCompile("`((?:new|old)_[a-z_]+)`")

// TestErasDocument holds docs/eras.md to the conversations: each that it names is
// there, and each that is there is named.
func TestErasDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/eras.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range transcriptName.FindAllStringSubmatch(string(doc), -1) {
		named[m[1]] = true
		if _, err := os.Stat("testdata/" + m[1] + ".txt"); err != nil {
			t.Errorf("docs/eras.md names %s: %v", m[1], err)
		}
	}
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), ".txt"); ok && !named[name] {
			t.Errorf("docs/eras.md does not name %s", name)
		}
	}
}
