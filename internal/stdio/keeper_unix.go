//go:build unix

package stdio

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
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
	in     *os.File
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

// tell writes one line to the keeper. One that does not take it, because somebody
// stopped or killed it, is given up; the next child starts another.
func (k *Keeper) tell(sign string, pid int) {
	if k.in == nil {
		return
	}
	_ = k.in.SetWriteDeadline(time.Now().Add(keeperPatience))
	if _, err := fmt.Fprintln(k.in, sign, pid); err != nil {
		slog.Warn("the keeper of child processes is gone", "error", err)
		k.end()
	}
}

// keeperPatience is how long the keeper may leave its input unread, of which there
// is next to nothing.
const keeperPatience = time.Second

func (k *Keeper) start() {
	theirs, in, err := os.Pipe()
	if err != nil {
		slog.Warn("no keeper for child processes", "error", err)
		return
	}
	defer theirs.Close()
	cmd := exec.Command("/bin/sh", "-c", keeperScript)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdin = theirs
	children.Lock()
	if err = cmd.Start(); err == nil {
		children.pids[cmd.Process.Pid] = true
	}
	children.Unlock()
	if err != nil {
		slog.Debug("no keeper for child processes", "error", err)
		in.Close()
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
	k.end()
}

func (k *Keeper) end() {
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
