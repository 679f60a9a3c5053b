/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/support/support.h"
#include "wire/wire.h"

CLEAT_TC(fail__fills_in)
{
	struct cleat_error why = { 0 };

	ATF_REQUIRE_EQ(-ENOENT, cleat_fail(&why, CLEAT_ORIGIN_DEVICE, -ENOENT,
					   "region %u: %s", 7, "none"));
	ATF_REQUIRE_EQ(-ENOENT, why.code);
	ATF_REQUIRE_EQ(CLEAT_ORIGIN_DEVICE, why.origin);
	ATF_REQUIRE_STREQ("region 7: none", why.text);
}

CLEAT_TC(fail__nowhere_to_write)
{
	ATF_REQUIRE_EQ(-EIO, cleat_fail(NULL, CLEAT_ORIGIN_LOCAL, -EIO, "x"));
}

CLEAT_TC(fail__hostile_text)
{
	struct cleat_error why;

	cleat_fail(&why, CLEAT_ORIGIN_DEVICE, -EIO, "%s", "a\nb\033[2Jc\177");
	ATF_REQUIRE_STREQ("a?b?[2Jc?", why.text);
}

CLEAT_TC(fail__text_too_long)
{
	struct cleat_error why;

	memset(&why, 'x', sizeof(why));
	cleat_fail(&why, CLEAT_ORIGIN_LOCAL, -EIO, "%0*d", 2 * CLEAT_ERROR_TEXT,
		   0);
	ATF_REQUIRE_EQ(CLEAT_ERROR_TEXT - 1, strlen(why.text));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, fail__fills_in);
	ATF_TP_ADD_TC(tp, fail__nowhere_to_write);
	ATF_TP_ADD_TC(tp, fail__hostile_text);
	ATF_TP_ADD_TC(tp, fail__text_too_long);
	return atf_no_error();
}
