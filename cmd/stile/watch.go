package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a file must be quiet before it is read: editors and
// configuration management write in several steps.
const settle = 200 * time.Millisecond

// watch reloads on each signal and when a file of the configuration changes, until
// ctx ends.
func (s *server) watch(ctx context.Context, hup <-chan os.Signal) {
	w := &watcher{log: s.log, folders: map[string]bool{}}
	var err error
	if w.notify, err = fsnotify.NewWatcher(); err != nil {
		s.log.Warn("configuration changes are not noticed; send SIGHUP to reload", "error", err)
		w.notify = &fsnotify.Watcher{} // its channels are nil
	} else {
		defer w.notify.Close()
	}
	w.follow(s.current.Load())
	quiet := time.NewTimer(settle)
	quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-w.notify.Events:
			if w.concerns(event.Name) {
				quiet.Reset(settle)
			}
			continue
		case err := <-w.notify.Errors:
			s.log.Warn("watching the configuration", "error", err)
			continue
		case <-hup:
			w.changed = true
		case <-quiet.C:
		}
		if w.changed {
			s.reload()
			w.follow(s.current.Load())
		} else {
			s.reloadCertificates() // and nothing else: streams go on
		}
		w.changed = false
	}
}

// watcher watches the folders of files, because editors and Kubernetes replace
// files instead of writing into them. It is used by one goroutine.
type watcher struct {
	log     *slog.Logger
	notify  *fsnotify.Watcher
	folders map[string]bool
	names   map[string]bool // of the files, without their folders: whether they are the configuration
	changed bool            // the configuration, and not only certificates of the listener
}

// follow makes the files of a configuration the ones that are watched.
func (w *watcher) follow(l *loaded) {
	w.names = map[string]bool{}
	if c := l.tls.Load(); c != nil {
		w.add(c.files, false)
	}
	w.add(l.files, true)
}

func (w *watcher) add(files []string, configuration bool) {
	for _, f := range files {
		w.names[filepath.Base(f)] = configuration
		folder := filepath.Dir(f)
		if w.folders[folder] || w.notify.Events == nil {
			continue
		}
		w.folders[folder] = true
		if err := w.notify.Add(folder); err != nil {
			w.log.Warn("configuration changes are not noticed; send SIGHUP to reload", "folder", folder, "error", err)
		}
	}
}

// concerns reports whether a change of that name may be one of the configuration:
// "..data" is the link that Kubernetes swaps under a mounted file.
func (w *watcher) concerns(name string) bool {
	base := filepath.Base(name)
	configuration, ours := w.names[base]
	if configuration || base == "..data" {
		w.changed = true
	}
	return ours || base == "..data"
}

// files are what a configuration was read from.
func (f *File) files() []string {
	names := append([]string{f.source.name}, f.certificateFiles()...)
	for _, p := range f.policies {
		names = append(names, p.src.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
