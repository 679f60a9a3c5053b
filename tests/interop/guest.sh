# SPDX-License-Identifier: BSD-2-Clause
# What a Linux in QEMU does with the devices that our servers serve.
say() { echo "interop: $*"; }
fail() { say "FAILED: $*"; exit 1; }

[ -b /dev/nvme0n1 ] || fail "no /dev/nvme0n1"
say "disk: $(cat /sys/block/nvme0n1/size) sectors"
mke2fs -F /dev/nvme0n1 >/dev/null 2>&1 || fail "making a file system"
mount /dev/nvme0n1 /mnt || fail "mounting"
dd if=/dev/urandom of=/mnt/file bs=64k count=64 2>/dev/null || fail "writing"
sum=$(sha256sum </mnt/file)
sync
echo 3 >/proc/sys/vm/drop_caches
[ "$(sha256sum </mnt/file)" = "$sum" ] || fail "read back other data"
umount /mnt || fail "unmounting"
echo 3 >/proc/sys/vm/drop_caches
set -- $(sha256sum </dev/nvme0n1)
say "sum: $1"
awk '/nvme/ { n += $2 } END { if (!n) exit 1 }' /proc/interrupts ||
	fail "no interrupts"

for d in /sys/bus/pci/devices/*; do
	[ "$(cat $d/vendor):$(cat $d/device)" = 0xc1ea:0xcb01 ] || continue
	echo 1 >$d/enable
	set -- $(head -n 1 $d/resource)
	say "probe: $(devmem $1 32)"
	devmem $(($1 + 0x10)) 32 0x12345678
	say "scratch: $(devmem $(($1 + 0x10)) 32)"
	echo 1 >$d/reset
	echo 1 >$d/enable
	say "after reset: $(devmem $(($1 + 0x10)) 32)"
done
say "all done"
