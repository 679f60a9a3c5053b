/* SPDX-License-Identifier: BSD-2-Clause */
/* What a server may put into VERSION's JSON. */
#include <stdio.h>

#include "tests/hostile/scene.h"

#define CAPS(what) "{\"capabilities\":{" what "}}"

struct text {
	const char *json;
	size_t length; /* with the NUL, if there is one */
};

static int say_json(struct model *model, const struct peer_message *m)
{
	const struct text *text = model->arg;
	size_t length = 4 + text->length;
	char *body;
	int err;

	if (m->header.command != VFIO_USER_VERSION)
		return 0;
	body = calloc(1, length);
	body[2] = 1; /* version 0.1 */
	memcpy(body + 4, text->json, text->length);
	err = scene_say(model, scene_header(m, length), body, length, NULL, 0);
	free(body);
	return err;
}

static void bytes_refused(const char *json, size_t length, const char *reason)
{
	struct text text = { json, length };
	struct scene scene;

	scene_begin(&scene);
	scene.bad.on = say_json;
	scene.bad.arg = &text;
	scene_refused(&scene, -EPROTO, reason);
	scene_end(&scene);
}

static void refused(const char *json, const char *reason)
{
	bytes_refused(json, strlen(json) + 1, reason);
}

static void open_with(struct scene *scene, const char *json)
{
	static struct text text;

	text = (struct text){ json, strlen(json) + 1 };
	scene_begin(scene);
	scene->bad.on = say_json;
	scene->bad.arg = &text;
	scene_open(scene);
}

/* @length bytes of JSON that is fine but for its length. */
static char *make_long(size_t length)
{
	static const char start[] = CAPS("\"max_msg_fds\":8");
	char *json = malloc(length);

	memset(json, ' ', length);
	memcpy(json, start, sizeof(start) - 1);
	json[length - 1] = '\0';
	return json;
}

CLEAT_TC(length__a_megabyte)
{
	char *json = make_long(1u << 20);

	bytes_refused(json, 1u << 20,
		      "VERSION has 1048580 bytes, which cannot be");
	free(json);
}

CLEAT_TC(length__one_more_than_allowed)
{
	char *json = make_long(CLEAT_JSON_SIZE + 1);

	bytes_refused(json, CLEAT_JSON_SIZE + 1,
		      "VERSION has 65541 bytes, which cannot be");
	free(json);
}

CLEAT_TC(length__all_that_is_allowed)
{
	char *json = make_long(CLEAT_JSON_SIZE);
	struct scene scene;

	open_with(&scene, json);
	ATF_CHECK_EQ(0, scene_read(&scene));
	scene_end(&scene);
	free(json);
}

CLEAT_TC(text__not_terminated)
{
	bytes_refused(CAPS(""), strlen(CAPS("")), "does not end with a NUL");
}

CLEAT_TC(text__a_nul_alone)
{
	bytes_refused("", 1, "not JSON in UTF-8");
}

CLEAT_TC(text__not_utf_8)
{
	refused(CAPS("\"x\":\"\xc3\x28\""), "not JSON in UTF-8");
	refused(CAPS("\"\xff\xfe\":1"), "not JSON in UTF-8");
}

CLEAT_TC(text__cut_off)
{
	static const char json[] = CAPS("\"max_msg_fds\":8,\"x\":[true,null]");
	char part[sizeof(json)];

	for (size_t n = 1; n < sizeof(json) - 1; n++) {
		memcpy(part, json, n);
		part[n] = '\0';
		refused(part, "not JSON in UTF-8");
	}
}

CLEAT_TC(text__no_object)
{
	refused("[]", "not inside an object");
	refused("17", "not inside an object");
	refused("\"capabilities\"", "not inside an object");
	refused("{\"capabilities\":[]}", "must be an object");
	refused(CAPS("\"twin_socket\":true"), "must be an object");
}

/* Where nobody looks, so that nothing but the depth is wrong. */
static void nested_arrays(unsigned depth)
{
	char *json = calloc(1, 2 * depth + 20);

	strcpy(json, "{\"x\":");
	memset(json + 5, '[', depth);
	memset(json + 5 + depth, ']', depth);
	json[5 + 2 * depth] = '}';
	refused(json, "nested too deep");
	free(json);
}

CLEAT_TC(nesting__a_thousand_arrays)
{
	nested_arrays(1000);
	nested_arrays(CLEAT_JSON_DEPTH);
}

CLEAT_TC(nesting__a_thousand_objects)
{
	static char json[8 * 1000];
	char *end = json;

	for (unsigned i = 0; i < 1000; i++)
		end += sprintf(end, "{\"a\":");
	end += sprintf(end, "1");
	memset(end, '}', 1000);
	refused(json, "nested too deep");
}

CLEAT_TC(value__of_the_wrong_type)
{
	static const char *const wrong[] = {
		CAPS("\"max_msg_fds\":\"8\""), CAPS("\"max_msg_fds\":true"),
		CAPS("\"max_msg_fds\":8.5"), CAPS("\"max_msg_fds\":null"),
		CAPS("\"max_data_xfer_size\":[1]"),
		CAPS("\"max_dma_maps\":{}"), CAPS("\"pgsizes\":\"4096\""),
		CAPS("\"write_multiple\":1"),
		CAPS("\"twin_socket\":{\"supported\":\"yes\"}"),
		CAPS("\"twin_socket\":{\"fd_index\":0.5}"),
		CAPS("\"migration\":{\"pgsize\":false}"),
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		refused(wrong[i], "wrong type");
}

CLEAT_TC(value__out_of_range)
{
	static const char *const wrong[] = {
		CAPS("\"max_msg_fds\":-1"),
		CAPS("\"max_data_xfer_size\":0"),
		CAPS("\"max_data_xfer_size\":-4096"),
		CAPS("\"pgsizes\":0"),
		CAPS("\"migration\":{\"pgsize\":0}"),
		CAPS("\"twin_socket\":{\"fd_index\":4294967296}"),
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		refused(wrong[i], "out of range");
	refused(CAPS("\"max_dma_maps\":99999999999999999999"),
		"not JSON in UTF-8");
}

CLEAT_TC(key__of_sixty_thousand_bytes)
{
	static char json[61000] = "{\"capabilities\":{\"max_msg_fds";
	size_t at = strlen(json);
	struct scene scene;

	memset(json + at, 'x', 60000);
	strcpy(json + at + 60000, "\":\"no number\"}}");
	open_with(&scene, json);
	ATF_CHECK_EQ(0, scene_read(&scene));
	scene_end(&scene);
}

/* More than there can be is as much as there can be. */
CLEAT_TC(value__generous)
{
	struct cleat_device_info info = { .size = sizeof(info) };
	struct scene scene;

	open_with(&scene, CAPS("\"max_msg_fds\":4000000000,"
			       "\"max_data_xfer_size\":9000000000000000000,"
			       "\"max_dma_maps\":9000000000000000000"));
	ATF_REQUIRE_EQ(0, cleat_device_info(scene.dev, &info));
	ATF_CHECK_EQ(CLEAT_MAX_FDS, info.max_msg_fds);
	ATF_CHECK_EQ(CLEAT_MAX_TRANSFER, info.max_transfer);
	ATF_CHECK_EQ(UINT32_MAX, info.max_dma_maps);
	scene_end(&scene);
}

/* One byte in each message, and no descriptor, no range, no page. */
CLEAT_TC(value__mean)
{
	static const uint8_t sent[12] = "eleven byte";
	uint8_t back[12] = { 0 };
	struct scene scene;

	open_with(&scene, CAPS("\"max_data_xfer_size\":1,\"max_msg_fds\":0"));
	ATF_CHECK_EQ(0, cleat_region_write(scene.dev, 0, 0, sent, 12));
	ATF_CHECK_EQ(0, cleat_region_read(scene.dev, 0, 0, back, 12));
	ATF_CHECK_EQ(0, memcmp(sent, back, 12));
	ATF_CHECK_EQ(12, model_count(&scene.bad, VFIO_USER_REGION_WRITE));
	scene_end(&scene);
}

static void memory_refused(const char *json, int code)
{
	struct cleat_memory *memory;
	struct cleat_memory_range range = { .size = sizeof(range),
					    .rights = CLEAT_READ,
					    .length = 4096,
					    .fd = -1 };
	struct scene scene;

	open_with(&scene, json);
	range.host = aligned_alloc(4096, 4096);
	ATF_REQUIRE_EQ(0, cleat_memory_create(&memory));
	ATF_REQUIRE_EQ(0, cleat_memory_add(memory, &range));
	ATF_CHECK_EQ(code, cleat_memory_attach(memory, scene.dev));
	ATF_CHECK_EQ(0, cleat_memory_attach(memory, scene.friend));
	scene_stands(&scene);
	cleat_memory_unref(memory);
	free(range.host);
	scene_end(&scene);
}

CLEAT_TC(value__takes_no_memory)
{
	memory_refused(CAPS("\"max_dma_maps\":0"), -ENOSPC);
}

CLEAT_TC(value__pages_of_the_size_of_the_world)
{
	memory_refused(CAPS("\"pgsizes\":4611686018427387904"), -EINVAL);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, length__a_megabyte);
	ATF_TP_ADD_TC(tp, length__one_more_than_allowed);
	ATF_TP_ADD_TC(tp, length__all_that_is_allowed);
	ATF_TP_ADD_TC(tp, text__not_terminated);
	ATF_TP_ADD_TC(tp, text__a_nul_alone);
	ATF_TP_ADD_TC(tp, text__not_utf_8);
	ATF_TP_ADD_TC(tp, text__cut_off);
	ATF_TP_ADD_TC(tp, text__no_object);
	ATF_TP_ADD_TC(tp, nesting__a_thousand_arrays);
	ATF_TP_ADD_TC(tp, nesting__a_thousand_objects);
	ATF_TP_ADD_TC(tp, value__of_the_wrong_type);
	ATF_TP_ADD_TC(tp, value__out_of_range);
	ATF_TP_ADD_TC(tp, key__of_sixty_thousand_bytes);
	ATF_TP_ADD_TC(tp, value__generous);
	ATF_TP_ADD_TC(tp, value__mean);
	ATF_TP_ADD_TC(tp, value__takes_no_memory);
	ATF_TP_ADD_TC(tp, value__pages_of_the_size_of_the_world);
	return atf_no_error();
}
