package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
)

// object is one record of an index.
type object struct {
	id    string
	raw   json.RawMessage
	terms map[string]int // how often each term stands in it
	size  int            // number of terms
}

// parseObject takes any JSON object with an objectID; all its strings are searchable.
func parseObject(raw json.RawMessage) (object, error) {
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		return object{}, err
	}
	id, _ := fields["objectID"].(string)
	if id == "" {
		return object{}, errors.New("objectID is missing")
	}
	o := object{id: id, raw: slices.Clone(raw), terms: map[string]int{}}
	for name, value := range fields {
		if text, ok := value.(string); ok && name != "objectID" {
			for _, term := range terms(text) {
				o.terms[term]++
				o.size++
			}
		}
	}
	return o, nil
}

// index is never changed once others can see it.
type index []object

// with returns the index with o added, or in place of the object with its ID.
func (x index) with(o object) index {
	next := slices.DeleteFunc(slices.Clone(x), func(other object) bool { return other.id == o.id })
	return append(next, o)
}

// rank returns the objects that hold a term of the query, best first. Scores
// are BM25 with the usual constants; equals are ordered by ID.
func (x index) rank(query string) []object {
	wanted := distinct(terms(query))
	type scored struct {
		object
		score float64
	}
	var found []scored
	weight := x.weights(wanted)
	average := x.averageSize()
	for _, o := range x {
		if score := o.score(wanted, weight, average); score > 0 {
			found = append(found, scored{o, score})
		}
	}
	slices.SortFunc(found, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), strings.Compare(a.id, b.id))
	})
	ranked := make([]object, len(found))
	for i, f := range found {
		ranked[i] = f.object
	}
	return ranked
}

// score sums over the terms in a fixed order, so that it comes out the same every time.
func (o object) score(wanted []string, weight map[string]float64, average float64) float64 {
	const k, b = 1.2, 0.75
	sum := 0.0
	for _, term := range wanted {
		n := float64(o.terms[term])
		sum += weight[term] * n * (k + 1) / (n + k*(1-b+b*float64(o.size)/average))
	}
	return sum
}

// weights gives each term the more the rarer it is.
func (x index) weights(wanted []string) map[string]float64 {
	weight := map[string]float64{}
	for _, term := range wanted {
		n := 0.0
		for _, o := range x {
			if o.terms[term] > 0 {
				n++
			}
		}
		weight[term] = math.Log(1 + (float64(len(x))-n+0.5)/(n+0.5))
	}
	return weight
}

func (x index) averageSize() float64 {
	total := 0
	for _, o := range x {
		total += o.size
	}
	return max(1, float64(total)/float64(max(1, len(x))))
}

// indexes are all indexes by name.
type indexes struct {
	mu     sync.Mutex
	byName map[string]index
	tasks  int64 // how many changes there were; the number of the last one
}

func (i *indexes) get(name string) index {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.byName[name]
}

func (i *indexes) has(name string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, ok := i.byName[name]
	return ok
}

// put puts the index in force and returns the number of the change.
func (i *indexes) put(name string, x index) int64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.byName == nil {
		i.byName = map[string]index{}
	}
	i.byName[name] = x
	i.tasks++
	return i.tasks
}

func (i *indexes) hadTask(id int64) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return id >= 1 && id <= i.tasks
}
