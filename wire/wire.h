/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wire: bytes and descriptors. Message structs, header checks, sendmsg and
 * recvmsg with descriptors, the peers' capability JSON, owned-fd helpers.
 * No threads and no policy; both ends of a connection use it.
 */
#ifndef CLEAT_WIRE_H
#define CLEAT_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include <cleat/error.h>

/**
 * cleat_fail() - fill in a caller's struct cleat_error
 * @reterr: the caller's storage, or NULL
 * @origin: who is to blame
 * @code:   negative errno
 * @format: printf format of one line without a newline
 *
 * Return: @code, so that a failing function can end with
 * "return cleat_fail(...)".
 */
int cleat_fail(struct cleat_error *reterr, enum cleat_error_origin origin,
	       int code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
