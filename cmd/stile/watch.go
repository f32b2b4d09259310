package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a file must be quiet before it is read: editors and
// configuration management write in several steps.
const settle = 200 * time.Millisecond

// watchFiles calls changed when one of the files changes, until ctx ends. It
// watches their folders, because editors and Kubernetes replace files instead of
// writing into them.
func watchFiles(ctx context.Context, log *slog.Logger, files []string, changed func()) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("configuration changes are not noticed; send SIGHUP to reload", "error", err)
		return
	}
	defer w.Close()
	folders := map[string]bool{}
	for _, f := range files {
		folders[filepath.Dir(f)] = true
	}
	for folder := range folders {
		if err := w.Add(folder); err != nil {
			log.Warn("configuration changes are not noticed; send SIGHUP to reload", "folder", folder, "error", err)
		}
	}
	names := map[string]bool{}
	for _, f := range files {
		names[filepath.Base(f)] = true
	}
	quiet := time.NewTimer(settle)
	quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-w.Events:
			// "..data" is the link that Kubernetes swaps under a mounted file.
			if names[filepath.Base(event.Name)] || filepath.Base(event.Name) == "..data" {
				quiet.Reset(settle)
			}
		case err := <-w.Errors:
			log.Warn("watching the configuration", "error", err)
		case <-quiet.C:
			changed()
		}
	}
}

// files are what a configuration was read from.
func (f *File) files() []string {
	names := []string{f.source.name}
	for _, p := range f.policies {
		names = append(names, p.src.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
