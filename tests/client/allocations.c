/* SPDX-License-Identifier: BSD-2-Clause */
/* The linker leads the library's allocations here (--wrap). */
#include <stdlib.h>

#include "tests/client/allocations.h"

static _Thread_local unsigned allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t num, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t num, size_t size);
void *__wrap_realloc(void *old, size_t size);

unsigned allocations_here(void)
{
	return allocations;
}

void *__wrap_malloc(size_t size)
{
	allocations++;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t num, size_t size)
{
	allocations++;
	return __real_calloc(num, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	allocations++;
	return __real_realloc(old, size);
}
