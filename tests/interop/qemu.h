/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A QEMU whose vfio-user client uses one of our servers. It is the program that
 * CLEAT_QEMU names, or the one in the PATH, if it is of version 10.1 or newer;
 * without one the case is skipped. It may stand in a whole tree of another
 * system (TREE/usr/bin/qemu-system-x86_64): then it runs with that tree's
 * loader, libraries and firmware, and needs no chroot.
 *
 * Most cases need no guest: with QEMU's accelerator "qtest" the test itself is
 * the processor, and reads and writes ports and memory.
 */
#ifndef TESTS_INTEROP_QEMU_H
#define TESTS_INTEROP_QEMU_H

#include "tests/support/support.h"

#define QEMU_RAM (64u << 20)
#define QEMU_MAX_ARGS 64

struct qemu {
	struct child child;
	int qtest;
	char words[QEMU_MAX_ARGS][160];
	const char *argv[QEMU_MAX_ARGS + 1];
	unsigned num;
};

/* The command line so far; skips the case where there is no such QEMU. */
void qemu_prepare(struct qemu *qemu);
/* One more word of it. */
void qemu_word(struct qemu *qemu, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* RAM that servers can map, or that has no descriptor. */
void qemu_memory(struct qemu *qemu, unsigned mib, bool shared);
/* A vfio-user device in this slot of bus 0. */
void qemu_device(struct qemu *qemu, const char *socket, unsigned slot);
void qemu_start(struct qemu *qemu);
/* With the test as processor: adds the words for it, and starts. */
void qemu_start_qtest(struct qemu *qemu);
void qemu_end(struct qemu *qemu);

/* Memory and ports, @width 1, 2, 4 or 8 (ports: to 4). */
uint64_t qemu_load(struct qemu *qemu, uint64_t address, unsigned width);
void qemu_store(struct qemu *qemu, uint64_t address, unsigned width,
		uint64_t value);
uint32_t qemu_in(struct qemu *qemu, uint16_t port, unsigned width);
void qemu_out(struct qemu *qemu, uint16_t port, unsigned width, uint32_t value);
/* Configuration space of a slot of bus 0. */
uint32_t qemu_config(struct qemu *qemu, unsigned slot, unsigned offset);
void qemu_set_config(struct qemu *qemu, unsigned slot, unsigned offset,
		     uint32_t value);

#endif
