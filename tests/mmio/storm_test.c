/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Regions that come, go, move and overlap, and devices that hang, die and are
 * closed, while vCPUs hammer them.
 */
#include <stdio.h>

#include "tests/mmio/rig.h"

#define AT 0xfeb00000ull
#define VCPUS 3

/* --- Every access goes to who owned the address, or to nobody ---------------- */

#define PLAYERS 4
#define UNIT (BAR / 2)
#define UNITS 12

/* What a handler is given: freed as soon as its binding is. */
struct player {
	unsigned id;
	bool gone;
};

/**
 * struct game - what the bindings do, and what should come of it
 * @version: odd while the owners are being changed
 * @owner:   of each unit of addresses, as it should be; -1 nobody
 */
struct game {
	struct rig rig;
	struct cleat_mmio *mmio;
	struct cleat_binding *bindings[PLAYERS];
	struct player *players[PLAYERS];
	int place[PLAYERS]; /* unit, or -1 */
	int reserved; /* unit, or -1 */
	atomic_uint version;
	atomic_int owner[UNITS];
	atomic_bool over;
	atomic_ulong checked;
};

static int answer(void *opaque, uint64_t offset, void *data, unsigned length,
		  bool write)
{
	struct player *player = opaque;

	memset(data, player->gone || offset >= BAR ? 0xee : (int)player->id,
	       length);
	return 0;
}

static void join(struct game *game, unsigned i)
{
	struct cleat_emulated all = { .length = BAR, .access = answer };
	struct cleat_binding_config config = {
		.size = sizeof(config),
		.device = game->rig.dev,
		.order = i,
		.emulated = &all,
		.num_emulated = 1,
	};

	game->players[i] = calloc(1, sizeof(*game->players[i]));
	game->players[i]->id = i;
	all.opaque = game->players[i];
	ATF_REQUIRE_EQ(0, cleat_mmio_bind(game->mmio, &config,
					  &game->bindings[i], NULL));
	game->place[i] = -1;
}

static void leave(struct game *game, unsigned i)
{
	cleat_mmio_unbind(game->bindings[i]);
	game->players[i]->gone = true;
	free(game->players[i]);
}

/* The rule, as simply as it can be said. */
static void referee(struct game *game)
{
	int owner[UNITS];

	for (unsigned u = 0; u < UNITS; u++)
		owner[u] = (int)u == game->reserved ? -2 : -1;
	for (unsigned i = 0; i < PLAYERS; i++) {
		int u = game->place[i];

		if (u < 0 || owner[u] != -1 || owner[u + 1] != -1)
			continue;
		owner[u] = (int)i;
		owner[u + 1] = (int)i;
	}
	for (unsigned u = 0; u < UNITS; u++)
		atomic_store(&game->owner[u], owner[u] < 0 ? -1 : owner[u]);
}

static void move(struct game *game, unsigned i, unsigned u)
{
	if (u >= UNITS - 1) {
		cleat_binding_unplace(game->bindings[i]);
		game->place[i] = -1;
		return;
	}
	ATF_REQUIRE_EQ(0, cleat_binding_place(game->bindings[i],
					      AT + u * UNIT));
	game->place[i] = (int)u;
}

static void reserve(struct game *game, unsigned u)
{
	if (game->reserved >= 0)
		ATF_REQUIRE_EQ(0, cleat_mmio_unreserve(
					  game->mmio, CLEAT_MEMORY,
					  AT + (unsigned)game->reserved * UNIT,
					  UNIT));
	game->reserved = -1;
	if (u >= UNITS)
		return;
	ATF_REQUIRE_EQ(0, cleat_mmio_reserve(game->mmio, CLEAT_MEMORY,
					     AT + u * UNIT, UNIT));
	game->reserved = (int)u;
}

static void turn(struct game *game, unsigned short seed[3])
{
	unsigned i = (unsigned)nrand48(seed) % PLAYERS;

	atomic_fetch_add(&game->version, 1);
	switch (nrand48(seed) % 8) {
	case 0:
		leave(game, i);
		join(game, i);
		break;
	case 1:
		reserve(game, (unsigned)nrand48(seed) % (UNITS + 4));
		break;
	default:
		move(game, i, (unsigned)nrand48(seed) % UNITS);
	}
	referee(game);
	atomic_fetch_add(&game->version, 1);
}

/*
 * What a load says: a player, -1 for nobody, -3 for ones from one that is just
 * being taken away, -2 for nonsense.
 */
static int ask(struct game *game, unsigned unit, unsigned within)
{
	uint8_t data[4] = { 0 };
	int err = cleat_mmio_access(game->mmio, CLEAT_MEMORY,
				    AT + unit * UNIT + within, data, 4, false);

	if (err)
		return err == -ENOENT ? -1 : -2;
	for (unsigned n = 1; n < 4; n++)
		if (data[n] != data[0])
			return -2;
	if (data[0] == 0xff)
		return -3;
	return data[0] < PLAYERS ? data[0] : -2;
}

static void *hammer(void *arg)
{
	struct game *game = arg;
	unsigned short seed[3] = { (unsigned short)(uintptr_t)&seed, 5, 6 };

	while (!atomic_load(&game->over)) {
		unsigned unit = (unsigned)nrand48(seed) % UNITS;
		unsigned version = atomic_load(&game->version);
		int expected = atomic_load(&game->owner[unit]);
		int got = ask(game, unit, (unsigned)nrand48(seed) % (UNIT - 4));

		if (got == -2)
			return (void *)"an answer that is nobody's";
		if (version % 2 || version != atomic_load(&game->version))
			continue;
		if (got != expected)
			return (void *)"an answer of somebody else's";
		atomic_fetch_add(&game->checked, 1);
	}
	return NULL;
}

CLEAT_TC(storm__bindings)
{
	struct game game = { .reserved = -1 };
	unsigned short seed[3] = { 9, 9, 9 };
	struct deadline enough;
	pthread_t threads[VCPUS];
	void *wrong;

	rig_open(&game.rig);
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&game.mmio));
	for (unsigned i = 0; i < PLAYERS; i++)
		join(&game, i);
	referee(&game);
	for (unsigned i = 0; i < VCPUS; i++)
		ATF_REQUIRE_EQ(0, pthread_create(&threads[i], NULL, hammer,
						 &game));
	enough = deadline_in(2000);
	while (deadline_left(&enough)) {
		turn(&game, seed);
		usleep(20);
	}
	REQUIRE_SOON(atomic_load(&game.checked) > 1000);
	atomic_store(&game.over, true);
	for (unsigned i = 0; i < VCPUS; i++) {
		pthread_join(threads[i], &wrong);
		ATF_CHECK_MSG(!wrong, "%s", (char *)wrong);
	}
	for (unsigned i = 0; i < PLAYERS; i++)
		leave(&game, i);
	printf("total: bindings-changed %u\n", game.version / 2);
	printf("total: loads-judged-exactly %lu\n", game.checked);
	cleat_mmio_unref(game.mmio);
	rig_close(&game.rig);
}

/* --- Devices that go in every way ---------------------------------------------- */

struct storm {
	struct cleat_mmio *mmio;
	struct cleat_cancel *cancels[VCPUS];
	atomic_uint next;
	atomic_bool over;
	atomic_ulong served;
};

/* Only ever what the device has, or what nobody has. */
static const char *one_access(struct storm *storm, uint64_t value, bool write)
{
	const uint64_t asked = value;
	int err;

	do {
		value = asked;
		err = cleat_mmio_access(storm->mmio, CLEAT_MEMORY, AT + 64,
					&value, 8, write);
	} while (err == -EINTR && !atomic_load(&storm->over));
	if (err == -ENOENT || err == -EINTR)
		return NULL;
	if (err)
		return "an access failed";
	if (!write && value != 0x5a5a5a5a5a5a5a5a && value != UINT64_MAX)
		return "a load gave what nobody has";
	if (!write && value != UINT64_MAX)
		atomic_fetch_add(&storm->served, 1);
	return NULL;
}

static void *drive(void *arg)
{
	struct storm *storm = arg;
	unsigned i = atomic_fetch_add(&storm->next, 1);
	const char *wrong = NULL;

	cleat_cancel_enter(storm->cancels[i]);
	while (!wrong && !atomic_load(&storm->over)) {
		wrong = one_access(storm, 0, false);
		if (!wrong)
			wrong = one_access(storm, 0x5a5a5a5a5a5a5a5a, true);
	}
	cleat_cancel_enter(NULL);
	return (void *)wrong;
}

/* Until the device has been used, or for a moment. */
static void let_it_run(struct storm *storm)
{
	struct deadline moment = deadline_in(20);
	unsigned long before = atomic_load(&storm->served);

	while (atomic_load(&storm->served) < before + 20 &&
	       deadline_left(&moment))
		usleep(100);
}

static void kick_all(struct storm *storm)
{
	for (unsigned i = 0; i < VCPUS; i++)
		cleat_cancel_set(storm->cancels[i]);
	usleep(300);
	for (unsigned i = 0; i < VCPUS; i++)
		cleat_cancel_clear(storm->cancels[i]);
}

static void one_life(struct storm *storm, unsigned how)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct cleat_binding *binding;

	memset(rig->regs, 0x5a, sizeof(rig->regs));
	rig->access_ms = 10000;
	rig_open(rig);
	binding = rig_bind(rig, storm->mmio, NULL, 0);
	ATF_REQUIRE_EQ(0, cleat_binding_place(binding, AT));
	let_it_run(storm);
	kick_all(storm);
	if (how & 1)
		atomic_store(&rig->hang, true);
	if (how & 2)
		kick_all(storm);
	if (how & 4)
		rig_kill_server(rig);
	if (how & 8)
		rig_close_device(rig);
	cleat_mmio_unbind(binding);
	rig_close_device(rig);
	rig_close(rig);
	free(rig);
}

CLEAT_TC(storm__devices)
{
	struct storm storm = { .served = 0 };
	pthread_t threads[VCPUS];
	void *wrong;

	ATF_REQUIRE_EQ(0, cleat_mmio_create(&storm.mmio));
	for (unsigned i = 0; i < VCPUS; i++)
		ATF_REQUIRE_EQ(0, cleat_cancel_create(&storm.cancels[i]));
	for (unsigned i = 0; i < VCPUS; i++)
		ATF_REQUIRE_EQ(0, pthread_create(&threads[i], NULL, drive,
						 &storm));
	for (unsigned n = 0; n < 64; n++)
		one_life(&storm, n);
	atomic_store(&storm.over, true);
	for (unsigned i = 0; i < VCPUS; i++) {
		pthread_join(threads[i], &wrong);
		ATF_CHECK_MSG(!wrong, "%s", (char *)wrong);
	}
	for (unsigned i = 0; i < VCPUS; i++)
		cleat_cancel_destroy(storm.cancels[i]);
	printf("total: devices-ended 64\n");
	printf("total: accesses-served %lu\n", storm.served);
	ATF_CHECK(atomic_load(&storm.served) > 100);
	cleat_mmio_unref(storm.mmio);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, storm__bindings);
	ATF_TP_ADD_TC(tp, storm__devices);
	return atf_no_error();
}
