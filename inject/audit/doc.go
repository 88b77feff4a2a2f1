// Package audit is the node's audit trail: who changed a secret, who was given
// which keys of which version, what was run where, and what was refused. It never
// holds a value.
//
//	log, err := audit.Open("/var/lib/purser/audit", keys, db, audit.Options{})
//	defer log.Close()
//	seq, err := log.Commit(audit.Record{Action: audit.Set, Outcome: audit.Begun, …}) // on disk, and sealed
//	_, err = log.Note(audit.Record{Action: audit.Set, Outcome: audit.Done, Of: seq, …}) // without waiting
//	report, err := log.Verify(ctx)
//
// # On disk
//
// The trail is JSON lines, in files named by the number of their first record:
//
//	audit-000000000001.jsonl
//	{"seq":1,"time":…,"action":"set",…,"prev":"MAC of record 0","mac":"…"}
//
// mac is an HMAC-SHA256, under a key derived from the node's identity, of the bytes
// of the line before it. The MAC of the record before is among them (prev), so that
// each record is authentic by itself and tells which one it follows. The newest record
// and the oldest that is kept are sealed in the head, which the caller keeps elsewhere
// (see [Heads]): it shows what was cut off at either end. Rotation carries the chain
// on in another file; files beyond the limit are removed once the head no longer has
// them.
//
// Who has the node's identity can write a trail anew. Against that, ship the lines
// off the node.
//
// # Durability and crashes
//
// Records go through a queue, whose one reader writes them in their order. [Log.Note]
// puts a record there and does not wait for the disk, which may not respond for
// long; beyond a limit such records are lost, and counted. [Log.Append] waits for the
// write(2). The file is synced and the head sealed within [Options].Interval after it,
// in the background; [Log.Commit] waits for both.
// A record is always in the file before the head has it, so that a crash can leave
// records behind the head, and never a head without its record. [Open] goes on after
// the last authentic record. Bytes behind that and behind the head are what a crash
// or a full disk has torn: they are cut off, with a note. What the head has and the
// files have not is damage: it is left as it is for [Log.Verify] to name, and the trail
// goes on in a new file.
//
// A failed sync leaves it unknown what is on disk, and no later one tells. So the head
// is never sealed at a record of a file that could not be synced: the trail goes on in
// a new file, whose first record ([Unsynced]) names those that may be missing.
//
// Each Open is a record, with what was found. Records that could not be written
// are counted in a record of their own ([Lost]) as soon as that can be written.
package audit
