package scope

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Graph says which scope covers which: who holds "notes:admin" also has
// "notes:write" where the first implies the second (REQ-11). It is used for
// deciding only, never for what is asked for (DES-06).
//
// A Graph is immutable and safe for concurrent use. A nil Graph implies nothing.
type Graph struct {
	covers map[string]cover // by the scope that is wanted
}

// cover is all that gives one scope without being it.
type cover struct {
	exact    Set
	prefixes []string // of wildcards, without the "*"
}

// NewGraph builds the graph from scope → the scopes it implies. On the left a
// name may end in "*", which stands for every scope with that prefix; what such a
// scope implies of itself is ignored. Everything else is refused with an error
// that names it: tokens outside RFC 6749 §3.3, a "*" anywhere else, and cycles,
// those through wildcards included.
func NewGraph(implies map[string][]string) (*Graph, error) {
	b := builder{exact: map[string]Set{}, wild: map[string]Set{}, nodes: map[string]bool{}}
	for _, left := range slices.Sorted(maps.Keys(implies)) {
		if err := b.add(left, implies[left]); err != nil {
			return nil, err
		}
	}
	b.connect()
	if cycle := b.cycle(); cycle != nil {
		return nil, fmt.Errorf("scopes imply each other in a circle: %s", strings.Join(cycle, " implies "))
	}
	g := &Graph{covers: map[string]cover{}}
	for _, want := range b.names {
		if c := b.coverOf(want); len(c.exact)+len(c.prefixes) > 0 {
			g.covers[want] = c
		}
	}
	return g, nil
}

// Satisfies reports whether held has want itself or something that implies it,
// over any number of steps. It allocates nothing.
func (g *Graph) Satisfies(held Set, want string) bool {
	if held.Has(want) {
		return true
	}
	if g == nil {
		return false
	}
	c, ok := g.covers[want]
	if !ok {
		return false
	}
	for _, h := range held {
		if c.exact.Has(h) {
			return true
		}
		for _, prefix := range c.prefixes {
			if strings.HasPrefix(h, prefix) {
				return true
			}
		}
	}
	return false
}

// Missing returns the scopes of want that held does not satisfy, in the order of
// want; nil, and without allocating, when there are none.
func (g *Graph) Missing(held, want Set) Set {
	var missing Set
	for _, w := range want {
		if !g.Satisfies(held, w) {
			missing = append(missing, w)
		}
	}
	return missing
}

// builder is a graph while it is checked.
type builder struct {
	exact map[string]Set // left side → right side
	wild  map[string]Set // prefix → right side
	nodes map[string]bool
	names []string // of nodes, sorted

	prefixes []string       // of wild, sorted
	next     map[string]Set // what each node implies in one step
	back     map[string]Set // next, turned round
}

// connect fills next and back once everything has been added.
func (b *builder) connect() {
	b.names = slices.Sorted(maps.Keys(b.nodes))
	b.prefixes = slices.Sorted(maps.Keys(b.wild))
	b.next, b.back = map[string]Set{}, map[string]Set{}
	for _, n := range b.names {
		b.next[n] = b.impliedBy(n)
		for _, to := range b.next[n] {
			b.back[to] = append(b.back[to], n)
		}
	}
}

func (b *builder) add(left string, right []string) error {
	prefix, wildcard := strings.CutSuffix(left, "*")
	if (!ValidToken(left)) || strings.Contains(prefix, "*") {
		return fmt.Errorf("%q is not a scope: expected printable ASCII without space, quote or backslash, and * only at the end", left)
	}
	for _, r := range right {
		if !ValidToken(r) || strings.Contains(r, "*") {
			return fmt.Errorf("%q, implied by %q, is not a scope: expected printable ASCII without space, quote, backslash or *", r, left)
		}
		b.nodes[r] = true
	}
	if wildcard {
		b.wild[prefix] = Of(right...)
		return nil
	}
	b.nodes[left] = true
	b.exact[left] = Of(right...)
	return nil
}

// impliedBy is what n implies in one step, in a fixed order.
func (b *builder) impliedBy(n string) Set {
	next := b.exact[n]
	for _, prefix := range b.prefixes {
		if strings.HasPrefix(n, prefix) {
			next = next.Union(b.wild[prefix].Without(Set{n}))
		}
	}
	return next
}

// cycle returns a path that ends where it begins, or nil.
func (b *builder) cycle() []string {
	done := map[string]bool{}
	var path []string
	var visit func(n string) []string
	visit = func(n string) []string {
		if at := slices.Index(path, n); at >= 0 {
			return append(slices.Clone(path[at:]), n)
		}
		if done[n] {
			return nil
		}
		path = append(path, n)
		for _, next := range b.next[n] {
			if cycle := visit(next); cycle != nil {
				return cycle
			}
		}
		path = path[:len(path)-1]
		done[n] = true
		return nil
	}
	for _, n := range b.names {
		if cycle := visit(n); cycle != nil {
			return cycle
		}
	}
	return nil
}

// coverOf collects everything that gives want, walking the graph backwards.
func (b *builder) coverOf(want string) cover {
	var c cover
	seen := map[string]bool{}
	var visit func(n string)
	visit = func(n string) {
		if seen[n] {
			return
		}
		seen[n] = true
		if n != want {
			c.exact = append(c.exact, n)
		}
		for _, left := range b.back[n] {
			visit(left)
		}
		for _, prefix := range b.prefixes {
			if b.wild[prefix].Has(n) && !slices.Contains(c.prefixes, prefix) {
				c.prefixes = append(c.prefixes, prefix)
			}
		}
	}
	visit(want)
	slices.Sort(c.exact)
	slices.Sort(c.prefixes)
	return c
}
