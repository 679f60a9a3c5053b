/* SPDX-License-Identifier: BSD-2-Clause */
/* What every device server does that is no device's own business. */
#ifndef BACKENDS_PROGRAM_H
#define BACKENDS_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cleat/server.h>

/* Exit statuses; an option's parser gives -1 to go on. */
enum cleat_program_status {
	PROGRAM_GO_ON = -1,
	PROGRAM_OK,
	PROGRAM_FAILED,
	PROGRAM_USAGE,
};

/* Its main.c says what it is called. */
extern const char cleat_program_name[];

/* One line on stderr, its name first; gives @status back. */
int cleat_program_say(int status, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- The command line --------------------------------------------- */

/* "--@option=@value: @what" */
int cleat_program_bad(const char *option, const char *value, const char *what);
/* And where to read on; NULL: getopt has said why. */
int cleat_program_refuse(const char *why);
/* Decimal digits and nothing else. */
bool cleat_program_number(const char *text, uint64_t least, uint64_t most,
			  uint64_t *ret);

enum cleat_program_migration {
	PROGRAM_MIGRATION_V2,
	PROGRAM_MIGRATION_V1,
	PROGRAM_MIGRATION_NONE,
};

/* --migration=@text */
int cleat_program_migration(const char *text,
			    enum cleat_program_migration *ret);

/* ---- Running ------------------------------------------------------ */

/*
 * First of all. Where a standard descriptor is closed another file would get
 * its number, and our words.
 */
int cleat_program_fds(void);
/*
 * @stop for SIGTERM and SIGINT, or SIG_IGN when it ends already and soon there
 * is no server that could be stopped.
 */
void cleat_program_signals(void (*stop)(int number));
/* --stats=@path, empty; *@ret_fd is -1 when @path is NULL. An exit status. */
int cleat_program_stats(const char *path, int *ret_fd);
/**
 * cleat_program_serve() - serve until told to stop
 * @srv:         complete
 * @socket_path: where to listen, or NULL
 * @fd:          else an inherited socket
 * @confine:     takes more rights away, once all capabilities are gone: 0 or
 *               -errno; may be NULL
 *
 * Return: an exit status; what was wrong has been said.
 */
int cleat_program_serve(struct cleat_server *srv, const char *socket_path,
			int fd, int (*confine)(void));

/*
 * @size bytes of shared memory, mapped from @offset on: 0 or -errno, with *@fd
 * and *@map as they were or the caller's to close and unmap. Sealed, so that
 * a client may map it without fear that it shrinks.
 */
int cleat_program_memory(const char *name, size_t size, size_t offset, int *fd,
			 void **map);

#endif
