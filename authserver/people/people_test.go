package people_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stile-mcp/stile/authserver/people"
)

// memory is Records in memory.
type memory struct {
	mu       sync.Mutex
	value    []byte
	revision int
	err      error
}

func (m *memory) Load(context.Context, string) ([]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.revision == 0 {
		return nil, "", m.err
	}
	return slices.Clone(m.value), strconv.Itoa(m.revision), m.err
}

func (m *memory) Swap(_ context.Context, _, revision string, value []byte, _ time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.revision == 0 && revision == "" || strconv.Itoa(m.revision) == revision {
		m.value = slices.Clone(value)
		m.revision++
		return true, m.err
	}
	return false, m.err
}

const password = "correct horse battery"

func TestNames(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"ada", "ada"},
		{"Ada.Lovelace@Example.com", "ada.lovelace@example.com"},
		{"JOSE\u0301", "josé"}, // composed
		{"ａｄａ", "ada"},         // full width
		{"Straße", "straße"},   // letters are kept
		{strings.Repeat("a", 64), strings.Repeat("a", 64)},
		{"", ""}, {"a b", ""}, {"ada\n", ""}, {"ada\u202egro", ""}, {"ada\u200b", ""}, {"\xff", ""}, {"ada\x00", ""},
		{strings.Repeat("a", 65), ""},
	} {
		got, err := people.Name(c.name)
		if c.want == "" {
			if !errors.Is(err, people.ErrName) {
				t.Errorf("%q: accepted as %q", c.name, got)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q: %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}

// A name in its one form stays as it is, so that nobody gets a second account by
// writing the first one's name otherwise.
func FuzzName(f *testing.F) {
	for _, s := range []string{"ada", "JOSÉ", "Straße", "ﬁ", "İ", "ς", "Å", "\u212b", "a\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, err := people.Name(s)
		if err != nil {
			return
		}
		twice, err := people.Name(once)
		if err != nil || once != twice {
			t.Errorf("%q became %q and then %q, %v", s, once, twice, err)
		}
	})
}

func TestAccounts(t *testing.T) {
	ctx, store := t.Context(), &memory{}
	accounts := people.NewAccounts(store)
	ada, err := accounts.Add(ctx, "Ada", password)
	if err != nil {
		t.Fatal(err)
	}
	if ada.Name != "ada" || !strings.HasPrefix(ada.Subject, "ada-") || !strings.HasPrefix(ada.Hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("made %+v", ada)
	}
	if strings.Contains(string(store.value), password) {
		t.Error("the password is stored")
	}
	if _, err := accounts.Add(ctx, "ADA", password); !errors.Is(err, people.ErrTaken) {
		t.Errorf("the same name in capitals: %v", err)
	}
	for _, name := range []string{"ada", "ADA", "ａｄａ"} {
		if got, err := accounts.Check(ctx, name, password); err != nil || got.Subject != ada.Subject {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, c := range [][2]string{{"ada", "wrong password"}, {"ada", ""}, {"bob", password}, {"", password}, {"a b", password},
		{"ada", strings.Repeat("x", 2000)}, {"ada", password + " "}} {
		if _, err := accounts.Check(ctx, c[0], c[1]); !errors.Is(err, people.ErrMismatch) {
			t.Errorf("%q: %v", c, err)
		}
	}
	again, err := accounts.SetPassword(ctx, "ADA", "another long password")
	if err != nil || again.Subject != ada.Subject || again.Epoch == ada.Epoch {
		t.Errorf("new password: %+v, %v", again, err)
	}
	if _, err := accounts.Check(ctx, "ada", password); !errors.Is(err, people.ErrMismatch) {
		t.Errorf("the old password: %v", err)
	}
	if _, err := accounts.Add(ctx, "bob", password); err != nil {
		t.Fatal(err)
	}
	if all, err := accounts.List(ctx); err != nil || len(all) != 2 || all[0].Name != "ada" || all[1].Name != "bob" {
		t.Errorf("list: %+v, %v", all, err)
	}
	if removed, err := accounts.Remove(ctx, "ada"); err != nil || removed.Subject != ada.Subject {
		t.Errorf("removed %+v, %v", removed, err)
	}
	if _, err := accounts.Subject(ctx, ada.Subject); !errors.Is(err, people.ErrUnknown) {
		t.Errorf("subject of a removed account: %v", err)
	}
	// A later account of the same name is somebody else.
	if next, err := accounts.Add(ctx, "ada", password); err != nil || next.Subject == ada.Subject {
		t.Errorf("made again: %+v, %v", next, err)
	}
	for _, err := range []error{second(accounts.Remove(ctx, "eve")), second(accounts.SetPassword(ctx, "eve", password)), second(accounts.Remove(ctx, " "))} {
		if !errors.Is(err, people.ErrUnknown) {
			t.Errorf("unknown name: %v", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestPasswords(t *testing.T) {
	accounts := people.NewAccounts(&memory{})
	for name, bad := range map[string]string{
		"short": "elevenchars", "empty": "", "long": strings.Repeat("x", 1025), "control": "twelve chars\n",
		"letters, not bytes, count": "ÄÖÜÄÖÜÄÖÜ",
	} {
		if _, err := accounts.Add(t.Context(), "ada", bad); !errors.Is(err, people.ErrPassword) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// However an accent was typed, it is the same password.
	if _, err := accounts.Add(t.Context(), "ada", "cafe\u0301 au lait bowl"); err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.Check(t.Context(), "ada", "café au lait bowl"); err != nil {
		t.Errorf("composed: %v", err)
	}
}

// A hash of lower cost still opens, and is replaced by one of the present cost.
func TestOldHashesAreRenewed(t *testing.T) {
	store := &memory{}
	accounts := people.NewAccounts(store)
	if _, err := accounts.Add(t.Context(), "ada", password); err != nil {
		t.Fatal(err)
	}
	// argon2id of password with m=8 KiB, t=1 and the salt "sixteen byte salt"
	store.value = []byte(people.WithHash(string(store.value), people.WeakHash(password)))
	before := string(store.value)
	account, err := accounts.Check(t.Context(), "ada", password)
	if err != nil {
		t.Fatal(err)
	}
	if string(store.value) == before || !strings.Contains(string(store.value), "m=19456,t=2,p=1") {
		t.Errorf("not renewed: %s", store.value)
	}
	if now, err := accounts.Subject(t.Context(), account.Subject); err != nil || now.Epoch != account.Epoch {
		t.Errorf("sessions ended by it: %v", err)
	}
	if _, err := accounts.Check(t.Context(), "ada", password); err != nil {
		t.Errorf("after it: %v", err)
	}
}

func TestBrokenStore(t *testing.T) {
	broken := errors.New("disk on fire")
	accounts := people.NewAccounts(&memory{err: broken})
	if _, err := accounts.Check(t.Context(), "ada", password); !errors.Is(err, broken) {
		t.Errorf("check: %v", err)
	}
	if _, err := accounts.NewSetup(t.Context()); !errors.Is(err, broken) {
		t.Errorf("setup: %v", err)
	}
}

// Sixteen people add themselves under one name at once: one gets it.
func TestNamesAreTakenOnce(t *testing.T) {
	accounts := people.NewAccounts(&memory{})
	errs := make([]error, 16)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { _, errs[i] = accounts.Add(t.Context(), "ada", password) })
	}
	all.Wait()
	if won := count(errs, nil); won != 1 || count(errs, people.ErrTaken) != 15 {
		t.Errorf("%d got the name: %v", won, errs)
	}
}

func count(errs []error, target error) (n int) {
	for _, err := range errs {
		if errors.Is(err, target) {
			n++
		}
	}
	return n
}

func TestSetupLinkWorksOnce(t *testing.T) {
	accounts, ctx := people.NewAccounts(&memory{}), t.Context()
	old, err := accounts.NewSetup(ctx)
	if err != nil || len(old) < 26 {
		t.Fatalf("%q, %v", old, err)
	}
	token, err := accounts.NewSetup(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, wrong := range map[string]string{"replaced": old, "empty": "", "other": token + "A"} {
		if _, err := accounts.AddFirst(ctx, wrong, "eve", password); !errors.Is(err, people.ErrLink) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Looking and mistyping use nothing up.
	if err := accounts.CheckSetup(ctx, token); err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.AddFirst(ctx, token, "ada", "short"); !errors.Is(err, people.ErrPassword) {
		t.Errorf("short password: %v", err)
	}
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { _, errs[i] = accounts.AddFirst(ctx, token, fmt.Sprintf("person%d", i), password) })
	}
	all.Wait()
	if won := count(errs, nil); won != 1 || count(errs, people.ErrLink) != 7 {
		t.Errorf("%d used the link: %v", won, errs)
	}
	if list, _ := accounts.List(ctx); len(list) != 1 {
		t.Errorf("accounts: %+v", list)
	}
	if err := accounts.CheckSetup(ctx, token); !errors.Is(err, people.ErrLink) {
		t.Errorf("after it: %v", err)
	}
	if again, err := accounts.NewSetup(ctx); again != "" || err != nil {
		t.Errorf("a link although there are accounts: %q, %v", again, err)
	}
}

func TestSetupLinkExpiresAndIsHashed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		accounts := people.NewAccounts(store)
		token, err := accounts.NewSetup(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(store.value), token) {
			t.Error("the token is stored in clear")
		}
		time.Sleep(people.SetupLifetime - time.Second)
		if err := accounts.CheckSetup(t.Context(), token); err != nil {
			t.Errorf("just before the end: %v", err)
		}
		time.Sleep(time.Second)
		if err := accounts.CheckSetup(t.Context(), token); !errors.Is(err, people.ErrLink) {
			t.Errorf("at the end: %v", err)
		}
	})
}

// Who adds an account from the terminal does not leave a link open behind it.
func TestAddEndsTheLink(t *testing.T) {
	accounts := people.NewAccounts(&memory{})
	token, _ := accounts.NewSetup(t.Context())
	if _, err := accounts.Add(t.Context(), "ada", password); err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.Remove(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	if err := accounts.CheckSetup(t.Context(), token); !errors.Is(err, people.ErrLink) {
		t.Errorf("the link opens again: %v", err)
	}
}

// Checks that wait for their turn do not pile up for ever.
func TestTooManyChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accounts := people.NewAccounts(&memory{})
		if _, err := accounts.Add(t.Context(), "ada", password); err != nil {
			t.Fatal(err)
		}
		leave := accounts.Occupy()
		if _, err := accounts.Check(t.Context(), "ada", password); !errors.Is(err, people.ErrBusy) {
			t.Errorf("%v", err)
		}
		leave()
		if _, err := accounts.Check(t.Context(), "ada", password); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}
