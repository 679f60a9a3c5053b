/* SPDX-License-Identifier: BSD-2-Clause */
/* Statistics as JSON. */
#ifndef BACKENDS_JSON_H
#define BACKENDS_JSON_H

#include <stdint.h>
#include <yajl/yajl_gen.h>

/* The outermost object, open; NULL without memory. */
yajl_gen cleat_json_begin(void);
void cleat_json_key(yajl_gen gen, const char *name);
void cleat_json_number(yajl_gen gen, const char *name, uint64_t value);
/* An object as a member; yajl_gen_map_close() ends it. */
void cleat_json_open(yajl_gen gen, const char *name);
/* Ends it, and puts it into the file in place of what is there: 0 or -errno. */
int cleat_json_end(yajl_gen gen, int fd);

#endif
