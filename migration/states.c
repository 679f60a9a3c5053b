/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The state machines. Each row says for one state which step leads to which
 * other; a way of several steps takes the first here and looks again. No way
 * leads through a saving state (PRE_COPY, STOP_COPY) that is not its end: what
 * a device gave there would be lost. Out of ERROR there is only the reset.
 */
#include "migration/migration.h"

#define NO (-1)
#define ERR CLEAT_MIGRATION_ERROR
#define STOP CLEAT_MIGRATION_STOP
#define RUN CLEAT_MIGRATION_RUNNING
#define SAVE CLEAT_MIGRATION_STOP_COPY
#define LOAD CLEAT_MIGRATION_RESUMING
#define PRE CLEAT_MIGRATION_PRE_COPY
#define NUM CLEAT_MIGRATION_STATES

/* Columns: ERROR STOP RUNNING STOP_COPY RESUMING (unused) PRE_COPY. */
static const signed char second[NUM][NUM] = {
	[ERR] = { NO, NO, NO, NO, NO, NO, NO },
	[STOP] = { NO, STOP, RUN, SAVE, LOAD, NO, RUN },
	[RUN] = { NO, STOP, RUN, STOP, STOP, NO, PRE },
	[SAVE] = { NO, STOP, STOP, SAVE, STOP, NO, NO },
	[LOAD] = { NO, STOP, STOP, STOP, LOAD, NO, STOP },
	[5] = { NO, NO, NO, NO, NO, NO, NO },
	[PRE] = { NO, RUN, RUN, SAVE, RUN, NO, PRE },
};

/*
 * The first generation stops to save in one step, and has no way from RESUMING
 * to anything but RUNNING: what was loaded takes effect there.
 */
static const signed char first[NUM][NUM] = {
	[ERR] = { NO, NO, NO, NO, NO, NO, NO },
	[STOP] = { NO, STOP, RUN, RUN, RUN, NO, RUN },
	[RUN] = { NO, STOP, RUN, SAVE, LOAD, NO, PRE },
	[SAVE] = { NO, STOP, STOP, SAVE, STOP, NO, NO },
	[LOAD] = { NO, RUN, RUN, RUN, LOAD, NO, RUN },
	[5] = { NO, NO, NO, NO, NO, NO, NO },
	[PRE] = { NO, RUN, RUN, SAVE, RUN, NO, PRE },
};

int cleat_migration_step(unsigned generation, unsigned from, unsigned to)
{
	if (from >= NUM || to >= NUM)
		return NO;
	return generation == 1 ? first[from][to] : second[from][to];
}

const char *cleat_migration_state_name(enum cleat_migration_state state)
{
	static const char *const names[NUM] = {
		[ERR] = "ERROR",
		[STOP] = "STOP",
		[RUN] = "RUNNING",
		[SAVE] = "STOP_COPY",
		[LOAD] = "RESUMING",
		[PRE] = "PRE_COPY",
	};
	unsigned number = (unsigned)state;

	return number < NUM && names[number] ? names[number] :
					       "an unknown state";
}
