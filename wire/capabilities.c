/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <yajl/yajl_gen.h>
#include <yajl/yajl_parse.h>

#include "wire/wire.h"

/* What a key must be. */
enum kind {
	KIND_U32,
	KIND_U64,
	KIND_INDEX,
	KIND_BOOL,
};

static const struct key {
	const char *object; /* inside "capabilities"; NULL: itself */
	const char *name;
	enum kind kind;
	size_t offset;
	long long min, max;
} keys[] = {
#define KEY(object, name, kind, member, min, max)                             \
	{                                                                     \
		object, name, kind,                                           \
			offsetof(struct cleat_capabilities, member), min, max \
	}
	KEY(NULL, "max_msg_fds", KIND_U32, max_msg_fds, 0, UINT32_MAX),
	KEY(NULL, "max_data_xfer_size", KIND_U32, max_data_xfer_size, 1,
	    LLONG_MAX),
	KEY(NULL, "max_dma_maps", KIND_U32, max_dma_maps, 0, LLONG_MAX),
	KEY(NULL, "pgsizes", KIND_U64, page_sizes, 1, LLONG_MAX),
	KEY(NULL, "write_multiple", KIND_BOOL, write_multiple, 0, 1),
	KEY("twin_socket", "supported", KIND_BOOL, twin_supported, 0, 1),
	KEY("twin_socket", "fd_index", KIND_INDEX, twin_fd_index, 0, INT_MAX),
	KEY("migration", "pgsize", KIND_U64, migration_pgsize, 1, LLONG_MAX),
	KEY("migration", "max_bitmap_size", KIND_U64, max_bitmap_size, 0,
	    LLONG_MAX),
#undef KEY
};

/*
 * The parser's state. Only the path to where we are is kept, and of it only
 * what can lead to a known key; the peer's nesting costs nothing.
 */
struct parser {
	struct cleat_capabilities *caps;
	struct cleat_error *reterr;
	int error;
	unsigned depth;
	unsigned known; /* levels of the path that are known objects */
	char path[2][24]; /* names of objects at levels 1 and 2 */
	char key[24];
};

static int refuse(struct parser *p, const char *why)
{
	if (!p->error)
		p->error = cleat_fail(p->reterr, CLEAT_ORIGIN_TRANSPORT,
				      -EPROTO, "VERSION: capability \"%s\": %s",
				      p->key, why);
	return 0;
}

/* Inside "capabilities" or an object in it, and the path to it is known. */
static bool in_capabilities(const struct parser *p)
{
	return p->depth == p->known && p->known >= 2;
}

static const struct key *find_key(const struct parser *p)
{
	if (!in_capabilities(p))
		return NULL;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		const struct key *k = &keys[i];

		if (strcmp(k->name, p->key) != 0)
			continue;
		if (p->known == 2 ? !k->object
				  : k->object && !strcmp(k->object, p->path[1]))
			return k;
	}
	return NULL;
}

/* An object is known by its name, and must then be one. */
static bool names_object(const struct parser *p)
{
	if (p->depth != p->known)
		return false;
	if (p->known == 1)
		return strcmp(p->key, "capabilities") == 0;
	return p->known == 2 && (strcmp(p->key, "twin_socket") == 0 ||
				 strcmp(p->key, "migration") == 0);
}

static int on_scalar(struct parser *p)
{
	if (p->depth == 0)
		return refuse(p, "not inside an object");
	if (names_object(p))
		return refuse(p, "must be an object");
	if (find_key(p))
		return refuse(p, "wrong type");
	return 1;
}

static int on_null(void *opaque)
{
	return on_scalar(opaque);
}

static int on_boolean(void *opaque, int value)
{
	struct parser *p = opaque;
	const struct key *k = find_key(p);

	if (!k || k->kind != KIND_BOOL)
		return on_scalar(p);
	*(bool *)((char *)p->caps + k->offset) = value;
	return 1;
}

static int on_integer(void *opaque, long long value)
{
	struct parser *p = opaque;
	const struct key *k = find_key(p);
	void *to;

	if (!k || k->kind == KIND_BOOL)
		return on_scalar(p);
	if (value < k->min || value > k->max)
		return refuse(p, "out of range");
	to = (char *)p->caps + k->offset;
	if (k->kind == KIND_U64)
		*(uint64_t *)to = (uint64_t)value;
	else if (k->kind == KIND_INDEX)
		*(int *)to = (int)value;
	else /* a limit larger than we can count to is no limit */
		*(uint32_t *)to =
			value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
	return 1;
}

static int on_double(void *opaque, double value)
{
	return on_scalar(opaque);
}

static int on_string(void *opaque, const unsigned char *s, size_t length)
{
	return on_scalar(opaque);
}

static int on_key(void *opaque, const unsigned char *s, size_t length)
{
	struct parser *p = opaque;

	/* No known key is as long as the room: a longer one is an unknown. */
	if (length >= sizeof(p->key))
		length = sizeof(p->key) - 1;
	memcpy(p->key, s, length);
	p->key[length] = '\0';
	return 1;
}

static int descend(struct parser *p)
{
	if (p->depth == CLEAT_JSON_DEPTH)
		return refuse(p, "nested too deep");
	p->depth++;
	return 1;
}

static int on_start_map(void *opaque)
{
	struct parser *p = opaque;

	if (p->depth == 0) {
		p->known = 1;
	} else if (names_object(p)) {
		memcpy(p->path[p->known - 1], p->key, sizeof(p->key));
		p->known++;
		if (p->known == 3 && strcmp(p->key, "migration") == 0)
			p->caps->has_migration = true;
	} else if (find_key(p)) {
		return refuse(p, "wrong type");
	}
	return descend(p);
}

static int on_end(void *opaque)
{
	struct parser *p = opaque;

	if (p->known == p->depth)
		p->known--;
	p->depth--;
	return 1;
}

static int on_start_array(void *opaque)
{
	return on_scalar(opaque) && descend(opaque);
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_boolean,
	.yajl_integer = on_integer,
	.yajl_double = on_double,
	.yajl_string = on_string,
	.yajl_start_map = on_start_map,
	.yajl_map_key = on_key,
	.yajl_end_map = on_end,
	.yajl_start_array = on_start_array,
	.yajl_end_array = on_end,
};

void cleat_capabilities_default(struct cleat_capabilities *caps)
{
	*caps = (struct cleat_capabilities){
		.max_msg_fds = CLEAT_DEFAULT_MSG_FDS,
		.max_data_xfer_size = CLEAT_MAX_TRANSFER,
		.max_dma_maps = CLEAT_DEFAULT_DMA_MAPS,
		.page_sizes = CLEAT_DEFAULT_PAGE_SIZES,
		.twin_fd_index = -1,
		.migration_pgsize = CLEAT_DEFAULT_PAGE_SIZES,
	};
}

static int run_parser(struct parser *p, const char *json, size_t length)
{
	yajl_handle handle = yajl_alloc(&callbacks, NULL, p);
	yajl_status status;

	if (!handle)
		return cleat_fail(p->reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "out of memory");
	status = yajl_parse(handle, (const unsigned char *)json, length);
	if (status == yajl_status_ok)
		status = yajl_complete_parse(handle);
	yajl_free(handle);
	if (p->error)
		return p->error;
	if (status != yajl_status_ok)
		return cleat_fail(p->reterr, CLEAT_ORIGIN_TRANSPORT, -EPROTO,
				  "VERSION: its data is not JSON in UTF-8");
	return 0;
}

int cleat_capabilities_parse(const char *json, size_t size,
			     struct cleat_capabilities *caps,
			     struct cleat_error *reterr)
{
	struct parser p = { .caps = caps, .reterr = reterr };

	cleat_capabilities_default(caps);
	if (size == 0)
		return 0;
	if (size > CLEAT_JSON_SIZE)
		return cleat_fail(reterr, CLEAT_ORIGIN_TRANSPORT, -EPROTO,
				  "VERSION: %zu bytes of JSON, %u are allowed",
				  size, CLEAT_JSON_SIZE);
	if (json[size - 1] != '\0')
		return cleat_fail(reterr, CLEAT_ORIGIN_TRANSPORT, -EPROTO,
				  "VERSION: its JSON does not end with a NUL");
	return run_parser(&p, json, strnlen(json, size));
}

static void print_number(yajl_gen gen, const char *key, uint64_t value)
{
	yajl_gen_string(gen, (const unsigned char *)key, strlen(key));
	yajl_gen_integer(gen, (long long)value);
}

static void print_bool(yajl_gen gen, const char *key, bool value)
{
	yajl_gen_string(gen, (const unsigned char *)key, strlen(key));
	yajl_gen_bool(gen, value);
}

static void print_object(yajl_gen gen, const char *key)
{
	yajl_gen_string(gen, (const unsigned char *)key, strlen(key));
	yajl_gen_map_open(gen);
}

static void print_capabilities(yajl_gen gen,
			       const struct cleat_capabilities *caps,
			       bool request)
{
	yajl_gen_map_open(gen);
	print_object(gen, "capabilities");
	print_number(gen, "max_msg_fds", caps->max_msg_fds);
	print_number(gen, "max_data_xfer_size", caps->max_data_xfer_size);
	print_number(gen, "max_dma_maps", caps->max_dma_maps);
	print_number(gen, "pgsizes", caps->page_sizes);
	if (caps->has_migration) {
		print_object(gen, "migration");
		print_number(gen, "pgsize", caps->migration_pgsize);
		if (caps->max_bitmap_size)
			print_number(gen, "max_bitmap_size",
				     caps->max_bitmap_size);
		yajl_gen_map_close(gen);
	}
	if (caps->twin_supported) {
		print_object(gen, "twin_socket");
		print_bool(gen, "supported", true);
		if (!request && caps->twin_fd_index >= 0)
			print_number(gen, "fd_index",
				     (uint64_t)caps->twin_fd_index);
		yajl_gen_map_close(gen);
	}
	if (caps->write_multiple)
		print_bool(gen, "write_multiple", true);
	yajl_gen_map_close(gen);
	yajl_gen_map_close(gen);
}

ssize_t cleat_capabilities_print(const struct cleat_capabilities *caps,
				 bool request, char *buf, size_t size)
{
	yajl_gen gen = yajl_gen_alloc(NULL);
	const unsigned char *text;
	size_t length;
	ssize_t n = -ENOBUFS;

	if (!gen)
		return -ENOMEM;
	print_capabilities(gen, caps, request);
	if (yajl_gen_get_buf(gen, &text, &length) == yajl_gen_status_ok &&
	    length < size) {
		memcpy(buf, text, length);
		buf[length] = '\0';
		n = (ssize_t)length + 1;
	}
	yajl_gen_free(gen);
	return n;
}
