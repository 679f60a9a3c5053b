/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "backends/json.h"

yajl_gen cleat_json_begin(void)
{
	yajl_gen gen = yajl_gen_alloc(NULL);

	if (!gen)
		return NULL;
	yajl_gen_config(gen, yajl_gen_beautify, 1);
	yajl_gen_map_open(gen);
	return gen;
}

void cleat_json_key(yajl_gen gen, const char *name)
{
	yajl_gen_string(gen, (const unsigned char *)name, strlen(name));
}

void cleat_json_number(yajl_gen gen, const char *name, uint64_t value)
{
	cleat_json_key(gen, name);
	yajl_gen_integer(gen, (long long)value);
}

void cleat_json_open(yajl_gen gen, const char *name)
{
	cleat_json_key(gen, name);
	yajl_gen_map_open(gen);
}

static int put(int fd, const unsigned char *text, size_t length)
{
	/* Pipes and terminals have no beginning to go back to. */
	if (!ftruncate(fd, 0))
		lseek(fd, 0, SEEK_SET);
	else if (errno != EINVAL)
		return -errno;
	while (length) {
		ssize_t done = write(fd, text, length);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? -errno : -EIO;
		text += done;
		length -= (size_t)done;
	}
	return 0;
}

int cleat_json_end(yajl_gen gen, int fd)
{
	const unsigned char *text;
	size_t length;
	int err = -ENOMEM;

	yajl_gen_map_close(gen);
	if (yajl_gen_get_buf(gen, &text, &length) == yajl_gen_status_ok)
		err = put(fd, text, length);
	yajl_gen_free(gen);
	return err;
}
