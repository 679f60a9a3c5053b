/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One command of the control socket: a flat JSON object whose members are all
 * known. Whoever is at the other end, a line costs what a line can hold.
 */
#include <errno.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "vmm/vmm.h"

#define MEMBER(name)                                                           \
	{ #name, offsetof(struct command, name),                               \
	  sizeof(((struct command *)NULL)->name) }

static const struct member {
	const char *name;
	size_t offset;
	size_t size;
} members[] = {
	MEMBER(command),
	MEMBER(to),
	MEMBER(then),
};

#define MEMBERS (sizeof(members) / sizeof(members[0]))

struct parse {
	struct command *command;
	const struct member *member; /* whose value comes next */
	bool seen[MEMBERS];
	bool open;
	const char *why;
};

/* Return: what makes yajl stop. */
static int refuse(struct parse *parse, const char *why)
{
	parse->why = why;
	return 0;
}

static int on_open(void *opaque)
{
	struct parse *parse = opaque;

	if (parse->open)
		return refuse(parse, "an object inside the object");
	parse->open = true;
	return 1;
}

static int on_list(void *opaque)
{
	return refuse(opaque, "a list is no value here");
}

static int on_key(void *opaque, const unsigned char *key, size_t length)
{
	struct parse *parse = opaque;
	size_t i;

	for (i = 0; i < MEMBERS; i++)
		if (length == strlen(members[i].name) &&
		    !memcmp(key, members[i].name, length))
			break;
	if (i == MEMBERS)
		return refuse(parse, "an unknown member");
	if (parse->seen[i])
		return refuse(parse, "a member is there twice");
	parse->seen[i] = true;
	parse->member = &members[i];
	return 1;
}

static int on_string(void *opaque, const unsigned char *text, size_t length)
{
	struct parse *parse = opaque;

	if (!parse->member)
		return refuse(parse, "not an object");
	if (length >= parse->member->size)
		return refuse(parse, "a string is too long");
	if (memchr(text, 0, length))
		return refuse(parse, "a string with a NUL");
	memcpy((char *)parse->command + parse->member->offset, text, length);
	return 1;
}

static int on_null(void *opaque)
{
	return refuse(opaque, "a value is no string");
}

static int on_boolean(void *opaque, int value)
{
	return refuse(opaque, "a value is no string");
}

static int on_number(void *opaque, const char *text, size_t length)
{
	return refuse(opaque, "a value is no string");
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_boolean,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_open,
	.yajl_map_key = on_key,
	.yajl_start_array = on_list,
};

int cleat_vmm_command_parse(const char *line, size_t length,
			    struct command *ret, const char **ret_why)
{
	struct parse parse = { .command = ret };
	yajl_handle handle = yajl_alloc(&callbacks, NULL, &parse);
	yajl_status status;

	memset(ret, 0, sizeof(*ret));
	*ret_why = "no memory";
	if (!handle)
		return -EINVAL;
	status = yajl_parse(handle, (const unsigned char *)line, length);
	if (status == yajl_status_ok)
		status = yajl_complete_parse(handle);
	yajl_free(handle);
	if (status == yajl_status_ok && parse.open && ret->command[0])
		return 0;
	*ret_why = parse.why ? parse.why :
		   status != yajl_status_ok ? "not a JSON object" :
					      "no member \"command\"";
	return -EINVAL;
}
