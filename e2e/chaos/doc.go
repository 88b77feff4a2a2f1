// Package chaos proves that nothing which dies at the wrong moment makes the node
// lose, double or leak anything.
//
//	go test ./e2e/chaos                                     what CI runs
//	go test ./e2e/chaos -run TestChaos -chaos.for 10m -chaos.seed 7 -timeout 0
//
// A driver (driver_test.go) makes calls of the API at random, and meanwhile kills the agent, the
// log helper, shims, payloads and containerd, at random moments or, by means of package
// failpoint, at a named step. All that it decides comes from a seed and is printed
// before it is done, so that a run can be had again; only its timing differs.
//
// After each round it lets the node come to rest, and a model (model_test.go) says what must be true then.
// It knows nothing of the agent's code: what is wanted it knows from the calls that
// were answered (one that was not may have had its effect or not), and what is from the
// kernel's processes, containerd, and from what the payloads themselves have written to
// a directory of truth: when they began, and how they end (payload_test.go).
//
// Secrets are rotated meanwhile, to good versions and to bad ones, that are held and
// released (secret_test.go). TestRotationThroughDeath (rotation_test.go) has the agent alone
// die, at each step of a rotation: then it is known how often each workload is replaced.
//
// To add a call or a way to die, add a line to operations or faults in
// driver_test.go, and say in the model what it may change.
package chaos
