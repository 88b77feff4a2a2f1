// Package capacity decides whether a node has room for what workloads ask for.
//
// What a workload asks for ([Of]) are the limits in its spec's resources; one without
// a limit asks for nothing of that resource and runs with what is left, as Kubernetes'
// best effort does. What a node can promise ([Node.Allocatable]) is what it has, less
// a reserve for itself, times a factor: memory and process IDs that are used up end
// processes, so their factor is 1 unless the configuration says otherwise, while CPU
// time that is short only makes all of them slower.
//
// [Node.Fits] is the decision, a pure function of the node, of what has been promised
// and of what is to be added. [Found] looks at the node. Nothing here remembers
// anything: what has been promised is what the workloads ask for that are to run.
package capacity

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Resource is what a workload can ask for.
type Resource int

// The resources.
const (
	CPU Resource = iota
	Memory
	Pids
	resources // how many there are
)

// Resources are all of them, in the order in which they are told.
var Resources = []Resource{CPU, Memory, Pids}

// Names are those of the resources, as specs have them.
var Names = [resources]string{"cpu", "memory", "pids"}

func (r Resource) String() string { return Names[r] }

// Amounts are so much of each: thousandths of a core, so that sums are exact; bytes;
// processes and threads.
type Amounts [resources]int64

// Factors multiply amounts.
type Factors [resources]float64

// Of is what a spec asks for. The limit of processes that a spec without one gets is
// no request.
func Of(spec *purserv1.LaunchSpec) Amounts {
	cores, _ := launchspec.CPU(spec)
	memory, _ := launchspec.Memory(spec)
	return Amounts{CPU: Millicores(cores), Memory: memory, Pids: int64(spec.GetResources().GetPids())}
}

// Millicores is a number of cores in thousandths, rounded up.
func Millicores(cores float64) int64 { return int64(math.Ceil(cores*1000 - 1e-6)) }

// Plus is a sum.
func (a Amounts) Plus(b Amounts) Amounts {
	for r := range b {
		a[r] += b[r]
	}
	return a
}

// Minus is a difference.
func (a Amounts) Minus(b Amounts) Amounts {
	for r := range b {
		a[r] -= b[r]
	}
	return a
}

// Grows says whether there is more of any resource than nothing.
func (a Amounts) Grows() bool { return slices.Max(a[:]) > 0 }

// Node is what a node has and how much of it workloads may be promised.
type Node struct {
	Total, Reserve Amounts
	Overcommit     Factors
}

// Allocatable is what workloads may ask for in all.
func (n Node) Allocatable() Amounts {
	var all Amounts
	for r := range all {
		all[r] = int64(float64(max(0, n.Total[r]-n.Reserve[r])) * n.Overcommit[r])
	}
	return all
}

// Use is what one workload asks for.
type Use struct {
	// Name of the workload, for people.
	Name string
	Amounts
}

// Sum is what workloads ask for together.
func Sum(uses []Use) Amounts {
	var sum Amounts
	for _, u := range uses {
		sum = sum.Plus(u.Amounts)
	}
	return sum
}

// Fits says whether a node that has promised so much to others can promise what asked
// for, which is more than the same workloads had by added. Of a resource of which no
// more is asked for than before, nobody is refused anything, however little there is:
// what has been accepted stays so. It returns a [*Shortage] when there is no room.
func (n Node) Fits(others, asked []Use, added Amounts) error {
	allocatable, taken, wanted := n.Allocatable(), Sum(others), Sum(asked)
	s := &Shortage{}
	for _, r := range Resources {
		if free := allocatable[r] - taken[r]; added[r] > 0 && wanted[r] > free {
			s.Lacks = append(s.Lacks, Lack{
				Resource: r, Asked: wanted[r], Free: free, Node: n, Taken: taken[r],
				By: biggest(asked, r), Users: biggest(others, r),
			})
		}
	}
	if len(s.Lacks) == 0 {
		return nil
	}
	return s
}

// Shortage is why there is no room.
type Shortage struct{ Lacks []Lack }

// Lack is a resource of which there is not enough.
type Lack struct {
	Resource           Resource
	Asked, Free, Taken int64
	Node               Node
	// By are those who ask for it, Users those who have it, the biggest first.
	By, Users []Use
}

func (s *Shortage) Error() string {
	var lines []string
	for _, l := range s.Lacks {
		lines = append(lines, l.String())
	}
	return strings.Join(lines, "; ")
}

// named is how many workloads a text names at most.
const named = 3

// biggest are the workloads that ask for most of a resource.
func biggest(uses []Use, r Resource) []Use {
	some := slices.DeleteFunc(slices.Clone(uses), func(u Use) bool { return u.Amounts[r] == 0 })
	slices.SortStableFunc(some, func(a, b Use) int {
		return cmp.Or(cmp.Compare(b.Amounts[r], a.Amounts[r]), cmp.Compare(a.Name, b.Name))
	})
	return some
}

// String says what is asked for, what is free, and what that is made up of.
func (l Lack) String() string {
	r := l.Resource
	text := fmt.Sprintf("%s: %s asked for%s, %s free of %s (%s less a reserve of %s, times %g)",
		r, text(r, l.Asked, math.Ceil), l.askedBy(), Text(r, l.Free), Text(r, l.Node.Allocatable()[r]),
		Text(r, l.Node.Total[r]), Text(r, l.Node.Reserve[r]), l.Node.Overcommit[r])
	if len(l.Users) > 0 {
		text += fmt.Sprintf("; %s taken, most of it by %s", Text(r, l.Taken), names(l.Users, r))
	}
	return text
}

// askedBy tells several who ask apart.
func (l Lack) askedBy() string {
	if len(l.By) < 2 {
		return ""
	}
	return " by " + names(l.By, l.Resource)
}

func names(uses []Use, r Resource) string {
	var parts []string
	for _, u := range uses[:min(named, len(uses))] {
		parts = append(parts, fmt.Sprintf("%s (%s)", u.Name, Text(r, u.Amounts[r])))
	}
	if more := len(uses) - named; more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(parts, ", ")
}

// Text is an amount as specs have it: 1.5, 256Mi, 512. It is not more than there is.
func Text(r Resource, n int64) string { return text(r, n, math.Floor) }

// text rounds to what it shows. What is asked for is rounded up, so that it never looks
// like what is free and is less.
func text(r Resource, n int64, round func(float64) float64) string {
	switch r {
	case CPU:
		return fmt.Sprintf("%g", float64(n)/1000)
	case Memory:
		return bytesText(n, round)
	}
	return fmt.Sprint(n)
}

// bytesText is a size in the largest unit of which there is one at least, to a tenth.
func bytesText(n int64, round func(float64) float64) string {
	sign, left := "", n
	if n < 0 {
		sign, left = "-", -n
	}
	units := []string{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}
	unit := int64(1)
	for len(units) > 1 && left/unit >= 1024 {
		unit, units = unit*1024, units[1:]
	}
	return fmt.Sprintf("%s%g%s", sign, round(float64(left)/float64(unit)*10)/10, units[0])
}
