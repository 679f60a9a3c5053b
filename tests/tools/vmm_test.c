/* SPDX-License-Identifier: BSD-2-Clause */
/* cleatctl vmm, and what it makes of answers that no cleat-vmm gives. */
#include <stdio.h>
#include <sys/socket.h>

#include "tests/tools/ctl.h"

static struct run run;

/* One client, one line, one answer. */
struct vmm {
	int listener;
	const char *answer; /* NULL: none, and the connection stays */
	char line[512];
};

static int serve(void *arg)
{
	struct vmm *vmm = arg;
	int fd = peer_accept(vmm->listener);
	size_t used = 0;

	if (fd < 0)
		return fd;
	while (used < sizeof(vmm->line) - 1 &&
	       recv(fd, vmm->line + used, 1, 0) == 1 &&
	       vmm->line[used] != '\n')
		used++;
	vmm->line[used] = 0;
	if (vmm->answer)
		send(fd, vmm->answer, strlen(vmm->answer), MSG_NOSIGNAL);
	else
		recv(fd, vmm->line + used, 1, 0);
	close(fd);
	return 0;
}

/* Runs cleatctl vmm at a machine that answers so; what it was asked. */
#define ASK(said, ...)                                                         \
	({                                                                     \
		static struct vmm vmm_;                                        \
		struct script script_;                                         \
									       \
		vmm_.answer = said;                                            \
		vmm_.listener = peer_listen("vmm.sock");                       \
		script_start(&script_, serve, &vmm_);                          \
		run_ctl(&run, "vmm", "vmm.sock", __VA_ARGS__, NULL);           \
		script_end(&script_);                                          \
		close(vmm_.listener);                                          \
		unlink("vmm.sock");                                            \
		vmm_.line;                                                     \
	})

#define OK "{\"ok\":true}\n"

CLEAT_TC(commands__as_given)
{
	ATF_CHECK_STREQ("{\"command\":\"pause\"}", ASK(OK, "pause"));
	require_run(&run, 0, NULL);
	ATF_CHECK_STREQ("", run.out);
	ATF_CHECK_STREQ("{\"command\":\"migrate\",\"to\":\"exec:cat >\\\"a b\\\"\"}",
			ASK(OK, "migrate", "exec:cat >\"a b\""));
	require_run(&run, 0, NULL);
	ATF_CHECK_STREQ("{\"command\":\"migrate\",\"to\":\"file:x\",\"then\":\"resume\"}",
			ASK(OK, "migrate", "file:x", "resume"));
	require_run(&run, 0, NULL);
	ASK(OK, "quit", "--json");
	require_run(&run, 0, "\"ok\": true", NULL);
}

static const char status[] =
	"{\"ok\":true,\"state\":\"running\",\"cpus\":2,\"devices\":"
	"[{\"socket\":\"a\\u001bb\",\"lost\":false}],\"migration\":"
	"{\"phase\":\"copying\",\"rounds\":3,\"downtime_ns\":{\"stop\":5}}}\n";

CLEAT_TC(status__text_and_json)
{
	yajl_val json;

	ASK(status, "status");
	require_run(&run, 0, "machine ok=yes state=running cpus=2\n",
		    "devices socket=a.b", "migration phase=copying rounds=3\n",
		    "downtime_ns stop=5\n", NULL);
	ASK(status, "status", "--json");
	require_run(&run, 0, NULL);
	json = parse_json(run.out);
	ATF_CHECK_EQ(3, json_number(json, "migration.rounds"));
	ATF_CHECK_EQ(5, json_number(json, "migration.downtime_ns.stop"));
	ATF_CHECK_EQ(1, json_length(json, "devices"));
	yajl_tree_free(json);
}

CLEAT_TC(answer__refused)
{
	ASK("{\"ok\":false,\"error\":\"not\\nnow\"}\n", "cancel");
	require_complaint(&run, 1, "cancel: not.now");
	ASK("{\"ok\":false}\n", "cancel");
	require_complaint(&run, 1, "cancel: refused");
	ASK("{}\n", "cancel");
	require_complaint(&run, 1, "cancel: refused");
}

/* Deeper than anybody may make us go. */
static const char *nested(void)
{
	static char text[60000];
	size_t i;

	for (i = 0; i + 6 < sizeof(text); i += 5)
		memcpy(text + i, "{\"a\":", 5);
	text[i] = '\n';
	return text;
}

CLEAT_TC(answer__not_one)
{
	static char endless[70000];

	memset(endless, ' ', sizeof(endless) - 1);
	ASK("hello\n", "status");
	require_complaint(&run, 1, "makes no sense");
	ASK("[1]\n", "status");
	require_complaint(&run, 1, "makes no sense");
	ASK(nested(), "status");
	require_complaint(&run, 1, "makes no sense");
	ASK(endless, "status");
	require_complaint(&run, 3, "Message too long");
	ASK("{\"ok\":tr", "status");
	require_complaint(&run, 3, "it has ended");
	ASK(NULL, "status", "-t", "200");
	require_complaint(&run, 1, "no answer");
}

CLEAT_TC(usage__wrong)
{
	run_ctl(&run, "vmm", "vmm.sock", NULL);
	require_complaint(&run, 2, "usage: cleatctl vmm");
	run_ctl(&run, "vmm", "vmm.sock", "fly", NULL);
	require_complaint(&run, 2, "no vmm command \"fly\"");
	run_ctl(&run, "vmm", "vmm.sock", "migrate", NULL);
	require_complaint(&run, 2, "needs to know where to");
	run_ctl(&run, "vmm", "vmm.sock", "pause", "now", NULL);
	require_complaint(&run, 2, "takes nothing more");
	run_ctl(&run, "vmm", "vmm.sock", "status", NULL);
	require_complaint(&run, 3, "start cleat-vmm with --control first");
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, commands__as_given);
	ATF_TP_ADD_TC(tp, status__text_and_json);
	ATF_TP_ADD_TC(tp, answer__refused);
	ATF_TP_ADD_TC(tp, answer__not_one);
	ATF_TP_ADD_TC(tp, usage__wrong);
	return atf_no_error();
}
