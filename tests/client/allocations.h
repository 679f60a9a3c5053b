/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TESTS_ALLOCATIONS_H
#define TESTS_ALLOCATIONS_H

/* Of the calling thread, so far: malloc(), calloc() and realloc(). */
unsigned allocations_here(void);

#endif
