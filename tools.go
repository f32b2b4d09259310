package stile

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/stile-mcp/stile/session"
)

// ToolCatalogue holds what a server says of its own tools: the annotations that
// conditions of a policy read as `tool`. Give its Annotations method to
// authorize.Config.Tools and the catalogue itself to Server.Tools. It is safe
// for concurrent use; the zero value is ready.
//
// Annotations are learnt from every tools/list answer that passes, and fetched
// from the upstream before the first call of a tool that is not known yet.
type ToolCatalogue struct {
	mu    sync.Mutex // serialises writers
	tools atomic.Pointer[map[string]map[string]any]

	fetches  singleflight.Group
	fetched  atomic.Pointer[time.Time] // of the last fetch that went well
	failures toolFailures
}

// maxTools bounds the catalogue; a server with more is not learnt further.
const maxTools = 10_000

// Annotations returns the annotations of a tool, and whether the tool is known.
// A known tool without annotations has an empty map. The map is shared.
func (c *ToolCatalogue) Annotations(name string) (map[string]any, bool) {
	tools := c.tools.Load()
	if tools == nil {
		return nil, false
	}
	annotations, ok := (*tools)[name]
	return annotations, ok
}

// learn takes over the annotations of one tools/list answer.
func (c *ToolCatalogue) learn(method string, response []byte) {
	if c == nil || method != "tools/list" {
		return
	}
	var answer struct {
		Result struct {
			Tools []struct {
				Name        string         `json:"name"`
				Annotations map[string]any `json:"annotations"`
			} `json:"tools"`
		} `json:"result"`
	}
	// What cannot be read is refused by RewriteList, which reads strictly.
	if json.Unmarshal(response, &answer) != nil || len(answer.Result.Tools) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := map[string]map[string]any{}
	if old := c.tools.Load(); old != nil {
		for name, annotations := range *old {
			next[name] = annotations
		}
	}
	for _, tool := range answer.Result.Tools {
		if len(next) >= maxTools {
			break
		}
		if tool.Annotations == nil {
			tool.Annotations = map[string]any{}
		}
		next[tool.Name] = tool.Annotations
	}
	c.tools.Store(&next)
}

// toolFailures are the callers for whom a fetch failed, so that each of them makes us
// ask again once at once, and then only after 1 s, 2 s and so on up to toolsPause. It is bounded: when full,
// all are forgotten. The zero value is ready.
type toolFailures struct {
	mu  sync.Mutex // guards all
	all map[session.Owner]toolFailure
}

type toolFailure struct {
	times int
	next  time.Time
}

// maxToolFailures bounds how many callers are remembered.
const maxToolFailures = 1000

func (f *toolFailures) mayTry(owner session.Owner, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !now.Before(f.all[owner].next)
}

func (f *toolFailures) done(owner session.Owner, good bool, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if good {
		delete(f.all, owner)
		return
	}
	last := f.all[owner]
	if f.all == nil || len(f.all) >= maxToolFailures {
		f.all = map[session.Owner]toolFailure{}
	}
	f.all[owner] = toolFailure{last.times + 1, now.Add(toolsBackoff(last.times))}
}

// toolsBackoff is the pause after a failure that had others before it.
func toolsBackoff(before int) time.Duration {
	if before == 0 {
		return 0
	}
	return min(time.Second<<min(before-1, 10), toolsPause)
}
