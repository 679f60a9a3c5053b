/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CLEAT_CANCEL_H
#define CLEAT_CANCEL_H

#include <cleat/api.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct cleat_cancel - the handle by which a waiting thread is called back
 *
 * A thread that may have to be called out of a wait inside the library (a
 * vCPU thread, above all) makes one and enters it. While it is set, every wait
 * of that thread inside the library ends within 100 ms: trapped accesses with
 * -EINTR (call again with the same exit, the request is not sent twice), all
 * other calls with -ECANCELED.
 */
struct cleat_cancel;

/**
 * cleat_cancel_create() - make a cancel handle, not set
 * @ret_cancel: the handle
 *
 * Context: any thread. Does not sleep.
 * Return: 0 or -ENOMEM.
 * Ownership: the caller's; cleat_cancel_destroy() ends it.
 */
CLEAT_API int cleat_cancel_create(struct cleat_cancel **ret_cancel);

/**
 * cleat_cancel_destroy() - free a handle
 * @cancel: may be NULL
 *
 * An access that was parked under the handle (ended by -EINTR and not called
 * again) is given up. No thread may be inside the library under it.
 *
 * Context: any thread. Does not sleep.
 */
CLEAT_API void cleat_cancel_destroy(struct cleat_cancel *cancel);

/**
 * cleat_cancel_enter() - let the calling thread be called back by a handle
 * @cancel: the handle, or NULL to leave the one entered before
 *
 * A handle belongs to one thread at a time.
 *
 * Context: any thread. Does not sleep.
 */
CLEAT_API void cleat_cancel_enter(struct cleat_cancel *cancel);

/**
 * cleat_cancel_set() - call the handle's thread back
 * @cancel: the handle
 *
 * Stays set until cleat_cancel_clear(): a wait that begins later ends at once.
 *
 * Context: any thread; not a signal handler. Does not sleep.
 */
CLEAT_API void cleat_cancel_set(struct cleat_cancel *cancel);

/**
 * cleat_cancel_clear() - let the handle's thread wait again
 * @cancel: the handle
 *
 * Context: any thread. Does not sleep.
 */
CLEAT_API void cleat_cancel_clear(struct cleat_cancel *cancel);

#ifdef __cplusplus
}
#endif

#endif
