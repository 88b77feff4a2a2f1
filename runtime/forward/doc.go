// Package forward serves the ports of the node that lead to containers, in a process
// that outlives the agent: one for the node, the same executable as the agent's.
package forward
