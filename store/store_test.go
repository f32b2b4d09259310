package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/stile-mcp/stile/store"
	"github.com/stile-mcp/stile/store/storetest"
)

func TestMain(m *testing.M) {
	if folder := os.Getenv("STORE_TEST_WRITE"); folder != "" {
		writeUntilKilled(folder)
		return
	}
	goleak.VerifyTestMain(m)
}

func bolt(t *testing.T, folder string) *store.Bolt {
	t.Helper()
	b, err := store.OpenBolt(folder)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return store.NewMemory() })
}

func TestBolt(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return bolt(t, t.TempDir()) })
}

func TestExpiryComesWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory()
		if _, err := m.Swap(t.Context(), "a", "", []byte("x"), time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		if v, _, _ := m.Load(t.Context(), "a"); v == nil {
			t.Error("gone a second too early")
		}
		time.Sleep(time.Second)
		if v, _, _ := m.Load(t.Context(), "a"); v != nil {
			t.Error("still there")
		}
	})
}

func TestUpdateTellsItsError(t *testing.T) {
	m, want := store.NewMemory(), errors.New("no")
	err := store.Update(t.Context(), m, "a", func([]byte) ([]byte, time.Time, error) { return []byte("x"), time.Time{}, want })
	if v, _, _ := m.Load(t.Context(), "a"); !errors.Is(err, want) || v != nil {
		t.Errorf("%v %q", err, v)
	}
}

func TestBoltKeepsAndSeals(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new", "folder")
	b := bolt(t, folder)
	if _, err := store.OpenBolt(folder); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
	const secret = "a refresh token that nobody may read"
	if _, err := b.Swap(t.Context(), "grant/1", "", []byte(secret), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, _ := e.Info()
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		data, _ := os.ReadFile(filepath.Join(folder, e.Name()))
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("%s has the value in clear", e.Name())
		}
	}
	b = bolt(t, folder)
	if v, _, err := b.Load(t.Context(), "grant/1"); err != nil || string(v) != secret {
		t.Errorf("%q %v", v, err)
	}
	_ = b.Close()
}

func TestBoltWithoutItsKey(t *testing.T) {
	folder := t.TempDir()
	b := bolt(t, folder)
	_, _ = b.Swap(t.Context(), "a", "", []byte("x"), time.Time{})
	_ = b.Close()
	key := filepath.Join(folder, "store.key")
	if err := os.WriteFile(key, bytes.Repeat([]byte{1}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	b = bolt(t, folder)
	if _, _, err := b.Load(t.Context(), "a"); err == nil {
		t.Error("read with another key")
	}
	_ = b.Close()
	for _, spoil := range []func() error{func() error { return os.WriteFile(key, []byte("short"), 0o600) }, func() error { return os.Remove(key) }} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if _, err := store.OpenBolt(folder); err == nil || !strings.Contains(err.Error(), "store.key") {
			t.Errorf("%v", err)
		}
	}
}

func TestBoltSweeps(t *testing.T) {
	b := bolt(t, t.TempDir())
	defer b.Close()
	_, _ = b.Swap(t.Context(), "old", "", []byte("x"), time.Now().Add(-time.Hour))
	_, _ = b.Swap(t.Context(), "new", "", []byte("x"), time.Now().Add(time.Hour))
	if err := b.Sweep(); err != nil {
		t.Fatal(err)
	}
	keys, err := b.Keys(t.Context(), "", 10)
	if err != nil || len(keys) != 1 || keys[0] != "new" {
		t.Errorf("%q %v", keys, err)
	}
}

// writeUntilKilled counts up in the store and says each number once it is stored.
func writeUntilKilled(folder string) {
	b, err := store.OpenBolt(folder)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	for {
		var n int
		err := store.Update(context.Background(), b, "n", func(value []byte) ([]byte, time.Time, error) {
			n, _ = strconv.Atoi(string(value))
			n++
			return fmt.Append(nil, n), time.Time{}, nil
		})
		if err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println(n)
	}
}

// A process is killed in the middle of its writes, again and again: what it had said
// to be stored is there.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	folder := t.TempDir()
	for round := range 5 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "STORE_TEST_WRITE="+folder)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		said := ""
		lines := bufio.NewScanner(out)
		for i := 0; i < 20+round && lines.Scan(); i++ {
			said = lines.Text()
		}
		_ = c.Process.Kill()
		rest, _ := io.ReadAll(out)
		for line := range strings.Lines(string(rest)) {
			if strings.HasSuffix(line, "\n") {
				said = strings.TrimSpace(line)
			}
		}
		_ = c.Wait()
		want, err := strconv.Atoi(said)
		if err != nil {
			t.Fatalf("said %q", said)
		}
		b := bolt(t, folder)
		value, _, err := b.Load(t.Context(), "n")
		_ = b.Close()
		if got, _ := strconv.Atoi(string(value)); err != nil || got < want {
			t.Fatalf("%d is stored, but %d was said to be: %v", got, want, err)
		}
	}
}
