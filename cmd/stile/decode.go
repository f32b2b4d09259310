package main

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// decoder puts nodes into Go values by their yaml tags. Unlike the library's own
// it goes on after a mistake, so that all are told at once; types that read
// themselves (UnmarshalYAML, UnmarshalText) still do.
type decoder struct {
	src   *source
	found mistakes
}

// decode fills v, a pointer to a struct, from the whole file.
func (s *source) decode(v any) mistakes {
	d := &decoder{src: s}
	d.value(s.root, reflect.ValueOf(v).Elem(), "", reflect.StructTag(""))
	return d.found
}

// add tells a mistake at a node.
func (d *decoder) add(n ast.Node, path, value, want string) {
	d.found = append(d.found, d.src.mistaken(n, path, value, want)...)
}

// mistaken is a mistake at a node, one for each path; what follows from it is
// not told again.
func (s *source) mistaken(n ast.Node, path, value, want string) mistakes {
	if s.broken[path] {
		return nil
	}
	s.broken[path] = true
	m := s.at(position(n))
	m.Path, m.Value, m.Want = path, value, want
	return mistakes{m}
}

// value decodes one node. tag is that of the field it stands in.
func (d *decoder) value(n ast.Node, v reflect.Value, path string, tag reflect.StructTag) {
	if !d.usable(n, path) {
		return
	}
	if tag.Get("secret") == "true" {
		d.src.hideAll(n)
	}
	if v.CanAddr() && d.readsItself(n, v, path, tag) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path, tag)
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		if entryType(v.Type()) {
			d.ordered(n, v, path)
			return
		}
		d.list(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

// usable refuses what no value of the format can be.
func (d *decoder) usable(n ast.Node, path string) bool {
	switch n.(type) {
	case nil:
		return false
	case *ast.NullNode:
		if !d.src.broken[path] {
			d.add(n, path, "", "expected a value: leave the key out for its default")
		}
		return false
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		d.add(n, path, "", "anchors, aliases and tags are not part of this format")
		return false
	default:
		return !d.src.broken[path]
	}
}

// readsItself lets types with a method of their own read the node.
func (d *decoder) readsItself(n ast.Node, v reflect.Value, path string, tag reflect.StructTag) bool {
	switch to := v.Addr().Interface().(type) {
	case yaml.InterfaceUnmarshaler, yaml.InterfaceUnmarshalerContext,
		yaml.BytesUnmarshaler, yaml.BytesUnmarshalerContext,
		yaml.NodeUnmarshaler, yaml.NodeUnmarshalerContext:
		if !d.withoutReferences(n, path) {
			return true
		}
		if err := decodeNode(n, to); err != nil {
			d.addError(n, path, err)
		}
		return true
	case encoding.TextUnmarshaler:
		text, ok := scalarText(n)
		err := errors.New("expected a single value")
		if ok {
			err = to.UnmarshalText([]byte(text))
		}
		if ok && err == nil && text == "off" && tag.Get("off") != "true" {
			err = errDuration
		}
		if err != nil {
			d.add(n, path, text, err.Error())
		}
		return true
	default:
		return false
	}
}

// decodeNode keeps a bug of the library from ending the process.
func decodeNode(n ast.Node, to any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("not readable here")
		}
	}()
	if reads, ok := to.(yaml.NodeUnmarshaler); ok {
		return reads.UnmarshalYAML(n) // what the library comes to by a longer way
	}
	return yaml.NodeToValue(n, to, yaml.Strict(), yaml.DisallowUnknownField())
}

// withoutReferences refuses anchors and the like at any depth.
func (d *decoder) withoutReferences(n ast.Node, path string) bool {
	before := len(d.found)
	for sub := range children(n) {
		if _, ok := sub.(*ast.NullNode); ok {
			continue
		}
		if d.usable(sub, path) {
			d.withoutReferences(sub, path)
		}
	}
	return len(d.found) == before
}

// addError tells an error of a type that reads itself: where the library says
// so, and at the node otherwise.
func (d *decoder) addError(n ast.Node, path string, err error) {
	var where yaml.Error
	if errors.As(err, &where) && where.GetToken() != nil {
		m := d.src.at(where.GetToken().Position.Line, where.GetToken().Position.Column)
		m.Path, m.Want = path, where.GetMessage()
		d.src.broken[path] = true
		d.found = append(d.found, m)
		return
	}
	text, _ := scalarText(n)
	d.add(n, path, text, err.Error())
}

// structure decodes a mapping into the fields of a struct.
func (d *decoder) structure(n ast.Node, v reflect.Value, path string) {
	fields := fieldsOf(v.Type())
	for key, pair := range d.pairs(n, path) {
		i, ok := fields[key]
		if !ok {
			d.unknown(n, pair.Key, path, key, fields)
			if secretName.MatchString(key) {
				d.src.hideAll(pair.Value)
			}
			continue
		}
		d.value(pair.Value, v.Field(i), join(path, key), v.Type().Field(i).Tag)
	}
}

// unknown tells a key that is not one, and which one may have been meant.
func (d *decoder) unknown(mapping, at ast.Node, path, key string, fields map[string]int) {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	want := "unknown key: expected one of " + strings.Join(names, ", ")
	if meant := closest(key, names); meant != "" {
		want = "unknown key: did you mean " + meant + "?"
		if _, _, left := follow(mapping, nil, meant); left > 0 {
			d.src.broken[join(path, meant)] = true // so that its absence is not told too
		}
	}
	d.add(at, join(path, key), "", want)
}

// mapping decodes into a map with string keys.
func (d *decoder) mapping(n ast.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	for key, pair := range d.pairs(n, path) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(pair.Value, item, join(path, key), "")
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), item)
	}
}

// ordered decodes into a slice of entries.
func (d *decoder) ordered(n ast.Node, v reflect.Value, path string) {
	for key, pair := range d.pairs(n, path) {
		item := reflect.New(v.Type().Elem()).Elem()
		item.Field(0).SetString(key)
		d.value(pair.Value, item.Field(1), join(path, key), "")
		v.Set(reflect.Append(v, item))
	}
}

// list decodes into a slice.
func (d *decoder) list(n ast.Node, v reflect.Value, path string) {
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		text, _ := scalarText(n)
		d.add(n, path, text, "expected a list, such as [a, b]")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(sequence.Values), len(sequence.Values)))
	for i, item := range sequence.Values {
		d.value(item, v.Index(i), index(path, i), "")
	}
}

// scalar decodes a string, a number or a switch.
func (d *decoder) scalar(n ast.Node, v reflect.Value, path string) {
	text, ok := scalarText(n)
	if !ok {
		d.add(n, path, "", "expected "+kindWord(v.Kind()))
		return
	}
	var err error
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		var on bool
		on, err = strconv.ParseBool(text)
		if text != "true" && text != "false" {
			err = errors.New("not a switch")
		}
		v.SetBool(on)
	case reflect.Int, reflect.Int64:
		var number int64
		number, err = strconv.ParseInt(text, 10, 64)
		v.SetInt(number)
	default:
		err = fmt.Errorf("no %s in this format", v.Kind())
	}
	if err != nil {
		d.add(n, path, text, "expected "+kindWord(v.Kind()))
	}
}

// kindWord is what a person calls a kind of scalar.
func kindWord(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	default:
		return "a single text value"
	}
}
