package stile

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// readyTimeout bounds one look at everything /readyz asks.
const readyTimeout = 3 * time.Second

// readier is what /readyz asks: an upstream or a verifier that can say that it
// cannot work now.
type readier interface {
	Ready(ctx context.Context) error
}

// serveHealth answers /healthz and /ping (the process is alive) and /readyz (upstreams and
// keys are there) without a token, and reports whether the path was one of them.
func (g *Gateway) serveHealth(w http.ResponseWriter, r *http.Request) bool {
	path := r.URL.Path
	if path != "/ping" && path != "/healthz" && path != "/readyz" {
		return false
	}
	g.ids.mark(w.Header())
	switch path {
	case "/ping":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, "pong")
	case "/healthz":
		writeHealth(w, http.StatusOK, nil)
	case "/readyz":
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		problems := g.unready(ctx)
		status := http.StatusOK
		if len(problems) > 0 {
			status = http.StatusServiceUnavailable
		}
		writeHealth(w, status, problems)
	}
	return true
}

func writeHealth(w http.ResponseWriter, status int, problems []string) {
	answer := struct {
		Status   string   `json:"status"`
		Problems []string `json:"problems,omitempty"`
	}{"ok", problems}
	if status != http.StatusOK {
		answer.Status = "not ready"
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// unready names what is missing, sorted. Everything is asked at once. What a
// server cannot reach is named by the server's name; the cause goes to the log,
// since anyone may read this answer.
func (g *Gateway) unready(ctx context.Context) []string {
	var (
		mu       sync.Mutex
		problems []string
		wg       sync.WaitGroup
	)
	ask := func(what string, of any) {
		part, ok := of.(readier)
		if !ok {
			return
		}
		wg.Go(func() {
			if err := part.Ready(ctx); err != nil {
				g.config.Log.Warn("not ready", "what", what, "error", err)
				mu.Lock()
				problems = append(problems, what)
				mu.Unlock()
			}
		})
	}
	for _, s := range g.endpoints {
		ask("upstream of server "+s.name, s.upstream)
		for i, v := range s.verifiers {
			ask(verifierName(s, i), v)
		}
	}
	wg.Wait()
	slices.Sort(problems)
	return slices.Compact(problems)
}

// named lets a verifier say which issuer it stands for.
type named interface{ Issuer() string }

func verifierName(s *endpoint, i int) string {
	if n, ok := s.verifiers[i].(named); ok {
		return "keys of issuer " + n.Issuer()
	}
	return "a verifier of server " + s.name
}
