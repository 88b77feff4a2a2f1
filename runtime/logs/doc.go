// Package logs keeps what containers write: for each container a directory, and in
// it segments, numbered from 1, of which the oldest go when there are too many.
//
// A segment holds records in the format of Kubernetes' CRI, so that collectors
// made for it can read them:
//
//	2016-10-06T00:17:09.669794202Z stdout F a whole line
//	2016-10-06T00:17:09.669794202Z stdout P the start of one that goes on
//
// F says that a newline followed, P that none did; nothing is added or taken
// away otherwise, so that what [Store.Read] returns is byte for byte what was
// written. A piece is a record as soon as it is read from the container: a
// prompt shows before its answer. Where output could not be kept, a line in
// brackets says how much was lost and why.
//
// A [Writer] belongs to one container. It is in another process than the readers
// (see package loghelper), which need nothing but the directory: a log goes on for
// as long as its newest segment may be written, and has ended once that is
// read-only. So a log can be read, and be followed to its end, whatever has become
// of who wrote it.
package logs
