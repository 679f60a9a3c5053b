/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Machines that move. Their guest checks its own memory: it counts up a word in
 * each of 512 pages, all of which must be as it left them, and prints the
 * count; so a page that is lost is a triple fault, and what two programs
 * printed, one after the other, must be every number once.
 */
#ifndef TESTS_VMM_MOVING_H
#define TESTS_VMM_MOVING_H

#include "tests/vmm/guest.h"

#define QUIT "{\"command\":\"quit\"}"
#define STATUS "{\"command\":\"status\"}"
#define CANCEL "{\"command\":\"cancel\"}"
#define OK "{\"ok\":true}"

/* At source.sock and target.sock; @device: a server's socket, or NULL. */
void start_source(struct child *vmm, const char *device);
/* The same with the guest in the file "kernel", which counts up and prints. */
void start_prepared(struct child *vmm, const char *device);
void start_target(struct child *vmm, const char *from, const char *device);
/* Begins it. */
void migrate(int control, const char *to, const char *then);
/* Asks until the answer has the words; the answer, in static storage. */
const char *await_status(int control, const char *words);
void quit(struct child *vmm, int control);

/* Bytes that a machine has printed; and those, after others. */
size_t printed(const char *name);
size_t append(const char *name, uint8_t *to, size_t room);
/* Every number once, whoever printed it. */
void require_all_counted(const char *one, const char *two);
/* It runs, and all that it printed is right. */
void require_runs_on(const char *name);

/* The source does not get there, says why, and runs on. */
void fail_to(int control, const char *to, const char *words);
/* The source gets to a target at move.sock, and that does all that is right. */
void arrive(struct child *source, int control, const char *device);

/*
 * A target at move.sock, as a script: takes @count bytes and then dies, or with
 * @stay waits until the source hangs up.
 */
struct taker {
	size_t count;
	bool stay;
	atomic_bool full;
	int listener;
	struct script script;
};

void taker_start(struct taker *taker, size_t count, bool stay);
void taker_end(struct taker *taker);

#endif
