package main

import (
	"os"
	"strings"
	"testing"
)

// The table names places in other files, which move: each must still stand there,
// once, and be changed by what is put in its place. That a test fails without it is
// seen by make mutants, which takes minutes.
func TestEveryDefenceStandsWhereTheTableSays(t *testing.T) {
	t.Chdir("../..")
	mutants, err := read(table)
	if err != nil {
		t.Fatal(err)
	}
	if len(mutants) < 60 {
		t.Errorf("only %d rows", len(mutants))
	}
	for _, m := range mutants {
		source, err := os.ReadFile(m.file)
		if err != nil {
			t.Error(err)
			continue
		}
		if n := strings.Count(string(source), m.old); n != 1 || m.old == m.new {
			t.Errorf("%s: %q stands %d times in %s, expected once", m.threat, m.old, n, m.file)
		}
	}
}
