package main

import (
	"iter"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// pairs yields the keys of a mapping in the order of the file; every key once.
// What is not a mapping with plain keys is told as a mistake.
func (d *decoder) pairs(n ast.Node, path string) iter.Seq2[string, *ast.MappingValueNode] {
	return func(yield func(string, *ast.MappingValueNode) bool) {
		values, ok := mappingValues(n)
		if !ok {
			text, _ := scalarText(n)
			d.add(n, path, text, "expected keys and values, such as key: value")
			return
		}
		seen := map[string]int{}
		for _, pair := range values {
			key, ok := plainKey(pair.Key)
			line, _ := position(pair.Key)
			switch first, twice := seen[key]; {
			case !ok:
				d.add(pair.Key, join(path, keyText(pair.Key)), "", "expected a plain text key")
			case twice:
				m := d.src.at(position(pair.Key))
				m.Path, m.Want = join(path, key), "the key was given before, on line "+strconv.Itoa(first)
				d.found = append(d.found, m)
			default:
				seen[key] = line
				if !yield(key, pair) {
					return
				}
			}
		}
	}
}

// mappingValues are the pairs of a mapping node.
func mappingValues(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch v := n.(type) {
	case *ast.MappingNode:
		return v.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{v}, true
	default:
		return nil, false
	}
}

// plainKey is the text of a key that is a scalar.
func plainKey(n ast.MapKeyNode) (string, bool) {
	if n == nil || n.IsMergeKey() {
		return "", false
	}
	if explicit, ok := n.(*ast.MappingKeyNode); ok {
		return scalarText(explicit.Value)
	}
	if node, ok := n.(ast.Node); ok {
		return scalarText(node)
	}
	return "", false
}

// keyText is the text of any key, empty where it has none.
func keyText(n ast.MapKeyNode) string {
	text, _ := plainKey(n)
	return text
}

// scalarText is a scalar as it was written, after references were replaced.
func scalarText(n ast.Node) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	default:
		return "", false
	}
}

// children yields the nodes directly below a node.
func children(n ast.Node) iter.Seq[ast.Node] {
	return func(yield func(ast.Node) bool) {
		if sequence, ok := n.(*ast.SequenceNode); ok {
			for _, item := range sequence.Values {
				if !yield(item) {
					return
				}
			}
			return
		}
		values, _ := mappingValues(n)
		for _, pair := range values {
			if !yield(pair.Value) {
				return
			}
		}
	}
}

// hideAll hides every scalar at or below a node. What is only a reference to a
// secret may be seen.
func (s *source) hideAll(n ast.Node) {
	if text, ok := scalarText(n); ok {
		if isReference(n.GetToken().Value) {
			return
		}
		s.hide(n)
		if text != "" {
			s.taken = append(s.taken, taken{text, "***"})
		}
		return
	}
	for sub := range children(n) {
		s.hideAll(sub)
	}
}

// follow finds the node that a problem's path names, and its key where it is a
// value of a mapping. What is not in the file falls back to the nearest thing
// above it that is; left is how many bytes of the path were not found then.
//
// A key may hold any character, dots and brackets included: where several keys
// could be meant, the one that leads furthest is taken.
func follow(n, key ast.Node, path string) (value, last ast.Node, left int) {
	value, last, left = n, key, len(path)
	if path == "" {
		return value, last, 0
	}
	if sequence, ok := n.(*ast.SequenceNode); ok {
		i, rest, ok := leadingIndex(path)
		if ok && i < len(sequence.Values) {
			return follow(sequence.Values[i], nil, rest)
		}
		return value, last, left
	}
	values, _ := mappingValues(n)
	for _, pair := range values {
		text, ok := plainKey(pair.Key)
		rest, found := strings.CutPrefix(path, text)
		if !ok || !found || (rest != "" && rest[0] != '.' && rest[0] != '[') {
			continue
		}
		v, k, l := follow(pair.Value, pair.Key, strings.TrimPrefix(rest, "."))
		if l < left {
			value, last, left = v, k, l
		}
	}
	return value, last, left
}

// leadingIndex reads "[3]" and an optional dot from the front of a path.
func leadingIndex(path string) (i int, rest string, ok bool) {
	digits, rest, ok := strings.Cut(strings.TrimPrefix(path, "["), "]")
	if !ok || path[0] != '[' {
		return 0, path, false
	}
	i, err := strconv.Atoi(digits)
	return i, strings.TrimPrefix(rest, "."), err == nil && i >= 0
}

// join puts a key below a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// index puts a list position below a path.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// fieldsOf are the fields of a struct by their yaml names.
func fieldsOf(t reflect.Type) map[string]int {
	fields := map[string]int{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if t.Field(i).IsExported() && name != "" && name != "-" {
			fields[name] = i
		}
	}
	return fields
}

// entryType reports whether a slice is an ordered mapping.
func entryType(t reflect.Type) bool {
	return strings.HasPrefix(t.Name(), "ordered[")
}

// closest is the name that a mistyped key most likely stood for, or "".
func closest(key string, names []string) string {
	best, distance := "", 1+min(2, len(key)/2)
	for _, name := range names {
		if len(key) > len(name) && len(name) > 3 && strings.HasPrefix(key, name+"_") {
			return name
		}
		if d := edits(key, name); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// edits is the least number of characters to add, drop or change, case and the
// difference between "-" and "_" aside.
func edits(a, b string) int {
	a, b = strings.ReplaceAll(strings.ToLower(a), "-", "_"), strings.ToLower(b)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
