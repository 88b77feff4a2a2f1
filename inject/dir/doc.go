// Package dir has secrets that other tools write as files into a directory:
//
//	secrets := dir.New(dir.Options{Path: "/run/secrets", Environment: "prod"})
//	content, err := secrets.Get(ctx, source.Name{Environment: "prod", Secret: "db"}, "")
//
// # What is a secret
//
// Each entry of the directory is one:
//
//	db/               a directory: a key for each file, of the file's name
//	db.env            K=V lines
//	db.json, db.yaml  (.yml) a mapping of strings
//	db-password       any other file: one key of the file's name, and the file's bytes as
//	                  its value
//
// A name becomes a key with _ for what a key cannot have (tls.crt is tls_crt), unless
// [Options].Rename gives it another (see keys.go).
//
// With [Options].Secret the directory itself is one secret, a file a key. With [Options].Environment
// "*" each directory in it is an environment with entries as above.
//
// Symbolic links are followed, wherever they lead. Where a directory has a link ..data, as
// volumes of Kubernetes and of CSI drivers have, the files are those of where it leads.
// What begins with a dot, and what editors and package managers leave beside a file, is
// left alone.
//
// # Nothing half written
//
// A secret is read when its files have been as they are for a moment (see settle in
// read.go), are not open for writing as far as the file system tells, and are the same
// before and after they are read. A directory with ..data, which changes at one moment, is
// not waited for. Of a secret that is one file it is the opened file that has to have been
// left alone: when others take its place all the time, the last one is taken that was,
// after a second at most. What is written in place all the time is not taken.
//
// # Nothing taken for gone
//
// A secret is absent when its directory can be read and has nothing of its name. An empty
// directory on another mount than the secrets were on (see homes.go) says nothing of them.
//
// # Nothing missed
//
// [Dir.Watch] has inotify watch the directory and all in it that matters, also where links
// lead, and the nearest directory that is there while it is missing. It tells to look at
// all when the kernel's queue has overflowed. On a file system that others write to over a
// network, and where there are no watches to be had, it says every ten seconds that
// anything may have changed: to look costs a stat for each file.
package dir
