#!/usr/bin/env bash
# A tour of purser on this machine, in less than a minute: a node of its own, two
# environments with their own secrets, one app deployed to both, and a key that is rotated,
# for the better and the worse. `make demo` runs it.
#
#   examples/demo.sh           the tour; leaves nothing behind but Go's build cache
#   examples/demo.sh --stay    the same, then keep the node until Ctrl-C
#
# Needs root, as containers do, and Go. Debian's containerd and runc are
# installed when they are missing.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

stay=false
case ${1-} in
"") ;;
--stay) stay=true ;;
*)
	echo "usage: examples/demo.sh [--stay]" >&2
	exit 2
	;;
esac

# --- telling ---------------------------------------------------------------------

bold='' dim='' green='' red='' plain=''
if [[ -t 1 && -z ${NO_COLOR-} && ${TERM-} != dumb ]]; then
	bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

step() { printf '\n%s==> %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s    %s%s\n' "$dim" "$*" "$plain"; }
good() { printf '%s  ✓ %s%s\n' "$green" "$*" "$plain"; }
die() {
	printf '%sdemo: %s%s\n' "$red" "$1" "$plain" >&2
	shift
	local line
	for line in "$@"; do printf '  %s\n' "$line" >&2; done
	exit 1
}

# show prints a command as the reader would type it, then runs it.
show() {
	local word line=''
	for word in "${@/#bin\/purser/purser}"; do
		[[ $word != *' '* ]] || word="'$word'"
		line+=" $word"
	done
	note "\$$line"
	"$@" | indent
}
indent() { sed 's/^/    /'; }

# --- leaving nothing behind ------------------------------------------------------

work='' node_pid='' apis_pid=''

# end PID SECONDS: asks the process to end, and insists after so many seconds.
end() {
	local pid=$1 tries=$(($2 * 10))
	kill -TERM "$pid" 2>/dev/null || return 0
	while kill -0 "$pid" 2>/dev/null && ((tries-- > 0)); do sleep 0.1; done
	if kill -0 "$pid" 2>/dev/null; then
		echo "demo: process $pid did not end; killing it" >&2
		kill -KILL "$pid" 2>/dev/null || true
	fi
	wait "$pid" 2>/dev/null || true
}

# tell_logs shows the end of what is gone in a moment.
# shellcheck disable=SC2317 # called by the trap
tell_logs() {
	local log
	for log in "$work"/{node.log,node/log/agent.log,node/log/containerd.log}; do
		[[ -s $log ]] || continue
		echo "demo: the last lines of ${log#"$work"/}:"
		tail -n 15 "$log" | indent
	done
}

# shellcheck disable=SC2317 # called by the trap
clean_up() {
	local status=$?
	trap '' INT TERM HUP # a second Ctrl-C must not leave half of it standing
	# Above 128 the user ended it: nothing to explain.
	if ((status != 0 && status < 128)); then
		tell_logs >&2
	fi
	[[ -z $node_pid ]] || end "$node_pid" 60
	[[ -z $apis_pid ]] || end "$apis_pid" 5
	# --one-file-system: if the node failed to unmount something, it is not emptied.
	[[ -z $work ]] || rm -rf --one-file-system -- "$work"
	exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# await FILE PID SECONDS: waits for the process to print a line "ready: …" to
# FILE, and prints what follows the colon.
await() {
	local file=$1 pid=$2 tries=$(($3 * 10)) line
	while ((tries-- > 0)); do
		if line=$(grep -m 1 '^ready: ' "$file" 2>/dev/null); then
			echo "${line#ready: }"
			return
		fi
		kill -0 "$pid" 2>/dev/null || return 1
		sleep 0.1
	done
	return 1
}

# --- what it needs ---------------------------------------------------------------

# What su's and sudo's PATH may lack: runc's place in Debian, and the one that
# go.dev's archives are unpacked to.
export PATH=$PATH:/usr/sbin:/sbin:/usr/local/go/bin

check_machine() {
	[[ $(uname -s) == Linux ]] || die "purser runs on Linux; this is $(uname -s)"
	((EUID == 0)) || die "containers need root" "try: sudo make demo"
}

check_go() {
	local need
	need=$(sed -n 's/^go //p' go.mod)
	command -v go >/dev/null || die "Go is missing; version $need or later is needed" \
		"get it from https://go.dev/dl/ and unpack it into /usr/local"
	local said
	said=$(go list -m 2>&1) || die "this Go cannot build purser, which needs version $need or later" \
		"$said" "get it from https://go.dev/dl/ and unpack it into /usr/local"
}

install_missing() {
	local missing=() program
	for program in containerd runc make; do
		command -v "$program" >/dev/null || missing+=("$program")
	done
	((${#missing[@]})) || return 0
	command -v apt-get >/dev/null || die "missing: ${missing[*]}" "install them with this system's package manager"
	step "Installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	{
		apt-get install -y -q --no-install-recommends "${missing[@]}" ||
			{ apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; }
	} >"$work/apt.log" 2>&1 || die "apt-get could not install them:" "$(tail -n 10 "$work/apt.log")"
	good "installed"
}

# --- the tour --------------------------------------------------------------------

build() {
	step "Building"
	make -s build || die "the build failed; see above"
	mkdir "$work/bin"
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$work/bin/rag" ./examples/rag-qna/rag
	CGO_ENABLED=0 go build -trimpath -o "$work/bin/" ./examples/rag-qna/fakeapis ./examples/image
	good "bin/purser, and the demo's function, its two APIs and an image builder"
}

start_node() {
	step "Starting a node of its own: purser dev"
	# setsid: Ctrl-C must reach this script alone, which then ends them in order.
	setsid bin/purser dev --dir "$work/node" >"$work/node.out" 2>"$work/node.log" </dev/null &
	node_pid=$!
	local ready
	ready=$(await "$work/node.out" "$node_pid" 60) || die "the node did not start"
	# "export PURSER_HOST=unix://…"
	export PURSER_HOST=${ready#export PURSER_HOST=}
	good "it serves $PURSER_HOST"
}

import_image() {
	step "Building an image, without a registry, and importing it"
	"$work/bin/image" -o "$work/rag.oci" -ref localhost/rag:1.4 \
		-cmd rag -cmd serve -env PATH=/app -env OPENAI_MODEL=extractive-1 \
		"$work/bin/rag:/app/rag" >/dev/null
	bin/purser image import "$work/rag.oci" >/dev/null
	show bin/purser image list
}

# Made up at each run. They live in this shell, the secret store and the APIs;
# they reach both by pipe: no argument and no file ever holds one.
declare -A openai algolia

make_keys() {
	openai[next]=sk-prod-$(random) # prod's, once it is rotated
	local environment
	for environment in dev prod; do
		openai[$environment]=sk-$environment-$(random)
		algolia[$environment]=$(random)
	done
}
random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# fingerprint is how the APIs' log names the key on stdin.
fingerprint() { sha256sum | cut -c 1-8; }

start_apis() {
	step "Serving the two APIs that the function calls, on loopback"
	setsid "$work/bin/fakeapis" >"$work/apis.out" 2>"$work/apis.log" < <(
		local environment
		for environment in dev prod; do
			printf '{"environment": "%s", "openai_key": "%s", "algolia_key": "%s", "indexes": ["potus_speeches_%s"]}\n' \
				"$environment" "${openai[$environment]}" "${algolia[$environment]}" "$environment"
		done
		printf '{"environment": "prod", "openai_key": "%s", "algolia_key": "%s", "indexes": ["potus_speeches_prod"]}\n' \
			"${openai[next]}" "${algolia[prod]}"
	) &
	apis_pid=$!
	local url
	url=$(await "$work/apis.out" "$apis_pid" 20) || die "the APIs did not start:" "$(tail -n 5 "$work/apis.log")"
	export ALGOLIA_BASE_URL=$url OPENAI_BASE_URL=$url/v1
	good "Algolia's search and OpenAI's chat at $url; they know dev's keys and prod's"
}

set_secrets() {
	step "Giving dev and prod secrets of the same names, with their own values"
	local environment
	for environment in dev prod; do
		note "\$ purser secret set -E $environment openai-secret OPENAI_API_KEY=-     # from stdin"
		printf '%s' "${openai[$environment]}" | bin/purser secret set -E "$environment" openai-secret OPENAI_API_KEY=- >/dev/null
		note "\$ purser secret set -E $environment algolia-secret API_KEY=-"
		printf '%s' "${algolia[$environment]}" | bin/purser secret set -E "$environment" algolia-secret API_KEY=- >/dev/null
	done
	show bin/purser secret list -A
}

deploy() {
	step "Deploying examples/rag-qna/rag-qna.yaml to both"
	local environment
	for environment in dev prod; do
		note "\$ APP_ENV=$environment purser deploy examples/rag-qna/rag-qna.yaml --wait"
		APP_ENV=$environment bin/purser deploy examples/rag-qna/rag-qna.yaml --wait --timeout 60s | indent
	done
	for environment in dev prod; do
		# The job that fills the search index must be through before questions make sense.
		bin/purser wait -E "$environment" rag-qna/reindex >/dev/null || {
			bin/purser logs -E "$environment" rag-qna/reindex >&2 || true
			die "reindex failed in $environment"
		}
	done
	show bin/purser ps -A -a
}

show_environment() {
	step "What dev's function got: the image's ENV, image.env, secrets and env, merged"
	show bin/purser exec -E dev rag-qna/answer-question -- rag env
	note "(rag env shows a fingerprint in place of a key)"
}

ask() {
	step "Asking each a question"
	show bin/purser exec -E dev rag-qna/answer-question -- rag ask "What is the only thing we have to fear?"
	show bin/purser exec -E prod rag-qna/answer-question -- rag ask "Where did Kennedy choose to go in this decade?"
}

# used ENVIRONMENT API: what the APIs' log says about that environment's last
# request that was served: key=… and, for search, index=….
used() {
	grep "api=$2 environment=$1 .*status=200" "$work/apis.log" | tail -n 1 | grep -oE '(key|index)=[^ ]+' | paste -sd ' '
}

check_keys() {
	step "Which key used what, by the APIs' own log (fingerprints)"
	local environment chat search
	for environment in dev prod; do
		chat="key=$(printf '%s' "${openai[$environment]}" | fingerprint)"
		search="key=$(printf '%s' "${algolia[$environment]}" | fingerprint) index=potus_speeches_$environment"
		[[ $(used "$environment" chat) == "$chat" ]] || die "$environment's chat key was not the one used"
		[[ $(used "$environment" search) == "$search" ]] || die "$environment's search key was not the one used, or not on its index"
		good "$(printf '%-5s chat %s   search %s' "$environment" "$chat" "$search")"
	done
	note "dev asking prod's index:"
	local refused
	if refused=$(bin/purser exec -E dev rag-qna/answer-question -- rag once -index potus_speeches_prod "What have we to fear?" 2>&1); then
		die "dev could read prod's index: $refused"
	fi
	[[ $refused == *"403 Forbidden"* ]] || die "dev's question to prod's index failed in another way:" "$refused"
	good "refused: ${refused#rag: }"
}

# holding VALUE: the node's files that hold it, by their names within the node. What
# is mounted there is memory.
holding() {
	sync
	find "$work/node" -xdev -type f -print0 2>/dev/null | xargs -0 grep -lF -e "$1" 2>/dev/null | sed "s|^$work/node/||" || true
}

search_files() {
	step "Searching every file of the node for the keys: containerd's database, bundles, logs, state"
	local environment key found
	for environment in dev prod; do
		for key in "${openai[$environment]}" "${algolia[$environment]}"; do
			found=$(holding "$key")
			[[ -z $found ]] || die "a key of $environment is in a file:" "$found"
		done
	done
	good "in none"
	command -v ctr >/dev/null || return 0
	note "What another client of the same containerd gives a container:"
	local other ctr
	other=not-a-secret-$(random)
	ctr=(ctr --address "$work/node/containerd.sock" --namespace purser containers)
	"${ctr[@]}" create --env "KEY=$other" localhost/rag:1.4 "demo-$$" rag env
	found=$(holding "$other")
	"${ctr[@]}" delete "demo-$$"
	[[ -n $found ]] || die "the search finds nothing where there is something"
	indent <<<"$found"
}

spill() {
	step "A careless function prints its keys"
	local printed environment=prod
	note "\$ purser exec -E prod rag-qna/answer-question -- rag spill"
	printed=$(bin/purser exec -E "$environment" rag-qna/answer-question -- rag spill)
	indent <<<"$printed"
	[[ $printed == *'[secret:openai-secret/OPENAI_API_KEY]'* && $printed != *"${openai[prod]}"* ]] || die "a key was shown"
	good "none is seen, nor stored in a log"
}

# processes are those of all containers, each with its workload.
processes() { bin/purser ps -A -o json | grep -E '"(id|pid)":' | paste -sd ' '; }

# strike PATTERN kills a child of the node's, and waits for the next.
strike() {
	local pid
	pid=$(pgrep -f --parent "$node_pid" "$1")
	note "\$ kill -9 $pid     # $1"
	kill -9 "$pid"
	for _ in $(seq 100); do
		if pgrep -f --parent "$node_pid" "$1" | grep -qvx "$pid" && bin/purser node -o json 2>/dev/null | grep -q '"connected": true'; then
			return
		fi
		sleep 0.1
	done
	die "it did not come back"
}

survive() {
	step "Killing what looks after them: the functions do not notice"
	local before
	before=$(processes)
	strike "purser agent"
	strike "containerd --config"
	[[ $(processes) == "$before" ]] || die "they are not the same processes:" "$before" "$(processes)"
	show bin/purser ps -A
	good "the same processes as before"
}

audit() {
	step "Who was given what: the audit trail"
	show bin/purser audit tail -n 4
	show bin/purser audit verify
}

# rotate_to KEY STATE: sets prod's chat key, and waits until its function is in that state.
rotate_to() {
	note "\$ purser secret set -E prod openai-secret OPENAI_API_KEY=-"
	printf '%s' "$1" | bin/purser secret set -E prod openai-secret OPENAI_API_KEY=- >/dev/null
	for _ in $(seq 300); do
		if bin/purser secret show -E prod openai-secret | grep -qE "^rag-qna/answer-question +[a-z0-9]+ +2 +$2"; then
			bin/purser wait -E prod rag-qna/answer-question --until ready >/dev/null
			show bin/purser secret show -E prod openai-secret
			return
		fi
		sleep 0.1
	done
	bin/purser secret show -E prod openai-secret >&2
	die "the function does not come to be $2 on version 2"
}

# answers_with KEY: asks prod's function, and checks with which key it has asked the API.
answers_with() {
	show bin/purser exec -E prod rag-qna/answer-question -- rag ask "What is the only thing we have to fear?"
	[[ $(used prod chat) == "key=$(printf '%s' "$1" | fingerprint)" ]] || die "that was not the key in use"
}

rotate() {
	step "Rotating prod's key: nobody redeploys anything"
	rotate_to "${openai[next]}" current
	answers_with "${openai[next]}"
	good "the function has moved to the new key, and answers with it"
	step "Rotating it to one that the API refuses"
	rotate_to "sk-prod-mistaken-$(random)" held
	note "\$ purser logs -E prod rag-qna/answer-question --previous"
	bin/purser logs -E prod rag-qna/answer-question --previous 2>&1 | indent
	bin/purser events -E prod | grep -E 'BackedOut|SecretQuarantined' | indent
	answers_with "${openai[next]}"
	good "it was tried, twice, and backed out: the function answers with the key before"
	local found
	found=$(holding "${openai[next]}")
	[[ -z $found ]] || die "the new key is in a file:" "$found"
}

next() {
	step "Done in $SECONDS seconds. What to try next"
	cat <<-'NEXT'
		    examples/demo.sh --stay          the same, and the node stays up for you; then, elsewhere, with the
		                                     PURSER_HOST that it prints:
		    purser exec -E prod rag-qna/answer-question -- rag ask 'What did Lincoln say about government?'
		    purser logs -f rag-qna/answer-question
		    purser deploy examples/rag-qna/rag-qna.yaml --dry-run -o yaml
		    docs/getting-started.md          your own function, step by step
		    docs/rotation.md                 what happens when a secret changes, and what can go wrong
		    docs/secrets.md                  how secrets are kept and merged, and the limits of this version
	NEXT
}

stay_up() {
	$stay || return 0
	step "The node stays up until Ctrl-C. In another terminal, as root:"
	cat <<-STAY
		    export PURSER_HOST=$PURSER_HOST PATH=$PWD/bin:\$PATH
		    export ALGOLIA_BASE_URL=$ALGOLIA_BASE_URL OPENAI_BASE_URL=$OPENAI_BASE_URL
	STAY
	wait "$node_pid" || die "the node ended"
}

check_machine
work=$(mktemp -d /tmp/purser-demo.XXXXXX)
check_go
install_missing
build
start_node
import_image
make_keys
start_apis
set_secrets
deploy
show_environment
ask
check_keys
survive
spill
audit
search_files
rotate
next
stay_up
