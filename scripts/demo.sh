# The demo of cluster.sh, which sources this file.
#
# A writer increments the counter without a pause while nodes are killed. It notes each answer in
# $dir/acks: the new value, or a ? when there was none, which may or may not have been done. What
# may never happen is that the counter falls behind an answer.

demo() {
	app=counter
	[[ ${CLUSTER_NODES:-3} -ge 3 ]] || fail "the demo needs at least 3 nodes to survive the loss of one"
	dir=$(mktemp -d "${TMPDIR:-/tmp}/connect-demo.XXXXXX")
	began=$(now)
	writer_pid=
	trap demo_end EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM

	step "building example/$app"
	mkdir "$dir/bin"
	build
	done_in

	step "starting $nodes nodes"
	demo_start
	done_in "node $(leader || echo '?') leads"
	status

	step "incrementing through every node in turn"
	: >"$dir/acks"
	writer &
	writer_pid=$!
	wait_acks 30
	done_in "$(acks) increments acknowledged"

	local victim
	victim=$(wait_leader)
	step "kill -9 of the leader, node $victim, in the middle of it"
	kill_node "$victim"
	wait_acks 30
	done_in "30 more increments acknowledged by the others"
	check

	step "restarting node $victim on its data"
	restart_killed "$victim"
	check "$victim"
	done_in "it has caught up and answers $value"

	step "kill -9 of all $nodes nodes at once, in the middle of it"
	end_all KILL
	done_in "none is left"

	step "restarting them on their data"
	local n
	for n in $(every_node); do launch "$n"; done
	wait_serving 20 || demo_fail "no leader serves after 20 s"
	done_in "node $(leader || echo '?') leads"
	for n in $(every_node); do check "$n"; done

	step "going on where they were"
	wait_acks 30
	writer_stop
	for n in $(every_node); do check "$n"; done
	done_in "30 more increments acknowledged, all nodes answer $value"
	status

	echo
	echo "$(acks) increments acknowledged, $(unknowns) without an answer, the counter is at $value:"
	echo "no acknowledged increment is lost. $(elapsed "$began") s in all."
}

# step announces what comes, done_in tells how it went and how long it took.
step() {
	step_began=$(now)
	printf '\n[%6s s] %s\n' "$(elapsed "$began")" "$1"
}

done_in() { printf '           %s s%s\n' "$(elapsed "$step_began")" "${1:+: $1}"; }

elapsed() {
	local ms=$(($(now) - $1))
	printf '%d.%02d' $((ms / 1000)) $((ms % 1000 / 10))
}

# demo_start starts the nodes on the first range of ports that is free: BASE, else others.
demo_start() {
	local n attempt
	for attempt in 1 2 3 4 5 6 7 8; do
		if ports_free; then
			create
			for n in $(every_node); do launch "$n"; done
			wait_serving 20 && return
			all_run && demo_fail "no leader serves after 20 s"
			end_all KILL # somebody else was faster to take a port
			for n in $(every_node); do rm -rf "${dir:?}/$n"; done
		fi
		echo "           ports from $((base + 1)) are in use, trying others"
		base=$((10000 + RANDOM % 60 * 350))
	done
	demo_fail "found no free ports"
}

ports_free() {
	local n port
	for n in $(every_node); do
		for port in $(client_port "$n") $(peer_port "$n") $(admin_port "$n"); do
			if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return 1; fi
		done
	done
}

all_run() {
	local n
	for n in $(every_node); do pid_of "$n" >/dev/null || return 1; done
}

wait_leader() {
	local deadline=$((SECONDS + 20))
	until leader; do
		((SECONDS < deadline)) || demo_fail "no leader serves after 20 s"
		sleep 0.05
	done
}

# restart_killed is restart with more patience than on an idle machine.
restart_killed() {
	seconds_to_serve=20
	restart "$1"
}

# writer increments through one node after the other until it is told to stop.
writer() {
	local n=0 reply code
	while [[ ! -e $dir/stop ]]; do
		n=$((n % nodes + 1))
		code=0
		reply=$(ask "$n" incr) || code=$?
		# An error answer says whether the increment may have been done.
		case $code$reply in
		0:*) echo "${reply#:}" ;;
		0-UNKNOWN* | 1*) echo "?" ;;
		*) sleep 0.02 ;;
		esac
	done >>"$dir/acks"
}

writer_stop() {
	touch "$dir/stop"
	[[ -z $writer_pid ]] || wait "$writer_pid" || true
	writer_pid=
}

acks() { grep -c '^[0-9]' "$dir/acks" || true; }
unknowns() { grep -c '^?' "$dir/acks" || true; }

# wait_acks waits for so many more acknowledged increments.
wait_acks() {
	local want=$(($(acks) + $1)) deadline=$((SECONDS + 30))
	until (($(acks) >= want)); do
		((SECONDS < deadline)) || demo_fail "too few increments are acknowledged after 30 s"
		sleep 0.05
	done
}

# check reads the counter, from node $1 or from any, and holds it against the answers so far: those
# that came before the question, since the writer goes on.
check() {
	local answers last n reply deadline=$((SECONDS + 20))
	answers=$(acks)
	last=$(sed -n '/^[0-9]/h;${x;p;}' "$dir/acks")
	while :; do
		for n in ${1:-$(every_node)}; do
			reply=$(ask "$n" get) && [[ $reply == :* ]] && break 2
		done
		((SECONDS < deadline)) || demo_fail "nobody tells the counter after 20 s: ${reply:-no answer}"
		sleep 0.05
	done
	value=${reply#:}
	if ((value < answers || value < last)); then
		demo_fail "LOST: the counter is $value after $answers answers, the last of them $last"
	fi
	[[ -z $(sed -n '/^[0-9]/p' "$dir/acks" | sort -n | uniq -d) ]] ||
		demo_fail "LOST: two increments were given the same answer"
}

demo_fail() {
	show_logs $(every_node)
	fail "$@"
}

# demo_end leaves nothing behind, whatever has happened.
demo_end() {
	local code=$?
	trap - EXIT INT TERM
	set +e
	touch "$dir/stop"
	[[ -z $writer_pid ]] || { kill "$writer_pid"; wait "$writer_pid"; } 2>/dev/null
	end_all KILL
	rm -rf "$dir"
	exit "$code"
}
