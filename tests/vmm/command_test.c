/* SPDX-License-Identifier: BSD-2-Clause */
/* Lines of the control socket, as a hostile client would send them. */
#include <stdio.h>

#include "tests/support/support.h"
#include "vmm/vmm.h"

static void require_refused(const char *line, size_t length, const char *words)
{
	struct command command;
	const char *why = NULL;

	ATF_REQUIRE_EQ(-EINVAL,
		       cleat_vmm_command_parse(line, length, &command, &why));
	ATF_REQUIRE(why);
	ATF_REQUIRE_MSG(strstr(why, words), "\"%s\" for %.*s", why,
			(int)length, line);
}

#define REFUSED(line, words) require_refused(line, sizeof(line) - 1, words)

CLEAT_TC(parse__good)
{
	static const char *const lines[] = {
		"{\"command\":\"status\"}",
		" { \"command\" : \"st\\u0061tus\" } \r",
	};
	struct command command;
	const char *why;
	size_t i;

	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		ATF_REQUIRE_EQ_MSG(0, cleat_vmm_command_parse(lines[i],
							      strlen(lines[i]),
							      &command, &why),
				   "%s", why);
		ATF_REQUIRE_STREQ("status", command.command);
	}
}

CLEAT_TC(parse__bad)
{
	REFUSED("", "not a JSON object");
	REFUSED("status", "not a JSON object");
	REFUSED("{\"command\":\"status\"", "not a JSON object");
	REFUSED("{\"command\":\"status\"} {}", "not a JSON object");
	REFUSED("{\"command\":\"\xff\"}", "not a JSON object");
	REFUSED("\"status\"", "not an object");
	REFUSED("[\"status\"]", "a list");
	REFUSED("{}", "no member");
	REFUSED("{\"command\":\"\"}", "no member");
	REFUSED("{\"comman\":\"status\"}", "unknown member");
	REFUSED("{\"command\":\"a\",\"command\":\"b\"}", "twice");
	REFUSED("{\"command\":{\"command\":\"a\"}}", "inside");
	REFUSED("{\"command\":[\"a\"]}", "a list");
	REFUSED("{\"command\":null}", "no string");
	REFUSED("{\"command\":true}", "no string");
	REFUSED("{\"command\":1e999}", "no string");
	REFUSED("{\"command\":\"a\\u0000b\"}", "NUL");
	REFUSED("{\"command\":\"01234567890123456789012345678901\"}",
		"too long");
}

/* However deep it goes, it is refused at the first step down. */
CLEAT_TC(parse__deep)
{
	static char line[COMMAND_LINE_LENGTH];

	memset(line, '[', sizeof(line));
	require_refused(line, sizeof(line), "a list");
	memset(line, '{', sizeof(line));
	require_refused(line, sizeof(line), "");
}

/* Whatever becomes of a good line that loses or changes a byte. */
CLEAT_TC(parse__every_byte)
{
	static const char good[] = "{\"command\":\"status\"}";
	struct command command;
	const char *why;
	char line[sizeof(good)];
	size_t i;
	int byte;

	for (i = 0; i < sizeof(good) - 1; i++) {
		require_refused(good, i, "");
		for (byte = 0; byte < 256; byte++) {
			memcpy(line, good, sizeof(good));
			line[i] = (char)byte;
			if (!cleat_vmm_command_parse(line, sizeof(good) - 1,
						     &command, &why))
				ATF_REQUIRE(command.command[0]);
		}
	}
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, parse__good);
	ATF_TP_ADD_TC(tp, parse__bad);
	ATF_TP_ADD_TC(tp, parse__deep);
	ATF_TP_ADD_TC(tp, parse__every_byte);
	return atf_no_error();
}
