package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sessionKeyFile is the file in data_dir with the secret of session ids.
const sessionKeyFile = "session.key"

// sessionKeys are the secrets of the file, or the one kept in data_dir, which is
// made when it is missing. nil asks the library for a random one.
func (f *File) sessionKeys() ([][]byte, error) {
	if len(f.SessionKeys) > 0 {
		keys := make([][]byte, len(f.SessionKeys))
		for i, key := range f.SessionKeys {
			keys[i] = []byte(key)
		}
		return keys, nil
	}
	if f.DataDir == "" {
		return nil, nil
	}
	dir := f.source.within(f.DataDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	key, err := keptKey(filepath.Join(dir, sessionKeyFile))
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	return [][]byte{key}, nil
}

// keptKey reads a key file, or makes it with a new random key. Of several
// processes that make it at once, one wins and all use its key.
func keptKey(path string) ([]byte, error) {
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	secret := make([]byte, minSessionKey)
	_, _ = rand.Read(secret)                                             // never fails (crypto/rand)
	draft, err := os.CreateTemp(filepath.Dir(path), sessionKeyFile+".*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(draft.Name())
	_, err = draft.WriteString(hex.EncodeToString(secret) + "\n")
	if err := errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(draft.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return readKey(path)
}

// readKey reads a key file that nobody else may read.
func readKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: expected a file that only its owner may read (mode 0600), found mode %#o", path, info.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key := []byte(strings.TrimSpace(string(data)))
	if len(key) < minSessionKey {
		return nil, fmt.Errorf("%s: expected a key of at least %d bytes", path, minSessionKey)
	}
	return key, nil
}

// openAudit opens what the audit is written to. The closer is never nil.
func (f *File) openAudit(stdout, stderr io.Writer) (io.Writer, io.Closer, error) {
	switch f.Audit {
	case "stderr":
		return stderr, closers(nil), nil
	case "stdout":
		return stdout, closers(nil), nil
	}
	file, err := os.OpenFile(f.source.within(f.Audit), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("audit: %w", err)
	}
	return file, file, nil
}

// closers closes several things, the last one first.
type closers []io.Closer

// Close closes all of them and returns every error.
func (c closers) Close() error {
	var errs []error
	for i := len(c) - 1; i >= 0; i-- {
		errs = append(errs, c[i].Close())
	}
	return errors.Join(errs...)
}
