package companion

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// startTimeout bounds a start, which takes 20 ms as a rule, more when there is much to take
// up or over.
const startTimeout = 20 * time.Second

// lookAgain is how often it is looked for another companion while one starts.
const lookAgain = 100 * time.Millisecond

// errOther says that another companion serves than the one that was started.
var errOther = errors.New("another one serves")

// spawn starts a companion and returns when it serves. One that is not waited for any more
// is let alone: it may have taken over what another had.
func (k *Keeper[L]) spawn(ctx context.Context) error {
	ready, cmd, err := k.start()
	if err != nil {
		return fmt.Errorf("starting the %s: %w", k.c.Name, err)
	}
	defer ready.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	switch err := k.awaitReady(ctx, ready, cmd.Process.Pid); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("starting the %s: %w", k.c.Name, ctx.Err())
	case errors.Is(err, errOther):
		_ = cmd.Process.Kill()
		return err
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the %s ended at once (%v): %s", k.c.Name, <-ended, k.lastWords())
	default:
		_ = cmd.Process.Kill()
		return fmt.Errorf("the %s is not ready after %s: %s", k.c.Name, startTimeout, k.lastWords())
	}
}

// start starts the process, which is to write to ready.
func (k *Keeper[L]) start() (ready *os.File, cmd *exec.Cmd, err error) {
	words, err := k.newLastWords()
	if err != nil {
		return nil, nil, err
	}
	defer words.Close()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	cmd = exec.Command(k.c.Command[0], slices.Concat(k.c.Command[1:], []string{"--dir", k.c.Dir}, k.c.Flags)...)
	cmd.Stderr, cmd.ExtraFiles, cmd.Dir = words, []*os.File{theirs}, "/"
	cmd.Env = append(os.Environ(), variable+"="+k.c.Name)
	// Of its own session: what ends the agent does not end it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, nil, errors.Join(err, ready.Close())
	}
	return ready, cmd, nil
}

// awaitReady returns when a companion that was started serves; or when another one does that
// an agent had started which has died since, if ours would wait for its end.
func (k *Keeper[L]) awaitReady(ctx context.Context, ready *os.File, pid int) error {
	for limit := time.Now().Add(startTimeout); ; {
		_ = ready.SetReadDeadline(time.Now().Add(lookAgain))
		_, err := ready.Read(make([]byte, 1))
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil || time.Now().After(limit):
			return err
		case k.c.Leave != nil && k.servesOther(ctx, pid):
			return errOther
		}
	}
}

// servesOther says whether a companion answers that is not this one.
func (k *Keeper[L]) servesOther(ctx context.Context, pid int) bool {
	there, err := k.connect(ctx)
	if err != nil {
		return false
	}
	defer there.close()
	if there.pid == pid {
		return false
	}
	_, err = there.link.Hello(ctx, k.patience())
	return err == nil
}

// newLastWords is a file for what a companion says at its end. One that runs yet goes on with
// the file that it has.
func (k *Keeper[L]) newLastWords() (*os.File, error) {
	if err := os.Remove(k.wordsFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(k.wordsFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// lastWords are the end of what a companion has written to its standard error.
func (k *Keeper[L]) lastWords() string {
	const most = 2 << 10
	words, _ := os.ReadFile(k.wordsFile())
	return string(words[max(0, len(words)-most):])
}

func (k *Keeper[L]) wordsFile() string { return filepath.Join(k.c.Dir, "stderr") }
