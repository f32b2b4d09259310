package control_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stile-mcp/stile/authserver/control"
	"github.com/stile-mcp/stile/authserver/people"
	"github.com/stile-mcp/stile/store"
)

const password = "correct horse battery"

// folder is one whose path is short enough for a socket, on every system.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func serve(t *testing.T, dir string, local *control.Local) func() error {
	t.Helper()
	stop, err := control.Serve(dir, local)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

func TestAccountsOfARunningServer(t *testing.T) {
	dir, ctx := folder(t), t.Context()
	var revoked []string
	local := &control.Local{Accounts: people.NewAccounts(store.NewMemory()), RevokeAll: func(_ context.Context, subject string) error {
		revoked = append(revoked, subject)
		return nil
	}}
	if _, err := control.Dial(ctx, dir); !errors.Is(err, control.ErrNotRunning) {
		t.Fatalf("before it runs: %v", err)
	}
	stop := serve(t, dir, local)
	info, err := os.Stat(filepath.Join(dir, control.Socket))
	if err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != fs.ModeSocket {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	remote, err := control.Dial(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	ada, err := remote.Add(ctx, "Ada", password)
	if err != nil || ada.Name != "ada" || ada.Hash != "" || ada.Epoch != "" {
		t.Fatalf("%+v, %v", ada, err)
	}
	if _, err := local.Check(ctx, "ada", password); err != nil {
		t.Errorf("sign-in: %v", err)
	}
	for want, got := range map[error]error{
		people.ErrTaken:    last(remote.Add(ctx, "ada", password)),
		people.ErrPassword: last(remote.Add(ctx, "bob", "short")),
		people.ErrName:     last(remote.Add(ctx, "b b", password)),
		people.ErrUnknown:  last(remote.Remove(ctx, "bob")),
	} {
		if !errors.Is(got, want) || !strings.Contains(got.Error(), want.Error()) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	if _, err := remote.SetPassword(ctx, "ada", "another long password"); err != nil {
		t.Errorf("passwd: %v", err)
	}
	if all, err := remote.List(ctx); err != nil || len(all) != 1 || all[0].Hash != "" {
		t.Errorf("list: %+v, %v", all, err)
	}
	if _, err := remote.Remove(ctx, "ada"); err != nil || len(revoked) != 1 || revoked[0] != ada.Subject {
		t.Errorf("remove: %v, revoked %v", err, revoked)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Dial(ctx, dir); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("after it: %v", err)
	}
}

func last[T any](_ T, err error) error { return err }

func TestOneServerForAFolder(t *testing.T) {
	dir := folder(t)
	local := &control.Local{Accounts: people.NewAccounts(store.NewMemory())}
	serve(t, dir, local)
	if _, err := control.Serve(dir, local); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("a second one: %v", err)
	}
	if _, err := control.Dial(t.Context(), dir); err != nil {
		t.Errorf("the first one is gone: %v", err)
	}
}

// A process that was killed leaves its socket behind.
func TestLeftSocketIsReplaced(t *testing.T) {
	dir := folder(t)
	if err := os.WriteFile(filepath.Join(dir, control.Socket), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	serve(t, dir, &control.Local{Accounts: people.NewAccounts(store.NewMemory())})
	if _, err := control.Dial(t.Context(), dir); err != nil {
		t.Error(err)
	}
}

func TestLongPaths(t *testing.T) {
	dir := filepath.Join(folder(t), strings.Repeat("x", 100))
	if _, err := control.Serve(dir, nil); err == nil || !strings.Contains(err.Error(), "shorter data_dir") {
		t.Error(err)
	}
}

// Grants that cannot be ended are told, and the account is gone.
func TestRemoveThatHalfWorks(t *testing.T) {
	ctx := t.Context()
	local := &control.Local{Accounts: people.NewAccounts(store.NewMemory()), RevokeAll: func(context.Context, string) error { return errors.New("disk on fire") }}
	if _, err := local.Add(ctx, "ada", password); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Remove(ctx, "ada"); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("%v", err)
	}
	if _, err := local.Check(ctx, "ada", password); !errors.Is(err, people.ErrMismatch) {
		t.Errorf("signs in: %v", err)
	}
}
