/* SPDX-License-Identifier: BSD-2-Clause */
/* Between the firmware and the device that it uses; for assembly, too. */
#ifndef BENCH_FIRMWARE_H
#define BENCH_FIRMWARE_H

#define FIRMWARE_SLOT 4
#define FIRMWARE_BAR 0xfe000000
#define FIRMWARE_GO 0xff0
#define FIRMWARE_DONE 0xff8
#define FIRMWARE_STORES 0x80000000

#ifndef __ASSEMBLER__
/* The image, 64 KiB. */
extern const char cleat_firmware_start[];
extern const char cleat_firmware_end[];
#endif

#endif
