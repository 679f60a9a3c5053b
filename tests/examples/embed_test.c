/* SPDX-License-Identifier: BSD-2-Clause */
/* The example that the README shows, as it is, against a real server. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/wait.h>

#include "tests/support/support.h"

static void require_line(const char *text, const char *line)
{
	ATF_REQUIRE_MSG(strstr(text, line), "no \"%s\" in:\n%s", line, text);
}

CLEAT_TC(embed__probe)
{
	char *embed = strdup(program("examples/embed"));
	const char *const argv[] = { embed, program("backends/cleat-probe"),
				     NULL };
	struct child child;
	char text[4096] = "";
	FILE *out;

	child_start(&child, "embed", argv);
	ATF_REQUIRE_EQ(0, child_wait(&child, PATIENCE_MS));
	out = fopen("embed.out", "r");
	ATF_REQUIRE(out);
	ATF_REQUIRE(fread(text, 1, sizeof(text) - 1, out) > 0);
	fclose(out);
	require_line(text, "function c1ea:cb01, BAR 0 has 65536 bytes");
	require_line(text, "to a register, read 0xc1ea7000");
	require_line(text, "read 0xffffffff where nothing is");
	free(embed);
}

CLEAT_TC(embed__server_that_is_not_there)
{
	const char *const argv[] = { program("examples/embed"),
				     "./no-such-server", NULL };
	struct child child;

	child_start(&child, "embed", argv);
	ATF_REQUIRE_EQ(1 << 8, child_wait(&child, PATIENCE_MS));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, embed__probe);
	ATF_TP_ADD_TC(tp, embed__server_that_is_not_there);
	return atf_no_error();
}
