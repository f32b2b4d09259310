package reading_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// entry is a line of testdata/reading/messages.txt.
type entry struct {
	name    string
	refused bool
	body    []byte
}

// messages reads testdata/reading/messages.txt.
func messages(t testing.TB) []entry {
	t.Helper()
	text, err := os.ReadFile("../../testdata/reading/messages.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []entry
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		verdict, rest, _ := strings.Cut(line, " ")
		label, quoted, _ := strings.Cut(rest, " ")
		body, err := strconv.Unquote(quoted)
		if err != nil || (verdict != "refused" && verdict != "accepted") {
			t.Fatalf("messages.txt:%d: expected refused or accepted, a name and a Go string: %v", i+1, err)
		}
		all = append(all, entry{label, verdict == "refused", []byte(body)})
	}
	return all
}

// transcripts are the bodies of every request in testdata/flow.
func transcripts(t testing.TB) []entry {
	t.Helper()
	files, err := filepath.Glob("../../testdata/flow/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	var all []entry
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, section := range strings.Split("\n"+string(text), "\n-- request ")[1:] {
			section, _, _ = strings.Cut(section, "\n-- ")
			if _, body, ok := strings.Cut(section, "\n\n"); ok && strings.TrimSpace(body) != "" {
				all = append(all, entry{name: filepath.Base(file) + " " + strconv.Itoa(i+1), body: []byte(body)})
			}
		}
	}
	return all
}
