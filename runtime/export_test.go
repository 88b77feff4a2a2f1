package runtime

import "time"

// Impatient has a sweeper wait for no more than the second sweep.
func (s *Sweeper) Impatient() *Sweeper {
	s.settling, s.temporary = 0, 0
	return s
}

// Temporary is for how long what is no container's is let alone.
func (s *Sweeper) Temporary(t time.Duration) { s.temporary = t }
