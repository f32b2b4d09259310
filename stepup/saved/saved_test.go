package saved_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/stile-mcp/stile/stepup/saved"
)

const name = "login https://mcp.example.com/mcp"

func TestMain(m *testing.M) {
	if role := os.Getenv("SAVED_ROLE"); role != "" {
		if err := play(role); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	// The keyring of these tests is a map, and needs no bus.
	_ = os.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
	os.Exit(m.Run())
}

// play is another process with the same folder.
func play(role string) error {
	s, err := saved.Open(saved.Options{Storage: saved.File}) // in STILE_HOME
	if err != nil {
		return err
	}
	switch role {
	case "hold":
		if _, err := s.Lock(context.Background(), name); err != nil {
			return err
		}
		fmt.Println("held")
		_, err = bufio.NewReader(os.Stdin).ReadString('\n')
		return err
	case "write": // until it is killed
		fmt.Println("writes")
		for i := 0; ; i++ {
			if err := s.Put(context.Background(), name, bytes.Repeat([]byte{'a' + byte(i%26)}, 100_000)); err != nil {
				return err
			}
		}
	}
	return errors.New("no such role")
}

// another starts a process in a role, and returns when it says that it has begun.
func another(t *testing.T, dir, role string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), "SAVED_ROLE="+role, "STILE_HOME="+dir)
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%s: %q %v", role, line, err)
	}
	return c
}

// told collects what a Store tells.
type told struct {
	mu   sync.Mutex
	all  []string
	more chan struct{}
}

func (w *told) tell(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
	if w.more != nil {
		w.more <- struct{}{}
	}
}

func (w *told) texts() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all)
}

func open(t *testing.T, dir string, storage saved.Storage, w *told) *saved.Store {
	t.Helper()
	if w == nil {
		w = &told{}
	}
	s, err := saved.Open(saved.Options{Dir: dir, Storage: storage, Tell: w.tell})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *saved.Store, name, value string) {
	t.Helper()
	if err := s.Put(t.Context(), name, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func wantValue(t *testing.T, s *saved.Store, name, want string) {
	t.Helper()
	got, err := s.Get(t.Context(), name)
	if err != nil || string(got) != want || (got == nil) != (want == "") {
		t.Errorf("%s is %.40q, %v; want %.40q", name, got, err, want)
	}
}

// everything is all that stands in the files of a folder.
func everything(t *testing.T, dir string) string {
	t.Helper()
	paths, _ := filepath.Glob(filepath.Join(dir, "*"))
	var all strings.Builder
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	return all.String()
}

func TestStore(t *testing.T) {
	long := strings.Repeat("token ", 2000) // more than any keyring takes
	for _, storage := range []saved.Storage{saved.Auto, saved.Keyring, saved.File, ""} {
		t.Run(string(storage), func(t *testing.T) {
			keyring.MockInit()
			dir, w := filepath.Join(t.TempDir(), "a", "stile"), &told{}
			s := open(t, dir, storage, w)
			wantValue(t, s, name, "")
			put(t, s, name, long)
			put(t, s, "client https://idp.example.com", "registration")
			again := open(t, dir, storage, w)
			wantValue(t, again, name, long)
			wantValue(t, again, "client https://idp.example.com", "registration")
			put(t, again, name, "other")
			wantValue(t, s, name, "other")
			list, err := s.List()
			if err != nil || len(list) != 2 || list[0].Name != "client https://idp.example.com" || list[1].Name != name || list[1].Sealed != (storage != saved.File) {
				t.Errorf("list: %v, %v", list, err)
			}
			for range 2 {
				if err := again.Delete(t.Context(), name); err != nil {
					t.Error(err)
				}
			}
			wantValue(t, s, name, "")
			if texts := w.texts(); len(texts) > 0 {
				t.Errorf("told %q", texts)
			}
		})
	}
}

// What is sealed stands in no file, and opens under its own name and with its own
// key only.
func TestSealed(t *testing.T) {
	keyring.MockInit()
	dir := t.TempDir()
	put(t, open(t, dir, saved.Auto, nil), name, "secret")
	put(t, open(t, dir, saved.Auto, nil), "client x", "secret too")
	if all := everything(t, dir); strings.Contains(all, "secret") || strings.Contains(all, "c2VjcmV0") || !strings.Contains(all, name) {
		t.Errorf("the files are %q", all)
	}
	// Another file's value under this name.
	paths, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	one, two := readFile(t, paths[0]), readFile(t, paths[1])
	value := func(text string) string {
		return text[strings.Index(text, `"sealed"`):]
	}
	swapped := strings.Replace(one, value(one), value(two), 1)
	if err := os.WriteFile(paths[0], []byte(swapped), 0o600); err != nil {
		t.Fatal(err)
	}
	// Then without the key.
	for what, prepare := range map[string]func(){
		"the value of another name": func() {},
		"no key":                    keyring.MockInit,
		"another key":               func() { keyring.MockInit(); put(t, open(t, t.TempDir(), saved.Keyring, nil), name, "x") },
		"no keyring":                func() { keyring.MockInitWithError(errors.New("no such name on the bus")) },
	} {
		prepare()
		w := &told{}
		s := open(t, dir, saved.Auto, w)
		lost := 0
		for _, n := range []string{name, "client x", name} {
			if got, err := s.Get(t.Context(), n); got == nil && err == nil {
				lost++
			}
		}
		if texts := w.texts(); lost == 0 || len(texts) != 1 || !strings.Contains(texts[0], "log in again") {
			t.Errorf("%s: %d lost, told %q", what, lost, texts)
		}
		strict := open(t, dir, saved.Keyring, nil)
		_, err1 := strict.Get(t.Context(), name)
		_, err2 := strict.Get(t.Context(), "client x")
		if err1 == nil && err2 == nil {
			t.Errorf("%s: no error where the keyring is insisted on", what)
		}
		if what == "the value of another name" {
			// Put back what was there, for the others.
			if err := os.WriteFile(paths[0], []byte(one), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Without a keyring there are files for their owner only, and one warning.
func TestWithoutKeyring(t *testing.T) {
	keyring.MockInitWithError(errors.New("no such name on the bus"))
	dir, w := filepath.Join(t.TempDir(), "stile"), &told{}
	s := open(t, dir, saved.Auto, w)
	put(t, s, name, "one")
	put(t, s, "client x", "two")
	wantValue(t, open(t, dir, saved.Auto, w), name, "one")
	if texts := w.texts(); len(texts) != 1 || !strings.Contains(texts[0], dir) || !strings.Contains(texts[0], "no such name") {
		t.Errorf("told %q", texts)
	}
	paths, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, path := range append(paths, dir) {
		info, err := os.Stat(path)
		if err != nil || runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
	}
	strict := open(t, dir, saved.Keyring, nil)
	if err := strict.Put(t.Context(), name, []byte("x")); err == nil || !strings.Contains(err.Error(), "keyring") {
		t.Errorf("where the keyring is insisted on: %v", err)
	}
	if _, err := strict.Get(t.Context(), "login of somewhere else"); err == nil || !strings.Contains(err.Error(), "keyring") {
		t.Errorf("before anybody has logged in: %v", err)
	}
	if _, err := saved.Open(saved.Options{Dir: dir, Storage: "clay"}); err == nil {
		t.Error("took a storage that there is not")
	}
}

func TestOthersMayNot(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Log("rights are kept elsewhere there")
		return
	}
	dir := t.TempDir()
	s := open(t, dir, saved.File, nil)
	put(t, s, name, "secret")
	paths, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	for _, mode := range []os.FileMode{0o604, 0o640, 0o660, 0o777} {
		if err := os.Chmod(paths[0], mode); err != nil {
			t.Fatal(err)
		}
		if value, err := s.Get(t.Context(), name); err == nil || value != nil || !strings.Contains(err.Error(), "others may read it") {
			t.Errorf("mode %o: %q %v", mode, value, err)
		}
		if list, err := s.List(); err == nil || len(list) != 0 {
			t.Errorf("mode %o: listed %v %v", mode, list, err)
		}
	}
	if err := os.Chmod(dir, 0o770); err != nil {
		t.Fatal(err)
	}
	if _, err := saved.Open(saved.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "others may change it") {
		t.Errorf("a folder that others may write to: %v", err)
	}
}

func TestBrokenFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, saved.File, nil)
	put(t, s, name, "secret")
	paths, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	for _, text := range []string{"", "{", `{"name":""}`, `{"name":"login x","value":"eA=="}`, strings.Repeat(" ", 1<<20) + "{}"} {
		if err := os.WriteFile(paths[0], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if value, err := s.Get(t.Context(), name); err == nil {
			t.Errorf("%.20q: read as %q", text, value)
		}
	}
}

// Whoever is killed while writing leaves the old value or the new one, and at most a
// file that is swept up later.
func TestKilledWhileWriting(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, saved.File, nil)
	for range 10 {
		c := another(t, dir, "write")
		for range 20 {
			value, err := s.Get(t.Context(), name)
			if err != nil || value != nil && (len(value) != 100_000 || strings.Trim(string(value), string(value[:1])) != "") {
				t.Fatalf("%d bytes, %v", len(value), err)
			}
		}
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	left := filepath.Join(dir, "0123.456.part")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir, saved.File, nil)
	if _, err := os.Stat(left); err != nil {
		t.Error("swept up what somebody may be writing")
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(left, old, old); err != nil {
		t.Fatal(err)
	}
	open(t, dir, saved.File, nil)
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Error("left what nobody writes any more")
	}
}

// A lock keeps other processes out, and ends with the process that holds it.
func TestLockOfAKilledProcess(t *testing.T) {
	dir := t.TempDir()
	holder := another(t, dir, "hold")
	w := &told{more: make(chan struct{}, 8)}
	s := open(t, dir, saved.File, w)
	if unlock, err := s.Lock(t.Context(), "login of another"); err != nil {
		t.Errorf("another lock: %v", err)
	} else {
		unlock()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Lock(ctx, name); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting ended with %v", err)
	}
	<-w.more
	got := make(chan error)
	go func() {
		unlock, err := s.Lock(t.Context(), name)
		if err == nil {
			unlock()
		}
		got <- err
	}()
	<-w.more
	select {
	case err := <-got:
		t.Fatalf("took a lock that is held: %v", err)
	default:
	}
	_ = holder.Process.Kill()
	if err := <-got; err != nil {
		t.Error(err)
	}
	for _, text := range w.texts() {
		if !strings.Contains(text, "https://mcp.example.com/mcp") {
			t.Errorf("told %q", text)
		}
	}
}

// Within a process a lock is as good.
func TestLockExcludes(t *testing.T) {
	dir := t.TempDir()
	one, two := open(t, dir, saved.File, nil), open(t, dir, saved.File, nil)
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		var inside atomic.Int32 // the kernel's lock is none that the race detector knows
		for i := range 8 {
			wg.Go(func() {
				s := []*saved.Store{one, two}[i%2]
				unlock, err := s.Lock(t.Context(), name)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d inside", n)
				}
				time.Sleep(time.Second)
				inside.Add(-1)
				unlock()
			})
		}
		wg.Wait()
	})
}

func TestDefaultDir(t *testing.T) {
	t.Setenv("STILE_HOME", "")
	t.Setenv("XDG_CONFIG_HOME", "/home/ada/.config")
	dir, err := saved.DefaultDir()
	if err != nil || filepath.Base(dir) != "stile" || runtime.GOOS == "linux" && dir != "/home/ada/.config/stile" {
		t.Error(dir, err)
	}
	home := t.TempDir()
	t.Setenv("STILE_HOME", home)
	if dir, err := saved.DefaultDir(); err != nil || dir != home {
		t.Error(dir, err)
	}
}
