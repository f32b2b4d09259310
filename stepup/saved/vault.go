package saved

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/zalando/go-keyring"
)

// vault seals values with a key that lies in the system's keyring. Only the key does:
// keyrings take values of some 2 KB at most (Windows 2560 bytes, macOS about 3000),
// which a login with two tokens is longer than, and know no change of all or nothing.
type vault struct {
	lock func(ctx context.Context) (unlock func(), err error) // while a key is made

	mu  sync.Mutex
	key []byte // nil: not asked for yet
	err error  // why it cannot be had; it is not asked for again
}

// Where the key lies.
const (
	service = "Stile"
	account = "key of saved logins"
)

// keyringTime is how long a keyring may take: it may ask the person to unlock it.
const keyringTime = time.Minute

var errNoKey = errors.New("the key of the saved logins is no longer in the keyring")

// cipher returns what seals; with create it makes a key where there is none.
func (v *vault) cipher(ctx context.Context, create bool) (cipher.AEAD, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err != nil {
		return nil, v.err
	}
	if v.key == nil {
		key, err := v.find(ctx, create)
		switch {
		case errors.Is(err, errNoKey) || err != nil && ctx.Err() != nil:
			return nil, err // it may be there next time
		case err != nil:
			v.err = fmt.Errorf("the keyring of this system cannot be used (%w)", err)
			return nil, v.err
		}
		v.key = key
	}
	block, err := aes.NewCipher(v.key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// find asks the keyring for the key, and makes one if it has none and create says so.
func (v *vault) find(ctx context.Context, create bool) ([]byte, error) {
	if err := reachable(os.Getenv, os.Stat); err != nil {
		return nil, err
	}
	key, err := ask(ctx, readKey)
	if !errors.Is(err, errNoKey) || !create {
		return key, err
	}
	unlock, err := v.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return ask(ctx, func() ([]byte, error) {
		if key, err := readKey(); !errors.Is(err, errNoKey) {
			return key, err // somebody was faster
		}
		fresh := [32]byte{}
		_, _ = rand.Read(fresh[:])
		if err := keyring.Set(service, account, base64.StdEncoding.EncodeToString(fresh[:])); err != nil {
			return nil, err
		}
		return readKey() // what it gives back is what counts
	})
}

func readKey() ([]byte, error) {
	text, err := keyring.Get(service, account)
	if errors.Is(err, keyring.ErrNotFound) {
		return nil, errNoKey
	}
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("its entry %q is not a key", service)
	}
	return key, nil
}

// ask does not wait for longer than a person takes to unlock a keyring. What was
// asked goes on, since it cannot be broken off.
func ask(ctx context.Context, question func() ([]byte, error)) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, keyringTime)
	defer cancel()
	type answer struct {
		key []byte
		err error
	}
	got := make(chan answer, 1)
	go func() {
		key, err := question()
		got <- answer{key, err}
	}()
	select {
	case a := <-got:
		return a.key, a.err
	case <-ctx.Done():
		return nil, errors.New("it does not answer")
	}
}

// reachable says at once that there is no keyring where asking for one would start a
// message bus that nobody wants (dbus-launch).
func reachable(getenv func(string) string, stat func(string) (os.FileInfo, error)) error {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" || getenv("DBUS_SESSION_BUS_ADDRESS") != "" {
		return nil
	}
	if _, err := stat(fmt.Sprintf("/run/user/%d/bus", os.Getuid())); err != nil {
		return errors.New("there is no session bus")
	}
	return nil
}

// seal encrypts a value; it can be opened under the same name only.
func (v *vault) seal(ctx context.Context, name string, value []byte) ([]byte, error) {
	aead, err := v.cipher(ctx, true)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce)
	return aead.Seal(nonce, nonce, value, []byte(name)), nil
}

func (v *vault) open(ctx context.Context, name string, sealed []byte) ([]byte, error) {
	aead, err := v.cipher(ctx, false)
	if err != nil {
		return nil, err
	}
	if len(sealed) < aead.NonceSize() {
		return nil, errNoKey
	}
	value, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], []byte(name))
	if err != nil {
		return nil, errors.New("another key than that of the keyring sealed it")
	}
	return value, nil
}
