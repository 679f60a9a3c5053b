#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# tools/lab: what it carries, and how its ends are told apart.

# Each case: NAME, description, body in NAME_body.
lab_case() {
	atf_test_case "$1"
	eval "$1_head() { atf_set descr '$2'; }"
	cases="${cases:-} $1"
}

lab_case run__status_streams_verdict "exit status and both streams, apart"
run__status_streams_verdict_body() {
	atf_check -s exit:7 -o inline:'out\nend' -e inline:'err\n' \
		@top@/tools/lab --verdict verdict -- \
		sh -c 'echo out; echo err >&2; printf end; exit 7'
	atf_check -o inline:'exit 7\n' cat verdict
}

# The command looks at everything that it is promised.
lab_case run__promises "kvm, modules, sockets, shares, folder, environment"
run__promises_body() {
	mkdir shared
	echo kept >shared/there
	cat >command <<-'SH'
	set -e
	echo "$WORD" "$2"
	cat there
	echo written >here
	test -c /dev/kvm
	test "$CLEAT_LAB" = 1
	test -z "$(ls -A /tmp | grep -v '^kyua')"
	test -r @top@/tools/lab
	modprobe loop
	test -d /sys/module/loop
	test -d /sys/kernel/tracing/events
	! touch /etc/lab-was-here 2>/dev/null
	SH
	cp command shared/
	WORD='one  two' && export WORD
	cd shared || atf_fail "no folder"
	atf_check -o inline:"one  two a'b \"c\nkept\n" \
		@top@/tools/lab --share . -- sh -e ./command x "a'b \"c"
	atf_check -o inline:'written\n' cat here
}

lab_case run__time_limit "a slow command is a timeout, not a stall"
run__time_limit_body() {
	atf_check -s exit:124 -e inline:\
'lab: timeout: the command did not end within 1 s\n' \
		@top@/tools/lab --timeout 1 --verdict verdict -- sleep 60
	atf_check -o inline:'timeout\n' cat verdict
}

lab_case run__panic "a panic of L1 has its own status"
run__panic_body() {
	atf_check -s exit:123 -e match:"^lab: L1's kernel panicked" \
		@top@/tools/lab --verdict verdict -- \
		sh -c 'echo c >/proc/sysrq-trigger; sleep 60'
	atf_check -o inline:'panic\n' cat verdict
}

# Stops the QEMU of the lab with this pid, once its command runs.
freeze() {
	for child in $(cat "/proc/$1/task/$1/children"); do
		case $(cat "/proc/$child/comm") in
		qemu*) kill -STOP "$child";;
		esac
	done
}

lab_case run__stalled_once "a stall is told, counted and tried again"
run__stalled_once_body() {
	mkdir shared
	@top@/tools/lab --share shared --stall 5 --retry 1 --verdict verdict -- \
		sh -c 'test -e shared/again && exit 5
			touch shared/again; sleep 60' 2>err &
	pid=$!
	until [ -e shared/again ]; do
		kill -0 $pid || atf_fail "the lab ended early"
		sleep 0.1
	done
	freeze $pid
	wait $pid
	atf_check_equal 5 $?
	atf_check -o match:'^lab: stalled: CPU . of L1 gave no sign of life' \
		-o match:'^lab: retry 1 of 1 after a stall$' \
		-o match:'^lab: 1 stalled before this result$' cat err
	atf_check -o inline:'exit 5\n' cat verdict
}

lab_case run__two_at_once "two labs do not meet"
run__two_at_once_body() {
	@top@/tools/lab -- sh -c 'touch /tmp/mine; ls /tmp; exit 3' >one & one=$!
	@top@/tools/lab -- sh -c 'touch /tmp/yours; ls /tmp; exit 4' >two & two=$!
	wait $one
	atf_check_equal 3 $?
	wait $two
	atf_check_equal 4 $?
	atf_check -o match:mine -o not-match:yours cat one
	atf_check -o match:yours -o not-match:mine cat two
}

lab_case run__interrupted "nothing is left behind"
run__interrupted_body() {
	mkdir shared tmp
	TMPDIR=$(pwd)/tmp @top@/tools/lab --share shared -- \
		sh -c 'touch shared/started; sleep 60' & pid=$!
	until [ -e shared/started ]; do
		kill -0 $pid || atf_fail "the lab ended early"
		sleep 0.1
	done
	children=$(cat "/proc/$pid/task/$pid/children")
	kill -TERM $pid
	wait $pid
	atf_check_equal 143 $?
	atf_check ls -A tmp
	for child in $children; do
		[ ! -e "/proc/$child/exe" ] || atf_fail "$child still runs"
	done
}

# A PATH of links to everything but one program.
path_without() {
	mkdir bin
	ln -sf -t bin /usr/bin/* /usr/sbin/*
	rm "bin/$1"
}

missing() {
	path_without "$1"
	atf_check -s exit:125 -e inline:"lab: $1 not found: \
apt-get install --no-install-recommends $2\n" \
		env PATH="$(pwd)/bin" @top@/tools/lab -- true
	rm -r bin
}

lab_case start__missing_program "each missing program names its package"
start__missing_program_body() {
	missing qemu-system-x86_64 qemu-system-x86
	missing busybox busybox-static
	missing cpio cpio
}

refused() {
	text=$1
	shift
	atf_check -s exit:125 -e inline:"lab: $text\n" @top@/tools/lab "$@"
}

lab_case start__bad_words "usage errors are one line"
start__bad_words_body() {
	refused "no COMMAND: tools/lab [OPTIONS] -- COMMAND ARGS..." --cpus 2
	refused "--cpus: not a number: x" --cpus x -- true
	refused "--timeout: not a number: 0" --timeout 0 -- true
	refused "--share: not a directory: /nowhere" --share /nowhere -- true
	refused "--cpu: unknown option, or without its value" --cpu
}

lab_case start__where "it says why not here"
start__where_body() {
	atf_check -o match:'^(native|lab: (the CPU here has|there is no /dev|this user may))' \
		@top@/tools/lab --where
}

lab_case demo__bad_words "what the other demo is told is not ignored"
demo__bad_words_body() {
	for option in "--kernel cloud" "--doorbells shadow" --keep; do
		atf_check -s exit:2 \
			-e inline:"demo: ${option% *} is not for --migrate; see --help\n" \
			@top@/demo --migrate $option
	done
}

lab_case start__qemu_refuses "what QEMU says is shown"
start__qemu_refuses_body() {
	atf_check -s exit:125 -e match:'^lab: \| .*-nonsense' \
		-e match:'^lab: QEMU could not start' \
		env CLEAT_LAB_QEMU=-nonsense @top@/tools/lab \
		--verdict verdict -- true
	atf_check -o inline:'error\n' cat verdict
}

atf_init_test_cases() {
	for c in $cases; do
		atf_add_test_case "$c"
	done
}
