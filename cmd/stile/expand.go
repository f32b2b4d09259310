package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// surroundings is what a file may refer to outside itself.
type surroundings struct {
	lookup func(name string) (string, bool)
	read   func(path string) ([]byte, error)
}

// system is the process's own environment and files.
func system() surroundings {
	return surroundings{lookup: os.LookupEnv, read: readLimited}
}

// readLimited reads a file of at most maxFile bytes.
func readLimited(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	switch {
	case info.IsDir():
		return nil, errors.New("is a folder")
	case info.Size() > maxFile:
		return nil, fmt.Errorf("is larger than %d bytes", maxFile)
	}
	return os.ReadFile(path)
}

// expand replaces the references in every string value: "${NAME}" anywhere, and
// "file:PATH" where it is the whole value. In policies file: stays as it is,
// because resources have such URIs.
func (s *source) expand(around surroundings, n ast.Node, path string, files bool) mistakes {
	switch v := n.(type) {
	case *ast.MappingNode:
		var found mistakes
		for _, pair := range v.Values {
			key := keyText(pair.Key)
			found = append(found, s.expand(around, pair.Value, join(path, key), files && key != "policy")...)
		}
		return found
	case *ast.MappingValueNode:
		key := keyText(v.Key)
		return s.expand(around, v.Value, join(path, key), files && key != "policy")
	case *ast.SequenceNode:
		var found mistakes
		for i, item := range v.Values {
			found = append(found, s.expand(around, item, index(path, i), files)...)
		}
		return found
	case *ast.LiteralNode:
		return s.expandString(around, v, v.Value, path, false)
	case *ast.StringNode:
		return s.expandString(around, v, v, path, files)
	default:
		return nil
	}
}

// expandString replaces the references of one scalar in place.
func (s *source) expandString(around surroundings, n ast.Node, text *ast.StringNode, path string, files bool) mistakes {
	written := text.Value
	if name, ok := strings.CutPrefix(written, "file:"); ok && files {
		value, err := around.fromFile(s.within(name))
		if err != nil {
			return s.mistaken(n, path, written, "expected a file that can be read: "+err.Error())
		}
		s.taken = append(s.taken, taken{value, written})
		setText(text, value)
		return nil
	}
	value, used, err := around.interpolate(written)
	if err != nil {
		return s.mistaken(n, path, written, err.Error())
	}
	s.taken = append(s.taken, used...)
	if value != written {
		setText(text, value)
	}
	return nil
}

// setText changes a scalar. It counts as quoted from then on, so that no value
// from elsewhere is read as more than text.
func setText(n *ast.StringNode, value string) {
	n.Value = value
	n.Token.Type = token.DoubleQuoteType
}

// fromFile is the content of a file without the line end.
func (a surroundings) fromFile(path string) (string, error) {
	data, err := a.read(path)
	if err != nil {
		return "", plainFileError(err)
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if value == "" {
		return "", errors.New("it is empty")
	}
	return value, nil
}

// plainFileError leaves the path out, which the caller tells in its own words.
func plainFileError(err error) error {
	var in *fs.PathError
	if errors.As(err, &in) {
		return in.Err
	}
	return err
}

// interpolate replaces every ${NAME}; "$$" stands for one "$", and any other "$"
// for itself.
func (a surroundings) interpolate(text string) (string, []taken, error) {
	var (
		b    strings.Builder
		used []taken
	)
	for {
		before, rest, ok := strings.Cut(text, "$")
		b.WriteString(before)
		if !ok {
			return b.String(), used, nil
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			text = rest[1:]
		case strings.HasPrefix(rest, "{"):
			name, after, closed := strings.Cut(rest[1:], "}")
			if !closed || !isVariable(name) {
				return "", nil, errors.New(`expected "${NAME}" with letters, digits and "_", or "$$" for a plain "$"`)
			}
			value, set := a.lookup(name)
			if !set {
				return "", nil, fmt.Errorf("the environment variable %s is not set", name)
			}
			if value != "" {
				used = append(used, taken{value, "${" + name + "}"})
			}
			b.WriteString(value)
			text = after
		default:
			b.WriteByte('$')
			text = rest
		}
	}
}

// isVariable reports whether a name can be that of an environment variable.
func isVariable(name string) bool {
	for i, c := range name {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// isReference reports whether a value as it was written is a reference and
// nothing else.
func isReference(written string) bool {
	name, ok := strings.CutPrefix(written, "${")
	name, closed := strings.CutSuffix(name, "}")
	return ok && closed && isVariable(name) || strings.HasPrefix(written, "file:")
}
