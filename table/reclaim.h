/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TABLE_RECLAIM_H
#define TABLE_RECLAIM_H

#include <stdbool.h>

/*
 * The first member of every block that readers may still look at when it is
 * thrown away. They never look at this member, so it may be written at once.
 */
struct cleat_garbage {
	struct cleat_garbage *next;
	bool dropped; /* made and given up within one update */
};

/*
 * One thread per process frees them, after a grace period. It lives as long as
 * somebody uses it; the last put returns when all is freed and it has ended.
 */
int cleat_reclaim_get(void);
void cleat_reclaim_put(void);
bool cleat_reclaim_is_used(void);

/* Hand over a list, linked by @next, to be given to free(). Does not sleep. */
void cleat_reclaim(struct cleat_garbage *list);

#endif
