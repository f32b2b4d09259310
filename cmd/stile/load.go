package main

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/stile-mcp/stile"
	"github.com/stile-mcp/stile/authorize"
	"github.com/stile-mcp/stile/internal/problem"
)

// policy is the policy of one server and where it was written.
type policy struct {
	config   authorize.Config
	compiled *authorize.Policy
	tools    *stile.ToolCatalogue // by itself: the gateway keeps it, and nothing else of this
	src      *source
	path     string // of the policy in src, empty in a file of its own
}

// load reads and checks a file. The error is mistakes when the file could be
// read but not used; then there is no File.
func load(name string, around surroundings) (*File, error) {
	data, err := around.read(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, plainFileError(err))
	}
	return loadBytes(name, data, around)
}

// loadBytes is load with the content of the file at hand.
func loadBytes(name string, data []byte, around surroundings) (*File, error) {
	src, found := parse(name, data)
	if len(found) > 0 {
		return nil, found
	}
	f := &File{source: src, policies: map[string]*policy{}}
	found = append(found, src.expand(around, src.root, "", true)...)
	found = append(found, src.decode(f)...)
	f.applyDefaults()
	if f.embedded() {
		setDefault(&f.DataDir, stateDir(around, "default"))
	}
	found = append(found, src.locateAll(f.check(), "")...)
	found = append(found, f.compilePolicies(around)...)
	found = append(found, src.locateAll(f.checkScopes(), "")...)
	found = append(found, f.readCertificates(around)...)
	if len(found) == 0 {
		found = f.trial()
	}
	if len(found) > 0 {
		found.sort()
		return nil, found
	}
	return f, nil
}

// compilePolicies compiles the policy of every server. A file that several name
// is read once, and its mistakes are told once.
func (f *File) compilePolicies(around surroundings) mistakes {
	var found mistakes
	read := map[string]*policy{}
	for _, server := range f.Servers {
		path := join("servers", server.Name)
		p := &policy{src: f.source, path: join(path, "policy")}
		switch {
		case server.Value.Policy != nil:
			p.config = *server.Value.Policy
			found = append(found, p.compile(f.prefix())...)
		case server.Value.PolicyFile != "":
			name := f.source.within(server.Value.PolicyFile)
			if first, again := read[name]; again {
				p.src, p.path, p.config = first.src, "", first.config
				_ = p.compile(f.prefix()) // told before
				break
			}
			var wrong mistakes
			p, wrong = f.readPolicy(around, name, join(path, "policy_file"))
			read[name], found = p, append(found, wrong...)
		default:
			continue
		}
		f.policies[server.Name] = p
		found = append(found, f.checkReach(p, path)...)
	}
	return found
}

// forget lets go of what was written, when all that is needed has been made of it:
// with 10,000 rules that would be three quarters of what is alive.
func (f *File) forget() {
	f.source.root, f.source.lines = nil, nil
	for _, p := range f.policies {
		p.config, p.src = authorize.Config{}, nil
	}
	for i := range f.Servers {
		f.Servers[i].Value.Policy = nil
	}
}

// hasCallers reports whether anybody can have a token or a key.
func (f *File) hasCallers() bool { return len(f.Issuers)+len(f.APIKeys) > 0 || f.embedded() }

// checkReach finds a server that nobody could call, or some of whose rules nobody
// could meet.
func (f *File) checkReach(p *policy, path string) mistakes {
	if p.compiled == nil || f.hasCallers() || f.source.broken["issuers"] || f.source.broken["api_keys"] {
		return nil
	}
	var list problem.List
	switch asks := p.compiled.AsksIn(); {
	case asks != "":
		list.Add(path, "", "expected issuers or api_keys: "+asks+" asks for scopes, which nobody can have without them")
	case !p.compiled.Anonymous():
		list.Add(path, "", "expected issuers or api_keys, or anonymous rules: nobody could call this server")
	}
	return f.source.locateAll(list, "")
}

// readPolicy reads a policy file. That it cannot be opened is a mistake of the
// file that names it; what is wrong inside, one of its own.
func (f *File) readPolicy(around surroundings, name, from string) (*policy, mistakes) {
	data, err := around.read(name)
	if err != nil {
		var list problem.List
		list.Add(from, name, "expected a file that can be read: "+plainFileError(err).Error())
		return &policy{src: &source{name: name}}, f.source.locateAll(list, "")
	}
	src, found := parse(name, data)
	p := &policy{src: src}
	if len(found) > 0 {
		src.root = nil
		return p, found
	}
	found = append(found, src.expand(around, src.root, "", false)...)
	found = append(found, src.decode(&p.config)...)
	return p, append(found, p.compile(f.prefix())...)
}

// prefix is what the first issuer puts before scopes: callers without a token
// are told of that one's.
func (f *File) prefix() string {
	if len(f.Issuers) == 0 {
		return ""
	}
	return f.Issuers[0].ScopePrefix
}

// compile compiles a policy and leaves out what only follows from a mistake
// that was told before.
func (p *policy) compile(prefix string) mistakes {
	p.tools = new(stile.ToolCatalogue)
	p.config.Tools, p.config.ScopePrefix = p.tools.Annotations, prefix
	compiled, err := authorize.New(p.config)
	if err == nil {
		p.compiled = compiled
		return nil
	}
	var list problem.List
	if !errors.As(err, &list) {
		list.Add("", "", err.Error())
	}
	var fresh problem.List
	for _, one := range list {
		if !p.src.follows(one.At(p.path).Path) {
			fresh = append(fresh, one)
		}
	}
	return p.src.locateAll(fresh, p.path)
}

// follows reports whether something directly below a path of a policy is broken
// already: a rule whose scopes could not be read has none.
func (s *source) follows(path string) bool {
	for broken := range s.broken {
		rest, ok := strings.CutPrefix(broken, path+".")
		if ok && !strings.ContainsAny(rest, ".[") {
			return true
		}
	}
	return false
}

// locateAll finds the place of every problem. Those below a path that is broken
// already are left out.
func (s *source) locateAll(list problem.List, prefix string) mistakes {
	var found mistakes
	for _, one := range list {
		one = one.At(prefix)
		if s.isBroken(one.Path) {
			continue
		}
		line, column, shown := s.place(one)
		m := s.at(line, column)
		m.Problem = one
		m.Path = shown
		found = append(found, m)
	}
	return found
}

// isBroken reports whether a path or one above it was complained about.
func (s *source) isBroken(path string) bool {
	for end := len(path); end > 0; end = strings.LastIndexAny(path[:end], ".[") {
		if s.broken[path[:end]] {
			return true
		}
	}
	return false
}

// place is where to point for a problem: at the value when that is a scalar or
// stands between brackets, at the key when it is a block below it, or when the
// key itself is what is wrong. shown is the path without what is not there.
func (s *source) place(p problem.Problem) (line, column int, shown string) {
	if s.root == nil {
		return 1, 1, p.Path
	}
	value, key, left := follow(s.root, nil, p.Path)
	shown = strings.TrimRight(p.Path[:len(p.Path)-left], ".")
	if shown == "" {
		shown = p.Path
	}
	text, _ := keyScalar(key)
	if item := itemWith(value, p.Value); left == 0 && item != nil {
		line, column = position(item)
		return line, column, shown
	}
	if key != nil && (isBlock(value) || (p.Value != "" && p.Value == text && strings.HasSuffix(p.Path, text))) {
		value = key
	}
	line, column = position(value)
	return line, column, shown
}

// itemWith is the item of a list that is written as a text, or nil: some problems
// name the list and tell the item.
func itemWith(n ast.Node, text string) ast.Node {
	sequence, ok := n.(*ast.SequenceNode)
	if !ok || text == "" {
		return nil
	}
	for _, item := range sequence.Values {
		if written, _ := scalarText(item); written == text {
			return item
		}
	}
	return nil
}

// keyScalar is the text of a key node.
func keyScalar(n ast.Node) (string, bool) {
	if key, ok := n.(ast.MapKeyNode); ok && n != nil {
		return plainKey(key)
	}
	return "", false
}

// isBlock reports whether a node is a mapping or list in block style, or empty.
func isBlock(n ast.Node) bool {
	switch v := n.(type) {
	case *ast.MappingNode:
		return !v.IsFlowStyle
	case *ast.SequenceNode:
		return !v.IsFlowStyle
	case *ast.MappingValueNode, *ast.NullNode:
		return true
	default:
		return v == nil || reflect.ValueOf(v).IsNil()
	}
}
