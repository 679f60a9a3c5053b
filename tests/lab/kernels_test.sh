#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# tools/kernels, tools/guest-initramfs and tools/packages, with an apt of our
# own that serves a small kernel package; dpkg-deb, depmod and all else are the
# real ones.

fake_package() {
	mkdir -p deb/DEBIAN deb/boot deb/lib/modules/6.1.0-9-amd64
	printf 'Package: linux-image-6.1.0-9-amd64\nVersion: %s\n' "$1" \
		>deb/DEBIAN/control
	printf 'Architecture: amd64\nMaintainer: x <x@y>\nDescription: x\n' \
		>>deb/DEBIAN/control
	echo "$1" >deb/boot/vmlinuz-6.1.0-9-amd64
	touch deb/lib/modules/6.1.0-9-amd64/modules.order \
		deb/lib/modules/6.1.0-9-amd64/modules.builtin
	dpkg-deb -b deb image.deb >/dev/null
	echo "$1" >version
}

fake_apt() {
	mkdir -p bin
	cat >bin/apt-cache <<-SH
	#!/bin/sh
	[ -e $PWD/version ] || exit 100
	echo "Version: \$(cat $PWD/version)"
	echo "Depends: linux-image-6.1.0-9-amd64 (= \$(cat $PWD/version))"
	SH
	cat >bin/apt-get <<-SH
	#!/bin/sh
	echo "\$@" >>$PWD/apt.log
	case "\$*" in
	*download*) cp $PWD/image.deb ./image_1_amd64.deb;;
	*) exit 100;;
	esac
	SH
	chmod 755 bin/*
	PATH=$PWD/bin:$PATH
	CLEAT_KERNELS=$PWD/kernels
	export PATH CLEAT_KERNELS
}

atf_test_case fetch__idempotent
fetch__idempotent_body() {
	fake_apt && fake_package 6.1.9-1
	atf_check -e match:downloading -e match:unpacking \
		-o inline:"$PWD/kernels/amd64/boot/vmlinuz-6.1.0-9-amd64\n" \
		@top@/tools/kernels --print amd64
	atf_check -o inline:"$PWD/kernels/amd64\n" \
		@top@/tools/kernels --print-tree amd64
	atf_check test -e kernels/amd64/lib/modules/6.1.0-9-amd64/modules.dep
	atf_check -o match:'^1$' sh -c 'grep -c download apt.log'
	atf_check -o inline:'.\n..\n.lock\namd64\n' ls -a kernels
}

atf_test_case fetch__update
fetch__update_body() {
	fake_apt && fake_package 6.1.9-1
	atf_check -e ignore @top@/tools/kernels amd64
	atf_check -e not-match:downloading @top@/tools/kernels --update amd64
	fake_package 6.1.9-2
	atf_check -e match:6.1.9-2 @top@/tools/kernels --update amd64
	atf_check -o inline:'6.1.9-2\n' cat kernels/amd64/vmlinuz
	atf_check -o inline:'.\n..\n.lock\namd64\n' ls -a kernels
}

atf_test_case fetch__many_at_once
fetch__many_at_once_body() {
	fake_apt && fake_package 6.1.9-1
	pids=
	for i in 1 2 3 4; do
		@top@/tools/kernels --print amd64 >"out$i" 2>"err$i" &
		pids="$pids $!"
	done
	for pid in $pids; do
		wait "$pid" || atf_fail "one of them failed: $(cat err?)"
	done
	atf_check -o match:'^1$' grep -c download apt.log
	atf_check -o inline:'1\n' sh -c 'sort -u out? | wc -l'
}

atf_test_case fetch__no_network
fetch__no_network_body() {
	fake_apt
	atf_check -s exit:1 -e match:"^kernels: cannot download the amd64 \
kernel with apt: check the network, then run 'apt-get update' as root\$" \
		@top@/tools/kernels --print amd64
	atf_check -o inline:'.\n..\n.lock\n' ls -a kernels
}

atf_test_case fetch__damaged_package
fetch__damaged_package_body() {
	fake_apt && fake_package 6.1.9-1
	truncate -s 600 image.deb
	atf_check -s exit:1 -e match:'^kernels: cannot unpack' \
		@top@/tools/kernels --print amd64
	fake_package 6.1.9-1
	atf_check -e ignore -o match:vmlinuz @top@/tools/kernels --print amd64
}

atf_test_case fetch__unwritable
fetch__unwritable_body() {
	atf_check -s exit:1 -e match:'choose another --dir$' \
		@top@/tools/kernels --dir /proc/nowhere
	atf_check -s exit:2 -e match:"unknown flavour or option 'arm'" \
		@top@/tools/kernels arm
}

atf_test_case initramfs__content
initramfs__content_body() {
	echo 'echo hello' >script
	echo data >data
	guest="@top@/tools/guest-initramfs --kernel cloud --script script"
	atf_check -o save:path $guest --file data:/etc/data \
		--binary /sbin/mke2fs:/sbin/mke2fs
	atf_check -o file:path $guest --file data:/etc/data \
		--binary /sbin/mke2fs:/sbin/mke2fs
	mkdir tree
	atf_check sh -c 'cd tree && zcat "$(cat ../path)" | cpio -i --quiet'
	atf_check -o inline:'data\n' cat tree/etc/data
	atf_check cmp script tree/script
	atf_check -o match:mke2fs -e match:mke2fs \
		chroot tree /bin/busybox sh -c '/sbin/mke2fs -V; echo mke2fs'
	echo other >data
	atf_check -o not-file:path $guest --file data:/etc/data \
		--binary /sbin/mke2fs:/sbin/mke2fs
}

atf_test_case initramfs__refused
initramfs__refused_body() {
	guest=@top@/tools/guest-initramfs
	touch script
	atf_check -s exit:2 -e match:'no --script' $guest
	atf_check -s exit:1 -e match:'cannot read nowhere' \
		$guest --script nowhere
	atf_check -s exit:1 -e match:'has no module nonsense' \
		$guest --script script --module nonsense
	atf_check -s exit:2 -e match:'wants SRC:/DST' \
		$guest --script script --file script
}

# The machine's packages, of which one is missing, and an apt that fails.
atf_test_case packages__missing
packages__missing_body() {
	fake_apt
	cat >bin/dpkg-query <<-'SH'
	#!/bin/sh
	case $4 in
	bash) echo installed;;
	*) exit 1;;
	esac
	SH
	chmod 755 bin/dpkg-query
	atf_check @top@/tools/packages bash
	if [ "$(id -u)" = 0 ]; then
		atf_check -s exit:1 -e match:'^packages: installing absent$' \
			-e match:'^packages: apt failed .* check the network' \
			@top@/tools/packages bash absent
		atf_check -o inline:'update -q\n' cat apt.log
	else
		atf_check -s exit:1 -e match:'as root, run:$' \
			-e match:'apt-get update && apt-get install .* absent$' \
			@top@/tools/packages bash absent
	fi
}

atf_init_test_cases() {
	for c in fetch__idempotent fetch__update fetch__many_at_once \
		fetch__no_network fetch__damaged_package fetch__unwritable \
		initramfs__content initramfs__refused packages__missing; do
		atf_add_test_case "$c"
	done
}
