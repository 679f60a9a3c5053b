/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/support/support.h"
#include "wire/wire.h"

static int parse(const char *json, struct cleat_capabilities *caps)
{
	return cleat_capabilities_parse(json, strlen(json) + 1, caps, NULL);
}

CLEAT_TC(parse__nothing_at_all)
{
	struct cleat_capabilities caps;

	ATF_REQUIRE_EQ(0, cleat_capabilities_parse(NULL, 0, &caps, NULL));
	ATF_CHECK_EQ(1, caps.max_msg_fds);
	ATF_CHECK_EQ(1048576, caps.max_data_xfer_size);
	ATF_CHECK_EQ(65535, caps.max_dma_maps);
	ATF_CHECK_EQ(4096, caps.page_sizes);
	ATF_CHECK_EQ(-1, caps.twin_fd_index);
	ATF_CHECK(!caps.twin_supported && !caps.write_multiple);
	ATF_CHECK(!caps.has_migration);
}

CLEAT_TC(parse__both_generations)
{
	struct cleat_capabilities caps;

	/* What two clients that are in use send. */
	ATF_REQUIRE_EQ(0, parse("{\"capabilities\":{\"max_msg_fds\":8,"
				"\"max_data_xfer_size\":1048576,"
				"\"migration\":{\"pgsize\":4096}}}",
				&caps));
	ATF_CHECK_EQ(8, caps.max_msg_fds);
	ATF_CHECK(caps.has_migration);
	ATF_CHECK_EQ(4096, caps.migration_pgsize);
	ATF_REQUIRE_EQ(0, parse("{\"capabilities\":{\"pgsizes\":4096,"
				"\"max_msg_fds\":16,\"max_dma_maps\":65535,"
				"\"max_data_xfer_size\":1048576,"
				"\"migration\":{\"max_bitmap_size\":268435456,"
				"\"pgsize\":4096},\"write_multiple\":true,"
				"\"twin_socket\":{\"supported\":true,"
				"\"fd_index\":0}}}",
				&caps));
	ATF_CHECK(caps.write_multiple && caps.twin_supported);
	ATF_CHECK_EQ(0, caps.twin_fd_index);
	ATF_CHECK_EQ(268435456, caps.max_bitmap_size);
}

CLEAT_TC(parse__unknown_keys_passed_over)
{
	struct cleat_capabilities caps;

	ATF_REQUIRE_EQ(0, parse("{\"max_msg_fds\":\"not here\",\"x\":{"
				"\"capabilities\":{\"max_msg_fds\":5}},"
				"\"capabilities\":{\"new\":{\"max_msg_fds\":6,"
				"\"pgsize\":[{}]},\"also\":[1,[2,{\"a\":3}]],"
				"\"max_msg_fds\":7,\"f\":1.5,\"n\":null}}",
				&caps));
	ATF_CHECK_EQ(7, caps.max_msg_fds);
	ATF_CHECK(!caps.has_migration);
}

CLEAT_TC(parse__refused)
{
	static const char *const wrong[] = {
		"{\"capabilities\":{\"max_msg_fds\":\"8\"}}",
		"{\"capabilities\":{\"max_msg_fds\":-1}}",
		"{\"capabilities\":{\"max_msg_fds\":1.5}}",
		"{\"capabilities\":{\"max_msg_fds\":[8]}}",
		"{\"capabilities\":{\"max_msg_fds\":{}}}",
		"{\"capabilities\":{\"max_msg_fds\":null}}",
		"{\"capabilities\":{\"max_msg_fds\":99999999999999999999}}",
		"{\"capabilities\":{\"max_data_xfer_size\":0}}",
		"{\"capabilities\":{\"write_multiple\":1}}",
		"{\"capabilities\":{\"twin_socket\":true}}",
		"{\"capabilities\":{\"twin_socket\":{\"fd_index\":-1}}}",
		"{\"capabilities\":{\"migration\":[]}}",
		"{\"capabilities\":{\"migration\":{\"pgsize\":0}}}",
		"{\"capabilities\":7}",
		"7",
		"[]",
		"",
		"{",
		"{\"capabilities\":{}}x",
		"{\"capabilities\":{\"a\":\"\xff\xfe\"}}",
	};
	struct cleat_capabilities caps;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ATF_CHECK_EQ_MSG(-EPROTO, parse(wrong[i], &caps), "%s",
				 wrong[i]);
	ATF_CHECK_EQ(-EPROTO, cleat_capabilities_parse("{}", 2, &caps, NULL));
}

CLEAT_TC(parse__nested_deep_or_long)
{
	struct cleat_capabilities caps;
	struct cleat_error why;
	size_t size = CLEAT_JSON_SIZE + 1;
	char *json = malloc(size);

	strcpy(json, "{\"capabilities\":{\"x\":");
	memset(json + strlen(json), '[', 1000);
	json[1021] = '\0';
	ATF_CHECK_EQ(-EPROTO,
		     cleat_capabilities_parse(json, 1022, &caps, &why));
	ATF_CHECK_MATCH("nested too deep", why.text);
	memset(json, ' ', size);
	json[size - 1] = '\0';
	ATF_CHECK_EQ(-EPROTO,
		     cleat_capabilities_parse(json, size, &caps, &why));
	ATF_CHECK_MATCH("bytes of JSON", why.text);
	free(json);
}

CLEAT_TC(print__parses_back)
{
	struct cleat_capabilities out, in;
	char json[512];
	ssize_t size;

	cleat_capabilities_default(&out);
	out.max_msg_fds = 9;
	out.twin_supported = true;
	out.twin_fd_index = 2;
	out.write_multiple = true;
	out.has_migration = true;
	out.migration_pgsize = 4096;
	size = cleat_capabilities_print(&out, false, json, sizeof(json));
	ATF_REQUIRE(size > 0);
	ATF_REQUIRE_EQ(0,
		       cleat_capabilities_parse(json, (size_t)size, &in, NULL));
	ATF_CHECK_EQ(9, in.max_msg_fds);
	ATF_CHECK_EQ(2, in.twin_fd_index);
	ATF_CHECK(in.write_multiple && in.has_migration);
	ATF_CHECK_EQ(-ENOBUFS, cleat_capabilities_print(&out, true, json, 20));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, parse__nothing_at_all);
	ATF_TP_ADD_TC(tp, parse__both_generations);
	ATF_TP_ADD_TC(tp, parse__unknown_keys_passed_over);
	ATF_TP_ADD_TC(tp, parse__refused);
	ATF_TP_ADD_TC(tp, parse__nested_deep_or_long);
	ATF_TP_ADD_TC(tp, print__parses_back);
	return atf_no_error();
}
