#!/usr/bin/env bash
# A cluster on this machine, for trying things out. Needs bash and Go, nothing else.
#
#   start      builds the service, starts its nodes and waits until a leader serves
#   stop       ends the nodes with SIGTERM
#   status     prints one line for each node: id, role, term, applied index, pid
#   kill N     ends node N with kill -9
#   restart N  starts node N on its data, and stops it before if it runs
#   logs N     prints the end of node N's log; logs N -f goes on printing
#   join       starts one more node and makes it a member
#   leave N    takes node N out of the cluster and ends it
#   connect …  runs the command line of the framework on the cluster, such as: connect status
#   demo       shows what the cluster survives, in a temporary directory that it removes again
#   clean      stops the nodes and removes the directory with all data
#
# Settings, which later commands remember from start:
#
#   CLUSTER_NODES  number of nodes (3)
#   CLUSTER_APP    the service, a directory of example/ (counter)
#   CLUSTER_DIR    where binary, configuration, logs and data are (.cluster)
#   CLUSTER_BASE   node N has the client port BASE+N, peer port +100, admin port +200 (7000)
set -euo pipefail
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dir=${CLUSTER_DIR:-$root/.cluster}
nodes=${CLUSTER_NODES:-3}
app=${CLUSTER_APP:-counter}
base=${CLUSTER_BASE:-7000}
seconds_to_serve=10

fail() {
	echo "cluster.sh: $*" >&2
	exit 1
}

# one_name gives a directory that exists the one name it has from everywhere: a node is known by its
# command line, in which the name is.
one_name() {
	if [[ -d $dir ]]; then dir=$(cd "$dir" && pwd -P); fi
}

usage() {
	sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
}

# now prints the milliseconds since 1970.
now() {
	if [[ -n ${EPOCHREALTIME:-} ]]; then
		echo $((${EPOCHREALTIME/./} / 1000))
	else
		echo $(($(date +%s) * 1000))
	fi
}

client_port() { echo $((base + $1)); }
peer_port() { echo $((base + 100 + $1)); }
admin_port() { echo $((base + 200 + $1)); }

# every_node prints the numbers of the nodes that have not left.
every_node() {
	local n
	for n in $(seq 1 "$nodes"); do
		[[ -e $dir/$n.left ]] || echo "$n"
	done
}

check_settings() {
	[[ $nodes =~ ^[1-9][0-9]?$ && $nodes -le 32 ]] || fail "CLUSTER_NODES is $nodes: want 1 to 32"
	[[ $base =~ ^[0-9]{4,5}$ && $base -ge 1024 && $base -le 65300 ]] ||
		fail "CLUSTER_BASE is $base: want a port from 1024 to 65300"
	[[ $app =~ ^[a-z0-9_-]+$ && -d $root/example/$app ]] ||
		fail "CLUSTER_APP is $app: want a directory of $root/example"
}

# load_settings takes the settings the cluster was started with. Its directory is the proof that a
# cluster is there, and that the directory is ours to remove.
load_settings() {
	[[ -f $dir/settings ]] || return 1
	local key value wanted
	while IFS== read -r key value; do
		case $key in
		nodes) wanted=${CLUSTER_NODES:-$value} nodes=$value ;;
		app) wanted=${CLUSTER_APP:-$value} app=$value ;;
		base) wanted=${CLUSTER_BASE:-$value} base=$value ;;
		*) continue ;;
		esac
		[[ $wanted == "$value" ]] ||
			fail "the cluster in $dir has $key=$value, not $wanted; 'cluster.sh clean' removes it"
	done <"$dir/settings"
	check_settings
}

need_cluster() { load_settings || fail "there is no cluster in $dir; 'cluster.sh start' makes one"; }

need_node() {
	need_cluster
	[[ ${1:-} =~ ^[1-9][0-9]?$ && $1 -le $nodes ]] || fail "want the number of a node, 1 to $nodes"
	[[ ! -e $dir/$1.left ]] || fail "node $1 has left the cluster"
}

# create writes the settings and the configuration of a new cluster.
create() {
	check_settings
	mkdir -p "$dir/bin"
	one_name
	{
		printf '[cluster]\nid = "local"\n'
		local n
		for n in $(every_node); do describe "$n"; done
	} >"$dir/cluster.toml"
	save_settings
}

# describe prints a node's part of the configuration.
describe() {
	printf '\n[[member]]\nid = %d\n' "$1"
	printf 'peer = "127.0.0.1:%d"\n' "$(peer_port "$1")"
	printf 'client = "127.0.0.1:%d"\n' "$(client_port "$1")"
	printf 'admin = "127.0.0.1:%d"\n' "$(admin_port "$1")"
}

save_settings() { printf 'nodes=%s\napp=%s\nbase=%s\n' "$nodes" "$app" "$base" >"$dir/settings"; }

build() {
	(cd "$root" && go build -o "$dir/bin/$app" "./example/$app") || fail "example/$app does not build"
	(cd "$root" && go build -o "$dir/bin/connect" ./cmd/connect) || fail "cmd/connect does not build"
}

connect() { CONNECT_CONFIG=$dir/cluster.toml "$dir/bin/connect" "$@"; }

# pid_of prints the process id of a running node, and fails when it does not run. A number in a pid
# file proves nothing after a reboot: the process must have been started by the very command line.
pid_of() {
	local pid args want="$dir/bin/$app -config $dir/cluster.toml -id $1 -data $dir/$1"
	[[ -f $dir/$1.pid ]] && read -r pid <"$dir/$1.pid" && [[ $pid =~ ^[0-9]+$ ]] || return 1
	if [[ -d /proc/self ]]; then
		args=$({ tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null) || return 1
	else
		args=$(ps -o args= -p "$pid") || return 1
	fi
	[[ ${args% } == "$want" ]] && echo "$pid"
}

# launch starts a node. It waits until the new process has become the node: before that it has the
# command line of this script, and would be taken for a node that has ended.
launch() {
	nohup "$dir/bin/$app" -config "$dir/cluster.toml" -id "$1" -data "$dir/$1" \
		>>"$dir/$1.log" 2>&1 </dev/null &
	local pid=$! deadline=$((SECONDS + 10))
	echo "$pid" >"$dir/$1.pid"
	disown "$pid" # or bash reports the end of a killed node
	until pid_of "$1" >/dev/null || ! kill -0 "$pid" 2>/dev/null || ((SECONDS >= deadline)); do
		sleep 0.01
	done
}

# end sends a signal to a node and waits until it is gone.
end() {
	local pid deadline=$((SECONDS + 10))
	pid=$(pid_of "$1") || return 0
	kill "-$2" "$pid" 2>/dev/null || true
	while pid_of "$1" >/dev/null; do
		if ((SECONDS >= deadline)); then
			echo "node $1 does not end; killing it" >&2
			kill -KILL "$pid" 2>/dev/null || true
			deadline=$((SECONDS + 10))
		fi
		sleep 0.05
	done
	rm -f "$dir/$1.pid"
}

end_all() {
	local n jobs=()
	for n in $(every_node); do
		end "$n" "$1" &
		jobs+=($!)
	done
	wait "${jobs[@]}"
}

# ask sends one line to a node's client port and prints the first line of the answer. It returns 2
# when the node cannot be reached, and 1 when there is no answer within three seconds: then nobody
# knows whether the command was done.
ask() {
	(
		exec 3<>"/dev/tcp/127.0.0.1/$(client_port "$1")" || exit 2
		printf '%s\r\n' "$2" >&3
		IFS= read -r -t 3 line <&3 || exit 1
		printf '%s\n' "${line%$'\r'}"
	) 2>/dev/null
}

# http prints the answer of a node's admin port, headers and all.
http() {
	(
		exec 3<>"/dev/tcp/127.0.0.1/$(admin_port "$1")" || exit 1
		printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$2" >&3
		while IFS= read -r -t 3 line <&3; do printf '%s\n' "${line%$'\r'}"; done
		[[ -z $line ]] || printf '%s\n' "$line"
	) 2>/dev/null
}

# field prints the first value of a name in JSON that has one field on each line.
field() {
	local line
	while IFS= read -r line; do
		if [[ $line =~ ^[[:space:]]*\"$1\":[[:space:]]*\"?([^\",]*) ]]; then
			echo "${BASH_REMATCH[1]}"
			return
		fi
	done <<<"$2"
	echo "?"
}

# status_of prints the status of a node. The one that answers must be ours: another cluster may have
# the port.
status_of() {
	local pid json
	pid=$(pid_of "$1") && json=$(http "$1" /status) && [[ $(field pid "$json") == "$pid" ]] &&
		printf '%s\n' "$json"
}

ready() { status_of "$1" >/dev/null && [[ $(http "$1" /readyz) == "HTTP/"*" 200 "* ]]; }

# leader prints the number of a leader that serves.
leader() {
	local n json
	for n in $(every_node); do
		if json=$(status_of "$n") && [[ $(field role "$json") == leader ]] && ready "$n"; then
			echo "$n"
			return
		fi
	done
	return 1
}

# wait_serving waits until every node that runs is ready. At the end of the time a leader is enough;
# when no node runs any more there is nothing to wait for.
wait_serving() {
	local n running waiting deadline=$((SECONDS + $1))
	while ((SECONDS < deadline)); do
		running=0 waiting=0
		for n in $(every_node); do
			pid_of "$n" >/dev/null || continue
			running=1
			ready "$n" || waiting=1
		done
		((running == 1)) || return 1
		if ((waiting == 0)); then
			leader >/dev/null && return
		fi
		sleep 0.05
	done
	leader >/dev/null
}

some_run() {
	local n
	for n in $(every_node); do
		if pid_of "$n" >/dev/null; then return; fi
	done
	return 1
}

show_logs() {
	local n
	for n in "$@"; do
		echo "--- the last lines of node $n's log, $dir/$n.log" >&2
		tail -n "${lines:-10}" "$dir/$n.log" >&2 || true
	done
}

start() {
	load_settings || create
	build
	local n started=()
	for n in $(every_node); do
		if pid_of "$n" >/dev/null; then
			echo "node $n runs already"
		else
			launch "$n"
			started+=("$n")
		fi
	done
	if ! wait_serving "$seconds_to_serve"; then
		local why="no leader serves within $seconds_to_serve s; the nodes are stopped again"
		some_run || why="every node has ended"
		show_logs $(every_node)
		for n in ${started[@]+"${started[@]}"}; do end "$n" TERM; done
		! tail -qn 1 "$dir"/*.log | grep -q 'address already in use' ||
			why+="; 'cluster.sh clean', then CLUSTER_BASE=$((base + 1000)) for other ports"
		fail "$why"
	fi
	status
	for n in $(every_node); do
		pid_of "$n" >/dev/null || show_logs "$n"
	done
	local incr=incr
	[[ $app == counter ]] || incr='incr hits'
	cat <<-TEXT

		Any node takes any request:
		  printf '$incr\r\n' | nc -q1 127.0.0.1 $(client_port 1)
		  redis-cli -p $(client_port "$nodes") $incr
		What it does:     http://127.0.0.1:$(admin_port 1)/status and /metrics
		Try to break it:  scripts/cluster.sh kill 1; scripts/cluster.sh restart 1
	TEXT
}

status() {
	local n pid json
	for n in $(every_node); do
		if ! pid=$(pid_of "$n"); then
			echo "id $n  role down       term -  applied -  pid -"
			continue
		fi
		json=$(status_of "$n") || json=
		printf 'id %s  role %-9s  term %s  applied %s  pid %s\n' "$n" "$(field role "$json")" \
			"$(field term "$json")" "$(field applied "$json")" "$pid"
	done
}

kill_node() {
	pid_of "$1" >/dev/null || fail "node $1 does not run"
	end "$1" KILL
}

restart() {
	end "$1" TERM
	launch "$1"
	local deadline=$((SECONDS + seconds_to_serve))
	until ready "$1"; do
		if ((SECONDS >= deadline)) || ! pid_of "$1" >/dev/null; then
			show_logs "$1"
			pid_of "$1" >/dev/null || fail "node $1 has ended"
			fail "node $1 runs but is not ready after $seconds_to_serve s: $(http "$1" /readyz | tail -n 1)"
		fi
		sleep 0.05
	done
}

# join adds a node. The configuration knows it from now on as one that joins.
join() {
	((nodes < 32)) || fail "there are 32 nodes already"
	nodes=$((nodes + 1))
	{
		describe "$nodes"
		echo 'join = true'
	} >>"$dir/cluster.toml"
	save_settings
	launch "$nodes"
	connect member add "127.0.0.1:$(admin_port "$nodes")"
}

leave() {
	connect member remove "$1"
	end "$1" TERM
	touch "$dir/$1.left"
}

clean() {
	if load_settings; then
		end_all TERM
		rm -rf "$dir"
	elif [[ -e $dir ]]; then
		fail "$dir is not the directory of a cluster; it stays"
	fi
}

# A word too many is a mistake: "kill 1 2" must not kill only one of the two.
case ${1:-} in
kill | restart | leave) words=2 ;;
logs) words=3 ;;
connect) words=$# ;;
*) words=1 ;;
esac
if (($# > words)); then
	echo "cluster.sh: too many words: $*; 'cluster.sh help' shows what there is" >&2
	exit 2
fi

one_name
case ${1:-} in
start) start ;;
stop) need_cluster && end_all TERM ;;
status) need_cluster && status ;;
kill) need_node "${2:-}" && kill_node "$2" ;;
restart) need_node "${2:-}" && restart "$2" ;;
join) need_cluster && join ;;
leave) need_node "${2:-}" && leave "$2" ;;
connect) need_cluster && connect "${@:2}" ;;
logs)
	need_node "${2:-}"
	[[ -f $dir/$2.log ]] || fail "node $2 has no log yet"
	tail -n 100 ${3:+"$3"} "$dir/$2.log"
	;;
demo)
	# shellcheck source=scripts/demo.sh
	source "$root/scripts/demo.sh"
	demo
	;;
clean) clean ;;
help | -h | --help) usage ;;
*)
	[[ $# -eq 0 ]] || echo "cluster.sh: no such command: $1" >&2
	usage >&2
	exit 2
	;;
esac
