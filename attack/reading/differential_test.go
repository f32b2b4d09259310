package reading_test

import (
	"bytes"
	"hash/fnv"
	"math/rand/v2"
	"testing"

	"github.com/stile-mcp/stile/message"
)

// compare holds Stile's reading of body against every decoder, those in other
// processes when piped is set. It returns what Stile judged, nil for a refusal.
func compare(t *testing.T, body []byte, piped bool) *message.Call {
	t.Helper()
	c, refusal := message.Read(bytes.Clone(body))
	if refusal != nil {
		return nil
	}
	for _, d := range inProcess {
		s, err := d.read(bytes.Clone(body))
		if err != nil {
			continue
		}
		if err := disagreement(c, s); err != nil {
			t.Errorf("%q\n%s: %v", body, d.name, err)
		}
	}
	if !piped {
		return c
	}
	for _, child := range children {
		views, err := child.ask(body)
		if err != nil {
			t.Fatal(err)
		}
		for view, s := range views {
			if err := disagreement(c, s); err != nil {
				t.Errorf("%q\n%s: %v", body, view, err)
			}
		}
	}
	return c
}

// TestMessages reads messages.txt and wants each verdict as it stands there.
func TestMessages(t *testing.T) {
	seenNames := map[string]bool{}
	for _, e := range messages(t) {
		t.Run(e.name, func(t *testing.T) {
			if seenNames[e.name] {
				t.Error("another message has this name")
			}
			seenNames[e.name] = true
			if c := compare(t, e.body, true); (c == nil) != e.refused {
				t.Errorf("%q: refused %t, want %t", e.body, c == nil, e.refused)
			}
		})
	}
}

// TestTranscripts reads what the transcripts of testdata/flow send.
func TestTranscripts(t *testing.T) {
	accepted := 0
	for _, e := range transcripts(t) {
		if compare(t, e.body, true) != nil {
			accepted++
		}
		if t.Failed() {
			t.Fatal(e.name)
		}
	}
	if accepted < 40 {
		t.Errorf("only %d messages of the transcripts were accepted", accepted)
	}
}

// TestDecodersDiffer checks that the decoders see what they are here for: each
// row of the table in docs/threats.md has readers that disagree.
func TestDecodersDiffer(t *testing.T) {
	tests := []struct {
		message string
		sees    map[string]any // the tool, by decoder
	}{
		{"name-twice", map[string]any{"encoding/json, struct": "danger", "segmentio, as go-sdk sets it": "danger", "gjson": "safe", "node utf8": "danger", "python3 bytes": "danger"}},
		{"name-twice-escaped", map[string]any{"encoding/json, map": "danger", "gjson": "safe", "node fetch": "danger"}},
		{"params-twice-second-without-name", map[string]any{"encoding/json, struct": "danger", "encoding/json, map": absent{}, "gjson": "danger", "node utf8": absent{}}},
		{"name-capital-beside", map[string]any{"encoding/json, struct": "danger", "encoding/json, map": "safe", "segmentio, struct": "danger", "segmentio, as go-sdk sets it": "safe", "python3 bytes": "safe"}},
		{"name-capital-alone", map[string]any{"encoding/json, struct": "danger", "segmentio, as go-sdk sets it": absent{}, "gjson": absent{}}},
		{"params-long-s", map[string]any{"encoding/json, struct": "danger", "segmentio, as go-sdk sets it": "safe", "node utf8": "safe"}},
		{"second-message", map[string]any{"encoding/json, struct": nil, "encoding/json, first value": "safe", "segmentio, as go-sdk sets it": "safe", "node utf8": nil, "gjson": "safe"}},
		{"name-invalid-utf8", map[string]any{"encoding/json, struct": "safe\ufffd", "gjson": "safe\xff", "node utf8": "safe\ufffd", "python3 bytes": nil, "python3 lenient": "safe\ufffd"}},
		{"name-raw-newline", map[string]any{"encoding/json, struct": nil, "gjson": "sa\nfe", "python3 bytes": nil, "python3 lenient": "sa\nfe"}},
		{"byte-order-mark", map[string]any{"encoding/json, struct": nil, "node utf8": nil, "node fetch": "danger", "python3 bytes": "danger"}},
		{"utf16-without-mark", map[string]any{"encoding/json, struct": nil, "node utf8": nil, "python3 bytes": "danger"}},
		{"nan", map[string]any{"encoding/json, struct": nil, "node utf8": nil, "python3 bytes": "safe", "gjson": "safe"}},
		{"proto-in-params", map[string]any{"node utf8": "delete_note", "node copied": "delete_note"}},
	}
	bodies := map[string][]byte{}
	for _, e := range messages(t) {
		bodies[e.name] = e.body
	}
	for _, tt := range tests {
		all := everyone(t, bodies[tt.message])
		for decoder, want := range tt.sees {
			s := all[decoder]
			switch {
			case s == nil && want != nil:
				t.Errorf("%s: %s refuses it, want %v", tt.message, decoder, want)
			case s != nil && want == nil:
				t.Errorf("%s: %s sees %v, want it refused", tt.message, decoder, s.members[name])
			case s != nil && s.members[name] != want:
				t.Errorf("%s: %s sees %#v, want %#v", tt.message, decoder, s.members[name], want)
			}
		}
	}
	copied := everyone(t, bodies["proto-in-params"])["node copied"]
	if got := canonical(copied.members[arguments], asWritten); got != `{"permanent":true,}` {
		t.Errorf("a copy in JavaScript has the arguments %s, want those of __proto__", got)
	}
}

// everyone asks all decoders.
func everyone(t *testing.T, body []byte) map[string]*seen {
	t.Helper()
	all := map[string]*seen{}
	for _, d := range inProcess {
		if s, err := d.read(bytes.Clone(body)); err == nil {
			all[d.name] = s
		}
	}
	for _, child := range children {
		views, err := child.ask(body)
		if err != nil {
			t.Fatal(err)
		}
		for view, s := range views {
			all[view] = s
		}
	}
	return all
}

// TestShapedMessages compares messages that are made to be nearly right.
func TestShapedMessages(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const total = 20_000
	accepted := 0
	for range total {
		body := shape(randomBytes(random))
		if compare(t, body, sampled(body, 4)) != nil {
			accepted++
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d of %d messages were accepted", accepted, total)
	if accepted < total/20 || accepted > total*19/20 {
		t.Errorf("%d of %d messages were accepted: the shapes are no test any more", accepted, total)
	}
}

func randomBytes(random *rand.Rand) []byte {
	b := make([]byte, random.IntN(160))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// sampled takes one body in n, always the same ones, so that what fails once
// fails again.
func sampled(body []byte, n uint32) bool {
	h := fnv.New32a()
	_, _ = h.Write(body)
	return h.Sum32()%n == 0
}

// FuzzDifferential feeds the same bytes to Stile and to every decoder: those of
// this process always, Node and Python with a sample of what Stile accepts.
func FuzzDifferential(f *testing.F) {
	for _, e := range append(messages(f), transcripts(f)...) {
		f.Add(e.body)
	}
	f.Fuzz(func(t *testing.T, body []byte) { compare(t, body, sampled(body, 16)) })
}

// FuzzShaped does the same with messages shaped by the bytes.
func FuzzShaped(f *testing.F) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		f.Add(randomBytes(random))
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		body := shape(choices)
		compare(t, body, sampled(body, 16))
	})
}
