package store_test

import (
	"testing"

	"github.com/purserd/purser/inject/source"
	"github.com/purserd/purser/inject/source/sourcetest"
	"github.com/purserd/purser/inject/store"
)

func TestSourceConformance(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Place {
		s := newPlace(t).open(t)
		return sourcetest.Place{
			Source: s.Source(), Environment: "dev",
			Set: func(t testing.TB, name source.Name, data map[string]string) {
				var pairs []string
				for key, value := range data {
					pairs = append(pairs, key+"="+value)
				}
				_, err := s.Put(t.Context(), name.Environment, name.Secret, store.PutOptions{Data: values(pairs...), Replace: true})
				if err != nil {
					t.Error(err)
				}
			},
			Remove: func(t testing.TB, name source.Name) {
				if _, err := s.Delete(name.Environment, name.Secret, nil, false); err != nil {
					t.Error(err)
				}
			},
		}
	})
}
