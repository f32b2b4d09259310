package saved

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// maxEntry is the longest file that is read, in bytes.
const maxEntry = 1 << 20

// readEntry reads a file that only its owner can.
func readEntry(path string) (entry, error) {
	var e entry
	file, err := os.Open(path)
	if err != nil {
		return e, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return e, err
	}
	if !info.Mode().IsRegular() {
		return e, fmt.Errorf("%s: expected a file", path)
	}
	if err := onlyOwner(info, 0o077, "read"); err != nil {
		return e, fmt.Errorf("%s: %w", path, err)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxEntry+1))
	if err != nil {
		return e, err
	}
	if len(data) > maxEntry || json.Unmarshal(data, &e) != nil || e.Name == "" {
		return e, fmt.Errorf("%s: expected a saved login: delete the file and log in again", path)
	}
	return e, nil
}

// onlyOwner refuses what others may read or change. Windows keeps such rights
// elsewhere; a folder below the person's own is the person's own there.
func onlyOwner(info fs.FileInfo, bits fs.FileMode, do string) error {
	if runtime.GOOS == "windows" || info.Mode().Perm()&bits == 0 {
		return nil
	}
	return fmt.Errorf("others may %s it (mode %04o): allow that to nobody but its owner (chmod go-rwx)", do, info.Mode().Perm())
}

// replace writes a file so that whoever reads sees the old or the new one, also when
// this process or the machine stops in the middle.
func replace(path string, data []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), strings.TrimSuffix(filepath.Base(path), whole)+".*"+partial) // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(data)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	if err := rename(file.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// rename puts a file in the place of another. Windows refuses that while somebody reads
// the other, which takes no time.
func rename(from, to string) error {
	for turn := 0; ; turn++ {
		err := os.Rename(from, to)
		if err == nil || runtime.GOOS != "windows" || turn == 20 {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// syncFolder makes a rename last. Not every system can, and then it need not.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := folder.Sync(); err != nil && runtime.GOOS != "windows" {
		return err
	}
	return nil
}
