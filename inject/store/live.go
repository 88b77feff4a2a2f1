package store

import "math"

// Live returns the numbers of a secret's versions that were not deleted, newest first; none
// when there is no such secret.
func (s *Store) Live(environment, name string) []uint32 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.manifest.record(environment, name).newestLive(math.MaxInt)
}
