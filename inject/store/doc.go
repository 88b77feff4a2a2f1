// Package store is the embedded secret store: named bundles of key/value pairs in
// immutable, numbered versions, sealed with age to the node's identity.
//
//	keys, err := keyring.Open("/var/lib/purser/identity.age")
//	secrets, err := store.Open("/var/lib/purser/secrets", keys, store.Options{})
//	defer secrets.Close()
//	put, err := secrets.Put(ctx, "dev", "openai-secret", store.PutOptions{Data: data})
//	secret, err := secrets.Get(ctx, "dev", "openai-secret", 0) // 0: the newest
//
// # On disk
//
//	_manifest.json                  what existed at one time, authenticated
//	_journal-42                     what has changed since, a line each; the manifest has sequence 42
//	<environment>/<name>/3.age      one version; age -d -i identity.age 3.age shows it
//
// A version is JSON that names its environment, secret and version, so that a file
// under another's name is noticed. The manifest lists every version with the hash of
// its file; its first line is a MAC under a key derived from the identity. That is
// what makes a version authentic: age alone does not tell who sealed a file, and
// everybody may know the recipient. A line of the journal begins with a MAC of itself and of
// the MAC before it, which is the manifest's for the first.
//
// A version that is missing, swapped or changed gives a [DamageError] where it is
// read, and spoils nothing else. A manifest or journal that is damaged, or older than the
// files beside it, fails [Open]. A whole directory put back to an earlier state is
// consistent in itself: against that the caller keeps [Store.Sequence] elsewhere and
// passes it as [Options].MinSequence.
//
// # Crashes
//
// A write first makes the version's file, unless many follow each other ([Options].Apart),
// then the line of the journal that knows it and has a copy of it; to sync that line is what
// makes the change durable. A removal goes the other way round. So at every moment manifest
// and journal on disk describe files that are there or can be made, and what a crash leaves
// besides them is removed by the next [Open].
//
// A checkpoint (checkpoint.go) syncs the files, and has a manifest take the place of the one
// before and of its journal: when the journal has grown, at [Open] and [Store.Close], after
// versions were destroyed, and in place of a line that could not be synced. Until then what is
// wrong with a file is no matter: the journal has it. One process at a time has the store open.
//
// # Owners
//
// A secret belongs to where its versions come from: a source by its name, or the API. Nobody
// else may change it until it is deleted ([OwnerError]). One that another source has, too,
// is contested: its newest version is a [ConflictError] until that is settled.
//
// # Deleting
//
// Version numbers are never used again. Deleting a secret keeps the versions that
// workloads are pinned to, marked as deleted: Get finds them by number alone. The
// store does not know who is pinned to what; its callers say.
package store
