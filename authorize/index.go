package authorize

// index finds the patterns that may match a text without looking at the others:
// by the literal text they begin with or, for those that begin with a wildcard,
// by what they end in.
type index[T any] struct {
	byPrefix, bySuffix trie[T]
}

// trie is a tree over bytes; a node holds what was stored under the text that
// leads to it.
type trie[T any] struct {
	next map[byte]*trie[T]
	here []T
}

func (x *index[T]) add(prefix, suffix string, v T) {
	t := &x.byPrefix
	if prefix != "" {
		for i := range len(prefix) {
			t = t.child(prefix[i])
		}
	} else if suffix != "" {
		t = &x.bySuffix
		for i := len(suffix) - 1; i >= 0; i-- {
			t = t.child(suffix[i])
		}
	}
	t.here = append(t.here, v)
}

func (t *trie[T]) child(c byte) *trie[T] {
	if t.next == nil {
		t.next = map[byte]*trie[T]{}
	}
	n := t.next[c]
	if n == nil {
		n = &trie[T]{}
		t.next[c] = n
	}
	return n
}

// each calls yield with every candidate for text: those whose literal beginning
// or end it has.
func (x *index[T]) each(text string, yield func(T)) {
	x.byPrefix.along(text, yield)
	t := x.bySuffix.at(text, len(text)-1)
	for i := len(text) - 2; t != nil; i-- {
		for _, v := range t.here {
			yield(v)
		}
		t = t.at(text, i)
	}
}

func (t *trie[T]) at(text string, i int) *trie[T] {
	if i < 0 {
		return nil
	}
	return t.next[text[i]]
}

// along calls yield with what is stored under text and under every beginning of
// it.
func (t *trie[T]) along(text string, yield func(T)) {
	for i := 0; t != nil; i++ {
		for _, v := range t.here {
			yield(v)
		}
		if i == len(text) {
			return
		}
		t = t.next[text[i]]
	}
}

// below returns everything stored in the tree.
func (t *trie[T]) below() []T {
	all := t.here
	for _, next := range t.next {
		all = append(all[:len(all):len(all)], next.below()...)
	}
	return all
}
