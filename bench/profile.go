package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed profile.go.txt
var profileSource []byte

// overlay makes an overlay (go help build) that lets the stile that is built
// write a profile between two SIGUSR1.
func (b *bench) overlay() (string, error) {
	out, err := exec.CommandContext(b.ctx, "go", "list", "-f", "{{.Dir}}", "github.com/stile-mcp/stile/cmd/stile").Output()
	if err != nil {
		return "", err
	}
	source := filepath.Join(b.dir, "profile.go")
	if err := os.WriteFile(source, profileSource, 0o600); err != nil {
		return "", err
	}
	dir := string(out[:len(out)-1])
	data, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(dir, "zz_profile.go"): source}})
	if err != nil {
		return "", err
	}
	file := filepath.Join(b.dir, "overlay.json")
	return file, errors.Join(os.MkdirAll(b.options.profile, 0o755), os.WriteFile(file, data, 0o600))
}

// profiled starts a profile of the gateway where one is wanted, and returns what
// ends it. The files are named after the section and the tool.
func (b *bench) profiled(p *process, tool string) func() error {
	if b.options.profile == "" {
		return func() error { return nil }
	}
	tell := func() error {
		err := p.cmd.Process.Signal(profileSignal)
		time.Sleep(200 * time.Millisecond) // to be written
		return err
	}
	err := tell()
	return func() error {
		err = errors.Join(err, tell())
		for _, kind := range []string{"cpu", "allocs", "heap"} {
			from := filepath.Join(b.dir, kind+".pprof")
			err = errors.Join(err, copyFile(filepath.Join(b.options.profile, b.section+"-"+tool+"."+kind+".pprof"), from))
		}
		return err
	}
}

// profileDir is where the child leaves profiles, empty where none are wanted.
func (b *bench) profileDir() string {
	if b.options.profile == "" {
		return ""
	}
	return b.dir
}
