//go:build unix

package stdio

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// keeperScript reads "+ GROUP" and "- GROUP" until its input ends, which happens
// when the process that wrote them is gone, whatever ended it. Then it ends the
// groups that are left: SIGTERM, and two seconds later SIGKILL.
const keeperScript = `trap '' HUP INT TERM
groups=' '
while read -r sign group; do
	case $sign in
	+) groups="$groups$group " ;;
	-) groups="${groups%%" $group "*} ${groups#*" $group "}" ;;
	esac
done
[ "$groups" = ' ' ] && exit
for group in $groups; do kill -s TERM -- "-$group"; done
sleep 2
for group in $groups; do kill -s KILL -- "-$group"; done
`

// Keeper ends the process groups of children when this process dies without
// stopping them, as by SIGKILL: not only the children, which Pdeathsig reaches on
// Linux, but what they started too. It is one small shell, started with the first
// child; where there is none it does nothing. The zero Keeper is ready, a nil one
// does nothing. Its methods may be called concurrently.
type Keeper struct {
	mu     sync.Mutex
	cmd    *exec.Cmd
	in     io.WriteCloser
	closed bool
}

func (k *Keeper) add(pid int) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.in == nil && !k.closed {
		k.start()
	}
	k.tell("+", pid)
}

func (k *Keeper) remove(pid int) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tell("-", pid)
}

func (k *Keeper) tell(sign string, pid int) {
	if k.in != nil {
		_, _ = fmt.Fprintln(k.in, sign, pid) // it is gone: nothing to be done
	}
}

func (k *Keeper) start() {
	cmd := exec.Command("/bin/sh", "-c", keeperScript)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err == nil {
		children.Lock()
		if err = cmd.Start(); err == nil {
			children.pids[cmd.Process.Pid] = true
		}
		children.Unlock()
	}
	if err != nil {
		slog.Debug("no keeper for child processes", "error", err)
		k.closed = true
		return
	}
	k.cmd, k.in = cmd, in
}

// Close ends the keeper. Children that are still there stay; stop them first.
func (k *Keeper) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.cmd == nil {
		return
	}
	// Not by closing its input, which would end the children.
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait()
	k.in.Close()
	children.Lock()
	delete(children.pids, k.cmd.Process.Pid)
	children.Unlock()
	k.cmd, k.in = nil, nil
}
