// Package logs keeps what containers write, a file for each container.
//
// A file holds records in the format of Kubernetes' CRI, so that collectors
// made for it can read them:
//
//	2016-10-06T00:17:09.669794202Z stdout F a whole line
//	2016-10-06T00:17:09.669794202Z stdout P the start of one that goes on
//
// F says that a newline followed, P that none did; nothing is added or taken
// away otherwise, so that what [Store.Read] returns is byte for byte what was
// written. A piece is a record as soon as it is read from the container: a
// prompt shows before its answer.
//
// A [Writer] belongs to one container and to one process. Readers need no
// writer, and those that follow end when it is closed.
package logs
