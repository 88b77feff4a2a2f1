// Package failpoint has purser die, fail or hang at a named step, for the tests that
// prove that it may (e2e/chaos).
//
// A step between two lasting effects names itself, and one that can fail takes the
// error it is given:
//
//	failpoint.Here("create.claimed")
//	if err := failpoint.Error("create.recorded"); err != nil {
//
// In every build but those with the tag failpoints both are empty functions, which
// the compiler leaves out with their arguments.
//
// With the tag, the variable PURSER_FAILPOINTS names a directory. A file in it that is
// called as a step says what happens there, and when: the words kill, error or hang,
// and after how many passings, 1 when it says nothing. It happens once, in one of all the
// processes that share the directory: the file is renamed to NAME.hit before.
package failpoint

// Variable is the environment variable that names the directory.
const Variable = "PURSER_FAILPOINTS"

// Hit is what the name of a step's file ends with once what it says has happened.
const Hit = ".hit"
