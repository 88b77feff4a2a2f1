// Package redact replaces the values of secrets in a workload's output, before a byte
// of it reaches a file or a client:
//
//	m := redact.Compile([]redact.Value{{Secret: "db", Key: "PASSWORD", Reveal: v.Reveal}})
//	s := m.Stream() // one for each of stdout and stderr
//	out = s.Append(out[:0], chunk)
//	out = s.Flush(out[:0]) // when nothing came for a while
//	out = s.Close(out[:0]) // at the end
//
// A [Matcher] is shared by the streams of a workload. Where an occurrence of a value
// was, the output has [secret:db/PASSWORD], however the stream is cut into chunks.
//
// # What is found
//
// Values of 6 bytes and more, as they are and as a whole in these encodings. Where
// encoders differ, all their forms:
//
//   - base64, standard and URL alphabet, padded or not, also within something longer
//     that was encoded, such as USER:PASSWORD. Every character is replaced that holds a
//     bit of the value, and with it up to 4 bits of what stands next to it.
//   - percent-encoding with upper or lower hexadecimal digits, with + for a space, and
//     with the characters left alone that Go, Python, JavaScript and HTML forms leave
//   - strings of JSON, of Go (with HTML escapes or without), JavaScript, Python and
//     PHP, with upper or lower hexadecimal digits
//   - hexadecimal, upper and lower
//
// Line ends at the end of a value are left where they are when it is written plain;
// encodings are found with and without them. A value of several lines is found with
// line ends of \n and \r\n.
//
// Each line of such a value that has 6 bytes or more without the space around it
// is looked for like a value, but for those of one repeated character. Within longer
// base64, up to 4 bits of a line's first and last bytes remain. Lines of a value that
// is not UTF-8 are looked for as they are alone.
//
// To save memory, a value of more than 16 KiB is not looked for percent-encoded, nor
// in JSON when it is not UTF-8, nor its lines in base64 and hexadecimal.
//
// Forms longer than 256 bytes are cut into pieces of 256, of which the last two
// overlap. Each piece is found also by itself, so that a part of a file is hidden but
// for its ends; the label of pieces that follow each other is written once. That
// bounds what a stream holds back and what it compares at each place.
//
// # What is written
//
// Every byte is replaced that is in an occurrence of any of these texts, called
// needles. Occurrences that share a byte are one run with one label: that of its
// longest needle, and of those the one that sorts first. Runs that follow each other
// have a label each, but for those pieces.
//
// A stream holds back the longest end of its input that is the beginning of a needle,
// which is less than 256 bytes, and nothing else. The label of a run is written once
// no more can overlap it, so that of an endless one nothing is held.
//
// [Stream.Flush] writes what is held: the label of a run, and what is in none as it is
// when less than 6 bytes are held, else as [partial], which is not repeated. The
// stream goes on as if it still held all that. When the rest of a value follows, that
// is not shown; a label is written there unless one stands directly before. Of the
// beginning that became [partial] nothing is shown if something else follows. Line
// ends stay: they tell nothing, and the next message is not in the same line.
// However often a stream is flushed, not more than the first 5 bytes of any
// occurrence show. [Stream.Close] does the same and forgets.
//
// # What is not found
//
// Redaction prevents accidents, not theft. It does not find values that are
// compressed or encrypted, in other encodings (quoted-printable, base32, Go's %q
// beyond what is as in JSON, HTML entities, a shell's quotes) or in two, one after the
// other; broken into lines by an encoder (base64 without -w0) or a terminal; in other
// case, or changed in any way; split between two streams, or with something else
// written in between; parts of a value, but for whole lines and pieces; and values of less
// than 6 bytes. Where a value is found in other text by chance, that is replaced
// too.
//
// # Cost
//
// A needle is looked for by its first 6 to 8 bytes, with a table that says of each 3
// bytes of input how many can be skipped. With the values of 100 API keys, which make
// 5000 needles, that reads 600 MB of usual log text a second and 200 MB of nothing but
// beginnings of the keys. An automaton for all needles would fall out of the cache.
// Slowest is text of a short pattern that is a value too, because an occurrence is
// compared at each place: 30 MB a second, and 5 MB when a hundred values differ only in
// how often they repeat it.
//
// A Matcher takes 72 KiB, and 5 KiB for a key of 40 bytes; for text of up to 16 KiB 50
// times its size, for other bytes 120 times, and beyond 16 KiB 20 times. It holds
// values in plain, as it must. Compiling a value of 1 MiB takes about a second, 100 keys
// some 10 milliseconds.
package redact
