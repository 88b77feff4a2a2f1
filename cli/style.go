package cli

// style is how text looks, as the number of a terminal's colour or weight.
type style string

const (
	plainText style = ""
	dim       style = "2"
	red       style = "31"
	green     style = "32"
	yellow    style = "33"
)

// functionStyles tell functions apart: colours that mean nothing else.
var functionStyles = []style{"36", "35", "34", "96", "95", "94"}

// stateStyle is that of a workload's state.
func stateStyle(state string) style {
	switch state {
	case "running", "ready":
		return green
	case "backing_off", "failed":
		return red
	case "stopped", "completed":
		return dim
	default:
		return yellow // on the way somewhere
	}
}

// severityStyle is that of an event's severity.
func severityStyle(severity string) style {
	if severity == "warning" {
		return yellow
	}
	return plainText
}

// paint gives text a style where that is understood.
func (s screen) paint(text string, in style) string {
	if !s.colour || in == plainText || text == "" {
		return text
	}
	return "\x1b[" + string(in) + "m" + text + "\x1b[0m"
}
