// Command mutants takes each defence of docs/threats.md out once and wants the test
// that is named for it to fail. The tree is not touched: the changed file reaches the
// compiler as an overlay. Run it with `make mutants`, or with the numbers of the
// threats to look at.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// table is what is taken out, a line each, with tabs between: the threat, the file,
// the text there, what stands in its place, the package and the test that must fail.
const table = "attack/mutants/table.tsv"

type mutant struct{ threat, file, old, new, pkg, test string }

func main() {
	mutants, err := read(table)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	alive := 0
	for _, m := range mutants {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], m.threat) {
			continue
		}
		result, err := m.run()
		if err != nil {
			alive++
			result = "NOT SEEN: " + err.Error()
		}
		fmt.Printf("%-4s %-40s %-45s %s\n", m.threat, m.file, m.test, result)
	}
	if alive > 0 {
		fmt.Printf("%d defences can be taken out unseen\n", alive)
		os.Exit(1)
	}
}

func read(name string) ([]mutant, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []mutant
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		field := strings.Split(line, "\t")
		if len(field) != 6 {
			return nil, fmt.Errorf("%s: expected 6 fields: %s", name, line)
		}
		all = append(all, mutant{field[0], field[1], unquote(field[2]), unquote(field[3]), field[4], field[5]})
	}
	return all, nil
}

// unquote writes the line ends and tabs that a line of the table cannot have.
func unquote(s string) string { return strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(s) }

// run tests one mutant. It returns an error unless the test fails.
func (m *mutant) run() (string, error) {
	source, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		return "", fmt.Errorf("%q stands %d times in the file, expected once", m.old, n)
	}
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	overlay, err := m.overlay(dir, string(source))
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "test", "-count=1", "-vet=off", "-overlay", overlay, "-run", m.pattern(), m.pkg).CombinedOutput()
	switch text := string(out); {
	case err == nil:
		return "", fmt.Errorf("the test passes without the defence")
	case strings.Contains(text, "[build failed]"), strings.Contains(text, "[setup failed]"):
		return "", fmt.Errorf("does not build: %s", text)
	case strings.Contains(text, "FAIL"):
		return "fails without it", nil
	default:
		return "", fmt.Errorf("%w: %s", err, text)
	}
}

// pattern is what makes go test run the test: a transcript is named by what follows a
// slash.
func (m *mutant) pattern() string {
	if name, part, ok := strings.Cut(m.test, "/"); ok {
		return "^" + name + "$/^" + part + "$"
	}
	return "^(" + m.test + ")$"
}

// overlay writes the changed file and what tells the compiler of it.
func (m *mutant) overlay(dir, source string) (string, error) {
	original, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	changed := filepath.Join(dir, "changed.go")
	if err := os.WriteFile(changed, []byte(strings.Replace(source, m.old, m.new, 1)), 0o600); err != nil {
		return "", err
	}
	data, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, data, 0o600)
}
