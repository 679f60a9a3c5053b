/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CLEAT_ERROR_H
#define CLEAT_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/**
 * enum cleat_error_origin - who is to blame
 * @CLEAT_ORIGIN_LOCAL:     the caller, or this machine (a bad argument, no
 *                          memory, no such socket)
 * @CLEAT_ORIGIN_TRANSPORT: the connection, or a server that broke the protocol
 * @CLEAT_ORIGIN_DEVICE:    the server answered, and the answer was an error
 */
enum cleat_error_origin {
	CLEAT_ORIGIN_LOCAL = 0,
	CLEAT_ORIGIN_TRANSPORT = 1,
	CLEAT_ORIGIN_DEVICE = 2,
};

#define CLEAT_ERROR_TEXT 256

/**
 * struct cleat_error - why a set-up call failed, for people
 * @code:   the negative errno that the call returned
 * @origin: who is to blame
 * @text:   one line without a newline, NUL-terminated, never empty; bytes that
 *          came from a server are made printable
 *
 * Storage of the caller's, written only on failure. May be NULL in every call
 * that takes one.
 */
struct cleat_error {
	int code;
	enum cleat_error_origin origin;
	char text[CLEAT_ERROR_TEXT];
};

#ifdef __cplusplus
}
#endif

#endif
