package failpoint

// Names are all steps. Those between what lies further down end in what has been done
// there; "save" and "record" are before it.
var Names = []string{
	// What is wanted, and how far it has come, in the agent's database.
	"launch.record", "launch.recorded",
	"wish.record", "wish.recorded",
	"status.save", "status.saved",
	"forget.record", "forget.recorded",

	// A supervisor's actions, each before its outcome is on record.
	"start.resolved", "start.created", "start.started",
	"promote.done", "stop.signalled", "kill.signalled",
	"delete.done",
	"inspect.found",

	// A workload's move to other versions of its secrets.
	"rollout.stepped", "rotation.begun", "rotation.deliver", "rotation.delivered", "rotation.restored",
	"rotation.committed", "rotation.withdrawn",

	// The parts of a container.
	"create.claimed", "create.recorded", "create.rooted",
	"create.files", "create.streams", "create.task", "create.undo",
	"run.started",
	"delete.task", "delete.streams", "delete.root", "delete.files", "delete.record",

	// A network namespace, from before it is connected until it is gone.
	"network.recorded", "network.pinned", "network.added", "network.connected",
	"network.claimed", "network.deleted", "network.unpinned",

	// The complete specification on its way to the OCI runtime.
	"handover.redeemed", "handover.served",

	// The log helper.
	"output.files", "output.opened",
	"output.take", "output.taken", "output.storing", "output.written", "output.committed",
	"output.rotated", "output.removed",

	// The secret store, and the audit trail.
	"secret.sealed", "secret.committed", "secret.checkpointed",
	"audit.append", "audit.appended", "audit.synced", "audit.sealed",

	// Images.
	"pull.leased", "pull.fetched", "pull.released",
}
