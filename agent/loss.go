package agent

import (
	"fmt"
	"path/filepath"
	"strings"
)

// reportLoss tells, once, what was lost with the database, and where it is.
func (a *Agent) reportLoss() {
	if a.lossReported {
		return
	}
	a.lossReported = true
	loss := a.db.Loss()
	a.imageUse.forgotten()
	what := fmt.Sprintf("the database %s is not there, and an empty one was made", filepath.Join(a.cfg.StateDir, "state.db"))
	if loss.Aside != "" {
		what = fmt.Sprintf("the database was damaged (%v) and is put aside as %s; an empty one was made", loss.Damage, loss.Aside)
	}
	a.stateLost("%s: workloads are taken over from their containers; those without one are lost, "+
		"as are the histories of apps, how often workloads were restarted, and when images were used last; "+
		"the audit trail goes on under a new head, and an older copy of the secrets in their place would not have been noticed this time", what)
}

// stateLost counts and tells of a loss.
func (a *Agent) stateLost(format string, args ...any) {
	a.metrics.StateLost()
	a.emit(warning, "StateLost", "", "", format, args...)
}

// reportLosses tells what was lost by the time the database was opened. That one
// was made means nothing on a node that is new.
func (a *Agent) reportLosses() {
	loss := a.db.Loss()
	if loss.Aside != "" || loss.Made && len(a.secrets.List("")) > 0 {
		a.reportLoss()
	}
	if len(loss.Records) > 0 {
		a.stateLost("records of the database were damaged and are put aside within it: %s; all others are there", strings.Join(loss.Records, ", "))
	}
}
