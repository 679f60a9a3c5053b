/* SPDX-License-Identifier: BSD-2-Clause */
/* Running cleatctl, and looking at what it says. */
#ifndef TESTS_TOOLS_CTL_H
#define TESTS_TOOLS_CTL_H

#include <yajl/yajl_tree.h>

#include "tests/support/support.h"

#define CTL_TEXT 262144

/* What a run left behind: its exit status, and its output and errors. */
struct run {
	int status;
	char out[CTL_TEXT];
	char err[4096];
};

/* Runs it to its end; words up to a NULL. */
void run_ctl(struct run *run, ...) __attribute__((sentinel));
/* Begins it, under a name of its own; output and errors as child_start(). */
void start_ctl(struct child *child, const char *name, ...)
	__attribute__((sentinel));
/* What a child has written so far. */
void read_out(const char *name, char *text, size_t size);
bool out_has(const char *name, const char *words);

/* The run ended with @status and its output has each of the words. */
void require_run(const struct run *run, int status, ...)
	__attribute__((sentinel));
/* It ended with @status, printed nothing, and complained in one line that has
 * the words. */
void require_complaint(const struct run *run, int status, const char *words);

/* The output as JSON, which it must be; yajl_tree_free(). */
yajl_val parse_json(const char *text);
/* By names and numbers of elements: "regions.2.areas.0.length". The case fails
 * if it is not there. */
yajl_val json_at(yajl_val json, const char *path);
long long json_number(yajl_val json, const char *path);
const char *json_text(yajl_val json, const char *path);
size_t json_length(yajl_val json, const char *path);
/* The list of strings has this one. */
bool json_has(yajl_val json, const char *path, const char *text);

/* A server of ours at a socket; gives up when it does not take a client. */
void start_server(struct child *child, const char *name, const char *socket,
		  const char *const argv[]);
void start_probe(struct child *child, const char *socket);
/* SIGTERM; it must end with status 0. */
void stop_server(struct child *child);

#endif
