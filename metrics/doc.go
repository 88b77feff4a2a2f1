// Package metrics is what SREs see of a node: a Prometheus registry with the
// agent's own counts and, collected when it is scraped, the state of its
// workloads and secrets.
//
// Names begin with purser_ and pass `promtool check metrics`; docs/operations.md
// lists them. Vectors whose labels take values from a closed set are there
// with zero from the start, so that a rate over them has no gap. Labels never
// take unbounded values: a workload is known by app, function and environment,
// and workloads that share them are added up.
package metrics
