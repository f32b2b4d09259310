package interop_test

import (
	"encoding/json"
	"testing"
)

// typescript is a running server-ts/server.mjs.
type typescript struct{ url string }

func startTypescript(t *testing.T, env ...string) *typescript {
	t.Helper()
	p := start(t, env, node(t), "server-ts/server.mjs")
	var ready struct{ URL string }
	if err := json.Unmarshal([]byte(p.line("url")), &ready); err != nil {
		t.Fatal(err)
	}
	return &typescript{ready.URL}
}

// deed is what one of its tools, prompts or resources did.
type deed struct {
	Method, Target string
	Arguments      json.RawMessage // as the handler got them; null where it is not told
	Permanent      json.RawMessage // of a copy of the arguments, as tools make one
}

// deeds answers what was done since the last time.
func (s *typescript) deeds(t *testing.T) []deed {
	t.Helper()
	var all []deed
	getJSON(t, s.url+"/deeds", &all)
	return all
}
