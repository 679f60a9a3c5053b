/* SPDX-License-Identifier: BSD-2-Clause */
/* Both state machines, on both sides, each transition there could be. */
#include <linux/vfio.h>

#include "migration/migration.h"
#include "tests/migration/rig.h"

#define PROBE "backends/cleat-probe"
#define NUM 7

static const char letters[NUM + 1] = "ESRCL?P";

/* Each cell: the way, by letters after the first; "-": there is none. */
static const char *const second[NUM][NUM] = {
	/*	 E    S     R     C	L     ?	   P */
	[0] = { "-", "-", "-", "-", "-", "-", "-" },
	[1] = { "-", "", "R", "C", "L", "-", "RP" },
	[2] = { "-", "S", "", "SC", "SL", "-", "P" },
	[3] = { "-", "S", "SR", "", "SL", "-", "-" },
	[4] = { "-", "S", "SR", "SC", "", "-", "SRP" },
	[5] = { "-", "-", "-", "-", "-", "-", "-" },
	[6] = { "-", "RS", "R", "C", "RSL", "-", "" },
};

static const char *const first[NUM][NUM] = {
	[0] = { "-", "-", "-", "-", "-", "-", "-" },
	[1] = { "-", "", "R", "RC", "RL", "-", "RP" },
	[2] = { "-", "S", "", "C", "L", "-", "P" },
	[3] = { "-", "S", "SR", "", "SRL", "-", "-" },
	[4] = { "-", "RS", "R", "RC", "", "-", "RP" },
	[5] = { "-", "-", "-", "-", "-", "-", "-" },
	[6] = { "-", "RS", "R", "C", "RL", "-", "" },
};

static void find_way(unsigned generation, unsigned from, unsigned to, char *way)
{
	unsigned n = 0;

	while (from != to && n < 8) {
		int next = cleat_migration_step(generation, from, to);

		if (next < 0) {
			strcpy(way, "-");
			return;
		}
		way[n++] = letters[next];
		from = (unsigned)next;
	}
	way[n] = 0;
}

static void check_table(unsigned generation, const char *const table[NUM][NUM])
{
	for (unsigned from = 0; from < NUM; from++)
		for (unsigned to = 0; to < NUM; to++) {
			char way[16];

			if (from == to)
				continue;
			find_way(generation, from, to, way);
			ATF_CHECK_MSG(!strcmp(way, table[from][to]),
				      "%u: %c to %c: %s, not %s", generation,
				      letters[from], letters[to], way,
				      table[from][to]);
		}
}

CLEAT_TC(table__second_generation)
{
	check_table(2, second);
}

CLEAT_TC(table__first_generation)
{
	check_table(1, first);
}

CLEAT_TC(table__no_such_state)
{
	ATF_CHECK_EQ(-1, cleat_migration_step(2, 7, 1));
	ATF_CHECK_EQ(-1, cleat_migration_step(2, 1, 7));
	ATF_CHECK_EQ(-1, cleat_migration_step(1, ~0u, ~0u));
	ATF_CHECK_STREQ("an unknown state", cleat_migration_state_name(5));
	ATF_CHECK_STREQ("an unknown state", cleat_migration_state_name(99));
	ATF_CHECK_STREQ("PRE_COPY", cleat_migration_state_name(6));
}

/* --- The server's side ---------------------------------------------------- */

static int ask(struct end *end, uint32_t state)
{
	struct { uint32_t state, fd; } body = { state, 0 };

	return cleat_device_feature(end->dev,
				    VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
				    CLEAT_FEATURE_SET, &body, sizeof(body),
				    sizeof(body), NULL);
}

static int ask_v1(struct end *end, uint32_t state)
{
	static const uint32_t bits[NUM] = { 6, 0, 1, 2, 4, 7, 3 };

	return cleat_region_write(end->dev, 9, 0, &bits[state], 4);
}

static void bring(struct end *end, unsigned state)
{
	ATF_REQUIRE_EQ(0, cleat_device_reset(end->dev));
	ATF_REQUIRE_EQ(CLEAT_MIGRATION_RUNNING, end_state(end));
	if (state == CLEAT_MIGRATION_RUNNING)
		return;
	ATF_REQUIRE_EQ(0, cleat_migration_walk(end->mig, state, NULL));
}

/* One request each; the second generation's server goes several steps. */
static void check_server(unsigned generation, const char *option,
			 const char *const table[NUM][NUM],
			 int (*change)(struct end *end, uint32_t state))
{
	const char *const options[] = { option, NULL };
	struct end end;

	end_start(&end, PROBE, options);
	end_migration(&end, 0);
	for (unsigned from = 1; from < NUM; from++)
		for (unsigned to = 0; to < NUM; to++) {
			const char *way = table[from][to];
			bool can = *way != '-' &&
				   (generation == 2 || strlen(way) <= 1);
			int err;

			if (from == 5)
				continue;
			bring(&end, from);
			err = change(&end, to);
			ATF_CHECK_EQ_MSG(can ? 0 : -EINVAL, err,
					 "%u: %c to %c: %d", generation,
					 letters[from], letters[to], err);
			ATF_CHECK_EQ(can ? to : from, end_state(&end));
		}
	end_stop(&end);
}

CLEAT_TC(server__second_generation)
{
	check_server(2, "--migration=v2", second, ask);
}

CLEAT_TC(server__first_generation)
{
	check_server(1, "--migration=v1", first, ask_v1);
}

/* --- A server that does what it likes ------------------------------------- */

/**
 * struct liar - a way whose states are the test's
 * @refuse: the step to this state fails
 * @ends_in: and leaves it here
 */
struct liar {
	struct cleat_migration mig;
	unsigned state;
	unsigned refuse;
	unsigned ends_in;
	bool mute;
};

static int liar_get(struct cleat_migration *mig, unsigned *ret_state)
{
	struct liar *liar = (struct liar *)mig;

	if (liar->mute)
		return -EIO;
	*ret_state = liar->state;
	return 0;
}

static int liar_set(struct cleat_migration *mig, unsigned state)
{
	struct liar *liar = (struct liar *)mig;

	if (state == liar->refuse) {
		liar->state = liar->ends_in;
		return -EBUSY;
	}
	liar->state = state;
	return 0;
}

static const struct cleat_migration_way liar_way = {
	.generation = 2,
	.get_state = liar_get,
	.set_state = liar_set,
};

static void liar_make(struct liar *liar, unsigned state)
{
	*liar = (struct liar){ .state = state };
	liar->mig.way = &liar_way;
	pthread_mutex_init(&liar->mig.lock, NULL);
	atomic_store(&liar->mig.state, state);
}

CLEAT_TC(failure__state_is_read_back)
{
	for (unsigned ends_in = 0; ends_in < NUM; ends_in++) {
		struct cleat_error why = { .text = "" };
		struct liar liar;

		if (ends_in == 5)
			continue;
		liar_make(&liar, CLEAT_MIGRATION_RUNNING);
		liar.refuse = CLEAT_MIGRATION_STOP_COPY;
		liar.ends_in = ends_in;
		ATF_CHECK_EQ(-EBUSY,
			     cleat_migration_walk(&liar.mig,
						  CLEAT_MIGRATION_STOP_COPY,
						  &why));
		ATF_CHECK_EQ(ends_in, liar.mig.state);
		ATF_CHECK(strstr(why.text, cleat_migration_state_name(ends_in)));
	}
}

CLEAT_TC(failure__state_is_not_known)
{
	struct cleat_error why = { .text = "" };
	struct liar liar;

	liar_make(&liar, CLEAT_MIGRATION_RUNNING);
	liar.refuse = CLEAT_MIGRATION_STOP;
	liar.mute = true;
	ATF_CHECK_EQ(-EBUSY, cleat_migration_walk(&liar.mig,
						  CLEAT_MIGRATION_STOP, &why));
	ATF_CHECK(strstr(why.text, "not known"));
}

CLEAT_TC(error__only_a_reset_leads_out)
{
	struct cleat_error why = { .text = "" };
	struct liar liar;

	liar_make(&liar, CLEAT_MIGRATION_ERROR);
	ATF_CHECK_EQ(-EIO, cleat_migration_run(&liar.mig, &why));
	ATF_CHECK_EQ(-EINVAL, cleat_migration_start(&liar.mig, &why));
	ATF_CHECK_EQ(CLEAT_MIGRATION_ERROR, liar.state);
}

CLEAT_TC(run__half_a_state)
{
	struct cleat_error why = { .text = "" };
	struct liar liar;

	liar_make(&liar, CLEAT_MIGRATION_RESUMING);
	ATF_CHECK_EQ(-EINVAL, cleat_migration_run(&liar.mig, &why));
	ATF_CHECK_EQ(CLEAT_MIGRATION_RESUMING, liar.state);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, table__second_generation);
	ATF_TP_ADD_TC(tp, table__first_generation);
	ATF_TP_ADD_TC(tp, table__no_such_state);
	ATF_TP_ADD_TC(tp, server__second_generation);
	ATF_TP_ADD_TC(tp, server__first_generation);
	ATF_TP_ADD_TC(tp, failure__state_is_read_back);
	ATF_TP_ADD_TC(tp, failure__state_is_not_known);
	ATF_TP_ADD_TC(tp, error__only_a_reset_leads_out);
	ATF_TP_ADD_TC(tp, run__half_a_state);
	return atf_no_error();
}
