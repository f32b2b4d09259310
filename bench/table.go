package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
)

// row is one figure and what it is held against. Zero value of both bounds and
// plain: a figure that is only shown.
type row struct {
	what  string
	value float64
	unit  string // "" : a ratio or a count
	must  float64
	aim   float64
	most  bool // the bounds are upper ones
	plain bool // shown, not judged
}

func (r row) reaches(bound float64) bool {
	if math.IsNaN(r.value) {
		return false
	}
	if r.most {
		return r.value <= bound
	}
	return r.value >= bound
}

func (r row) verdict() string {
	switch {
	case r.plain:
		return ""
	case r.reaches(r.aim):
		return "reached"
	case r.reaches(r.must):
		return "passed"
	default:
		return "MISSED"
	}
}

// table collects the rows.
type table struct{ rows []row }

func (t *table) add(r row) { t.rows = append(t.rows, r) }

func (t *table) missed() (n int) {
	for _, r := range t.rows {
		if r.verdict() == "MISSED" {
			n++
		}
	}
	return n
}

// print writes the table as Markdown that can be read as it stands.
func (t *table) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| \t| measured\t| must\t| aim\t| \t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range t.rows {
		must, aim := r.bound(r.must), r.bound(r.aim)
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s\t| %s\t|\n", r.what, r.format(r.value), must, aim, r.verdict())
	}
	_ = w.Flush() // of out, which reports by itself
}

func (r row) bound(v float64) string {
	switch {
	case r.plain:
		return ""
	case r.most:
		return "≤ " + r.format(v)
	default:
		return "≥ " + r.format(v)
	}
}

func (r row) format(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case r.unit == "" && v == math.Trunc(v) && (v == 0 || v > 2):
		return fmt.Sprintf("%.0f", v)
	case r.unit == "":
		return fmt.Sprintf("%.2f", v)
	case math.Abs(v) < 10:
		return fmt.Sprintf("%.1f %s", v, r.unit)
	default:
		return fmt.Sprintf("%.0f %s", v, r.unit)
	}
}

// median is that of values, NaN without any.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
