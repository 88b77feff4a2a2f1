#!/bin/sh
# isolate.sh CGROUP COMMAND [ARGUMENT…]
#
# Runs a command as if the machine were its own: the cgroup is the root of every
# hierarchy, /run is empty, and processes and mounts end with the command.
set -eu

# Lines of: mount point, type, options that make it what it is.
hierarchies() {
	awk '$5 ~ "^/sys/fs/cgroup" { split($0, half, " - "); split(half[2], f, " "); sub("^rw,?", "", f[3]); print $5, f[1], f[3] }' \
		/proc/self/mountinfo | grep ' cgroup2\? '
}

if [ "$1" != --inside ]; then
	cgroup=$1
	shift
	hierarchies | while read -r point _; do echo $$ >"$point/$cgroup/cgroup.procs"; done
	exec unshare --cgroup --mount sh "$0" --inside "$@"
fi

shift
all=$(hierarchies)
umount --recursive --lazy /sys/fs/cgroup
mount -t tmpfs tmpfs /run
case $all in
*" cgroup "*)
	# Version 2 beside version 1 is left out: crun 1.8 refuses the two together.
	mount -t tmpfs tmpfs /sys/fs/cgroup
	echo "$all" | grep ' cgroup ' | while read -r point _ options; do
		mkdir "$point"
		mount -t cgroup -o "$options" cgroup "$point"
	done
	;;
*)
	# A cgroup of version 2 with processes in it has no others with controllers below.
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mkdir /sys/fs/cgroup/self
	echo $$ >/sys/fs/cgroup/self/cgroup.procs
	;;
esac
# The shell stays, as process 1, to reap what the command leaves to it.
exec unshare --pid --fork --kill-child --mount-proc sh -c '"$@"; exit $?' sh "$@"
