package companion

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// keep starts the next companion when one has ended, until the keeper is closed.
func (k *Keeper[L]) keep(current *process[L]) {
	defer close(k.kept)
	for k.watch(current) {
		current.close()
		k.set(nil)
		before, words := current.pid, k.lastWords()
		if current = k.again(words); current == nil {
			return
		}
		if current.pid != before {
			k.c.Log.Error("the "+k.c.Name+" had ended unasked; another one runs", "last_words", words)
			if k.c.Restarted != nil {
				k.c.Restarted()
			}
		}
		k.set(current)
	}
}

// watch returns when a companion has ended, having killed it when it does not answer any
// more. It returns false when the keeper is closed.
func (k *Keeper[L]) watch(current *process[L]) bool {
	tick := time.NewTicker(k.c.Beat())
	defer tick.Stop()
	for {
		select {
		case <-current.link.Gone():
			return true
		case <-k.ctx.Done():
			return false
		case <-tick.C:
			if _, err := current.link.Hello(k.ctx, k.patience()); errors.Is(err, ErrHangs) {
				k.kill(current, err)
				// One that a disk holds does not die before that answers.
			}
		}
	}
}

func (k *Keeper[L]) patience() time.Duration {
	return time.Duration(k.c.MissedBeats) * k.c.Beat()
}

func (k *Keeper[L]) kill(there *process[L], why error) {
	k.c.Log.Error("the "+k.c.Name+" does not answer, and is killed", "pid", there.pid, "error", why)
	there.kill()
}

// again finds a companion, or starts one in the place of one that died with these words; nil
// when the keeper is closed.
func (k *Keeper[L]) again(words string) *process[L] {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		next, err := k.find(k.ctx)
		if err == nil {
			return next
		}
		if k.ctx.Err() != nil {
			return nil
		}
		k.c.Log.Error("cannot start the "+k.c.Name+": "+k.c.Absence, "error", err, "last_words", words)
		select {
		case <-time.After(pause):
		case <-k.ctx.Done():
			return nil
		}
	}
}

// find connects to a companion that is to be used, having started it if need be.
func (k *Keeper[L]) find(ctx context.Context) (*process[L], error) {
	there, err := k.own(ctx)
	if err != nil || k.c.Adopt == nil {
		return there, err
	}
	if err := k.c.Adopt(ctx, there.link); err != nil {
		there.close()
		return nil, fmt.Errorf("going on with the %s: %w", k.c.Name, err)
	}
	return there, nil
}

// maxDeaths is how many companions in a row may die before it is connected to them.
const maxDeaths = 3

// own connects to a companion of our own executable, or to one that has to stay.
func (k *Keeper[L]) own(ctx context.Context) (*process[L], error) {
	for died := 1; ; died++ {
		wanted, err := executable(k.c.Command[0])
		if err != nil {
			return nil, fmt.Errorf("looking for the executable of the %s: %w", k.c.Name, err)
		}
		if there, err := k.connect(ctx); err == nil {
			if k.settle(ctx, there, wanted) {
				return there, nil
			}
			there.close()
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("looking for the %s: %w", k.c.Name, ctx.Err())
		}
		err = k.spawn(ctx)
		switch {
		case errors.Is(err, errOther):
			continue
		case err != nil:
			return nil, err
		}
		// One that dies as soon as it serves, as somebody kills it, is worth another one.
		if there, err := k.connect(ctx); err == nil || died >= maxDeaths {
			return there, err
		}
	}
}

// settle says whether to go on with a companion that runs. If not, it is ended, but for
// one that the next takes over from.
func (k *Keeper[L]) settle(ctx context.Context, there *process[L], wanted Executable) bool {
	is, err := there.link.Hello(ctx, k.patience())
	switch {
	case err == nil && is == wanted:
		return true
	case ctx.Err() != nil:
		return false
	case errors.Is(err, ErrHangs):
		k.gap()
		k.kill(there, err)
		return false
	}
	k.c.Log.Info("replacing the "+k.c.Name+" of another version", "pid", there.pid)
	return k.c.Leave != nil && !k.leaves(ctx, there)
}

// leaves has a companion end, and says whether it does.
func (k *Keeper[L]) leaves(ctx context.Context, there *process[L]) bool {
	k.gap()
	err := k.c.Leave(ctx, there.link)
	if errors.Is(err, ErrStays) {
		k.c.Log.Warn("the "+k.c.Name+" of another version stays until the agent's next start", "reason", err)
		return false
	}
	if err != nil && ctx.Err() == nil {
		there.kill()
	}
	return true
}

func (k *Keeper[L]) gap() {
	if k.c.Gap != nil {
		k.c.Gap()
	}
}
