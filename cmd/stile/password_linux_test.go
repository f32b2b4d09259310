package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo terminal: what somebody types into and looks at, and the
// file that a program takes for its keyboard.
func terminal(t *testing.T) (person, keyboard *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	keyboard, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	return person, keyboard
}

func echoes(t *testing.T, keyboard *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(keyboard.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// typing answers each prompt with the next line, once the terminal no longer shows
// what is typed.
func typing(t *testing.T, prompts io.Reader, person, keyboard *os.File, lines ...string) {
	reader := bufio.NewReader(prompts)
	for _, line := range lines {
		if _, err := reader.ReadString(':'); err != nil {
			t.Errorf("no prompt: %v", err)
			return
		}
		for echoes(t, keyboard) {
			// The prompt comes just before the echo is turned off.
			continue
		}
		if _, err := person.WriteString(line + "\n"); err != nil {
			t.Error(err)
		}
	}
	_, _ = io.Copy(io.Discard, reader) // until the program has ended
}

func TestPasswordIsNotShown(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  string
		err   error
	}{
		"twice the same": {[]string{"correct horse battery", "correct horse battery"}, "correct horse battery", nil},
		"otherwise":      {[]string{"correct horse battery", "correct horse batter"}, "", errNotTheSame},
	} {
		t.Run(name, func(t *testing.T) {
			person, keyboard := terminal(t)
			prompts, stderr := io.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				typing(t, prompts, person, keyboard, c.lines...)
			}()
			got, err := newPassword(&process{ctx: t.Context(), stdin: keyboard, stderr: stderr}, "ada")
			if !errors.Is(err, c.err) || c.err == nil && got != c.want {
				t.Errorf("%q, %v", got, err)
			}
			if !echoes(t, keyboard) {
				t.Error("the terminal shows nothing any more")
			}
			_ = stderr.Close()
			<-done
			// What the terminal showed can be read where it was typed.
			if _, err := keyboard.WriteString("END"); err != nil {
				t.Fatal(err)
			}
			shown, err := bufio.NewReader(person).ReadString('D')
			if err != nil || strings.Contains(shown, "horse") {
				t.Errorf("the terminal showed %q, %v", shown, err)
			}
		})
	}
}

// Ctrl-C at the prompt ends the command, and the terminal shows again what is typed.
func TestPromptThatIsBrokenOff(t *testing.T) {
	_, keyboard := terminal(t)
	cmd := exec.Command(self(t), "user", "--data-dir", t.TempDir(), "add", "ada")
	cmd.Env = append(os.Environ(), roleVar+"=stile")
	cmd.Stdin = keyboard
	prompts, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if prompt, err := bufio.NewReader(prompts).ReadString(':'); err != nil || prompt != "Password for ada:" {
		t.Errorf("prompt %q, %v", prompt, err)
	}
	for echoes(t, keyboard) {
		continue
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitFailed {
		t.Errorf("ended with %v", err)
	}
	if !echoes(t, keyboard) {
		t.Error("the terminal shows nothing any more")
	}
}
