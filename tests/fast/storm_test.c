/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * BARs that move, overlap, go and come back, and devices that are closed and
 * killed, while vCPUs of a real guest hammer the addresses. Each device's pages
 * hold its number, so that every load tells who answered.
 */
#include <linux/pci_regs.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#include "tests/fast/rig.h"

#define PLAYERS 3
#define HAMMERS 2
#define SECONDS 3
/* Less than an access waits for its server. */
#define STOPPED_MS 4000
/* Places for the pages' BAR, and behind them for the doorbells'. */
#define UNITS 6
#define UNIT 0x10000u
#define SLOTS 6
#define SLOT 0x2000u
#define PAGES_AT(u) (PLACE + (uint32_t)(u)*UNIT)
#define DOORBELLS_AT(s) (PLACE + 0x80000u + (uint32_t)(s)*SLOT)
#define LOADS 12
#define RINGS 3

#define NOBODY (-1)

/**
 * struct player - one device and where the guest has put it
 * @unit, @slot: of its two BARs, NOBODY: nowhere
 * @on:     memory is decoded
 * @kicks:  how often its doorbell should have been rung
 */
struct player {
	struct plug plug;
	int unit;
	int slot;
	bool on;
	uint64_t kicks;
};

struct game {
	struct rig rig;
	struct player players[PLAYERS];
	/* Odd while owners change. */
	atomic_uint version;
	atomic_int owner[UNITS];
	atomic_bool over;
	atomic_ulong loads;
	atomic_ulong checked;
	atomic_ulong answered;
	unsigned long turns;
	unsigned long opened;
	unsigned long killed;
	unsigned long stopped;
	unsigned long rung;
};

struct hammer {
	struct game *game;
	pthread_t thread;
	unsigned cpu;
	const char *wrong;
};

/* --- The rule, as simply as it can be said ---------------------------------
 */

static void referee(struct game *game)
{
	for (int u = 0; u < UNITS; u++) {
		int owner = NOBODY;

		for (int i = PLAYERS - 1; i >= 0; i--)
			if (game->players[i].on && game->players[i].unit == u)
				owner = i;
		atomic_store(&game->owner[u], owner);
	}
}

static int ringer(struct game *game, int slot)
{
	for (int i = 0; i < PLAYERS; i++)
		if (game->players[i].on && game->players[i].slot == slot)
			return i;
	return NOBODY;
}

static void changing(struct game *game)
{
	atomic_fetch_add(&game->version, 1);
}

static void changed(struct game *game)
{
	referee(game);
	atomic_fetch_add(&game->version, 1);
	game->turns++;
}

/* --- What the guest's BIOS would do ----------------------------------------
 */

static void set_bar(struct player *player, unsigned bar, uint32_t to)
{
	cleat_pci_config_write(player->plug.pci, PCI_BASE_ADDRESS_0 + 4 * bar,
			       to, 4);
}

static void move_pages(struct player *player, int unit)
{
	set_bar(player, PROBE_BAR_PAGES,
		unit == NOBODY ? UINT32_MAX : PAGES_AT(unit));
	player->unit = unit;
}

static void move_doorbells(struct player *player, int slot)
{
	set_bar(player, PROBE_BAR_DOORBELLS,
		slot == NOBODY ? UINT32_MAX : DOORBELLS_AT(slot));
	player->slot = slot;
}

static void set_on(struct player *player, bool on)
{
	cleat_pci_config_write(player->plug.pci, PCI_COMMAND,
			       on ? PCI_COMMAND_MEMORY : 0, 2);
	player->on = on;
}

/* The pages hold the number, by message or not. */
static void fill_pages(struct player *player, unsigned number)
{
	static uint8_t pages[PROBE_PAGES_LENGTH];

	memset(pages, (int)number, sizeof(pages));
	ATF_REQUIRE_EQ(0, cleat_region_write(player->plug.dev, PROBE_BAR_PAGES,
					     0, pages, sizeof(pages)));
}

static void join(struct game *game, unsigned i)
{
	struct player *player = &game->players[i];

	*player = (struct player){ .unit = NOBODY, .slot = NOBODY };
	rig_plug(&game->rig, &player->plug, NULL, (i + 1) << 3);
	set_bar(player, PROBE_BAR_PAGES + 1, 0);
	fill_pages(player, i);
	game->opened++;
}

/* --- Turns ------------------------------------------------------------------
 */

static int any(unsigned short seed[3], int of)
{
	int n = (int)(nrand48(seed) % (of + 1));

	return n < of ? n : NOBODY;
}

/* By the book, or by its server's sudden end. */
static void leave(struct game *game, unsigned i, bool killed)
{
	struct player *player = &game->players[i];

	if (killed) {
		kill(cleat_device_pid(player->plug.dev), SIGKILL);
		usleep(1000);
		game->killed++;
	}
	cleat_plug_out(&player->plug);
}

/* With vCPUs waiting for a server that stands still others are moved. */
static void move_beside(struct game *game, unsigned i, unsigned short seed[3])
{
	pid_t stopped = cleat_device_pid(game->players[i].plug.dev);
	struct player *other = &game->players[(i + 1) % PLAYERS];
	struct deadline soon = deadline_in(STOPPED_MS);

	kill(stopped, SIGSTOP);
	usleep(1000);
	move_pages(other, any(seed, UNITS));
	move_doorbells(other, any(seed, SLOTS));
	ATF_CHECK_MSG(deadline_left(&soon), "delayed by another's server");
	kill(stopped, SIGCONT);
	game->stopped++;
}

static void turn(struct game *game, unsigned short seed[3])
{
	unsigned i = (unsigned)nrand48(seed) % PLAYERS;
	unsigned what = (unsigned)nrand48(seed) % 64;
	struct player *player = &game->players[i];

	changing(game);
	if (what < 2) {
		leave(game, i, what == 0);
		join(game, i);
		set_on(player, true);
	} else if (what < 4) {
		move_beside(game, i, seed);
	} else if (what < 16) {
		/* Mostly on, so that there is somebody to answer. */
		set_on(player, !player->on || what % 2);
	} else if (what < 32) {
		move_doorbells(player, any(seed, SLOTS));
	} else {
		move_pages(player, any(seed, UNITS));
	}
	changed(game);
}

/* --- Stores: while nothing changes each device must get its own -------------
 */

static uint64_t kicks_of(struct game *game, unsigned i)
{
	struct plug *plug = &game->players[i].plug;

	return cleat_plug_get(plug, PROBE_EVENTS(PROBE_DB_4), 8);
}

static void ring_all(struct game *game)
{
	for (int slot = 0; slot < SLOTS; slot++) {
		struct guest_op op = { .kind = GUEST_STORE,
				       .size = 4,
				       .address =
					       DOORBELLS_AT(slot) + PROBE_AT_4,
				       .count = RINGS };
		int i = ringer(game, slot);

		rig_run(&game->rig, &op, 1);
		game->rung += RINGS;
		if (i != NOBODY)
			game->players[i].kicks += RINGS;
	}
	for (unsigned i = 0; i < PLAYERS; i++)
		REQUIRE_SOON(kicks_of(game, i) >= game->players[i].kicks);
	for (unsigned i = 0; i < PLAYERS; i++)
		ATF_REQUIRE_EQ(game->players[i].kicks, kicks_of(game, i));
}

/* --- Loads ------------------------------------------------------------------
 */

static bool is_somebody(uint64_t value, int *ret_who)
{
	*ret_who = NOBODY;
	if (value == UINT32_MAX)
		return true;
	*ret_who = (int)(value & 0xff);
	return *ret_who < PLAYERS && value == *ret_who * 0x01010101u;
}

/* Mapped, by message, and at both ends. */
static void aim(struct guest_op *op, int *ret_unit, unsigned short seed[3])
{
	static const unsigned offsets[] = { 0x0,    0x1000, 0x2ffc, 0x3000,
					    0x7ffc, 0x8000, 0xfffc };
	unsigned at = (unsigned)nrand48(seed) % 7;

	*ret_unit = (int)(nrand48(seed) % UNITS);
	*op = (struct guest_op){ .kind = GUEST_LOAD,
				 .size = 4,
				 .address = PAGES_AT(*ret_unit) + offsets[at],
				 .count = 1 };
}

/* Somebody is to be rung meanwhile, whoever that is. */
static void ring_some(struct guest_op *op, unsigned short seed[3])
{
	*op = (struct guest_op){ .kind = GUEST_STORE,
				 .size = 4,
				 .address = DOORBELLS_AT(nrand48(seed) % SLOTS),
				 .count = 1 };
}

static const char *check_loads(struct game *game, const struct guest_op *ops,
			       const int *units, const int *expected,
			       bool settled)
{
	for (unsigned i = 0; i < LOADS; i++) {
		int who;

		if (!is_somebody(ops[i].result, &who))
			return "an answer that is nobody's";
		atomic_fetch_add(&game->loads, 1);
		if (!settled)
			continue;
		if (who != expected[units[i]])
			return "an answer of somebody else's";
		atomic_fetch_add(&game->checked, 1);
		if (who != NOBODY)
			atomic_fetch_add(&game->answered, 1);
	}
	return NULL;
}

static const char *hammer_once(struct hammer *hammer, unsigned short seed[3])
{
	struct game *game = hammer->game;
	unsigned version = atomic_load(&game->version);
	struct guest_op ops[LOADS + 2];
	int units[LOADS], expected[UNITS];
	bool settled;
	int err;

	for (unsigned u = 0; u < UNITS; u++)
		expected[u] = atomic_load(&game->owner[u]);
	for (unsigned i = 0; i < LOADS; i++)
		aim(&ops[i], &units[i], seed);
	for (unsigned i = LOADS; i < LOADS + 2; i++)
		ring_some(&ops[i], seed);
	err = cleat_guest_run(game->rig.guest, hammer->cpu, ops, LOADS + 2,
			      &game->rig.machine.hooks, RUN_MS);
	if (err)
		return strerror(-err);
	settled = !(version % 2) && version == atomic_load(&game->version);
	return check_loads(game, ops, units, expected, settled);
}

static void *hammer(void *arg)
{
	struct hammer *hammer = arg;
	unsigned short seed[3] = { (unsigned short)hammer->cpu, 5, 6 };

	while (!hammer->wrong && !atomic_load(&hammer->game->over))
		hammer->wrong = hammer_once(hammer, seed);
	return NULL;
}

/* --- All of it ---------------------------------------------------------------
 */

static unsigned seconds_of(const atf_tc_t *tc)
{
	return (unsigned)atf_tc_get_config_var_as_long_wd(tc, "seconds",
							  SECONDS);
}

/* At last each has a place, so that there is an answer to all. */
static void settle(struct game *game)
{
	changing(game);
	for (int i = 0; i < PLAYERS; i++) {
		set_on(&game->players[i], true);
		move_pages(&game->players[i], i);
		move_doorbells(&game->players[i], i);
	}
	changed(game);
	ring_all(game);
	REQUIRE_SOON(atomic_load(&game->answered) > 100);
}

static void play(struct game *game, unsigned seconds)
{
	unsigned short seed[3] = { 9, 9, (unsigned short)getpid() };
	struct deadline enough = deadline_in(seconds * 1000);

	while (deadline_left(&enough)) {
		turn(game, seed);
		if (game->turns % 32 == 0)
			ring_all(game);
		/* Now and then long enough that loads can be judged. */
		usleep(game->turns % 4 ? 50 : 3000);
	}
	settle(game);
}

static void tell(const struct game *game)
{
	printf("total: turns %lu\n", game->turns);
	printf("total: devices-opened %lu\n", game->opened);
	printf("total: devices-killed %lu\n", game->killed);
	printf("total: servers-stopped-beside %lu\n", game->stopped);
	printf("total: doorbells-checked %lu\n", game->rung);
	printf("total: guest-loads %lu\n", game->loads);
	printf("total: guest-loads-judged-exactly %lu\n", game->checked);
	printf("total: guest-loads-answered %lu\n", game->answered);
}

CLEAT_TC(storm__guest)
{
	static struct game game;
	struct hammer hammers[HAMMERS];

	rig_skip_in_lab();
	rig_open(&game.rig, tc, GUEST_IRQCHIP_KERNEL, HAMMERS + 1, NULL);
	for (unsigned i = 0; i < PLAYERS; i++)
		join(&game, i);
	referee(&game);
	for (unsigned i = 0; i < HAMMERS; i++) {
		hammers[i] = (struct hammer){ .game = &game, .cpu = i + 1 };
		ATF_REQUIRE_EQ(0, pthread_create(&hammers[i].thread, NULL,
						 hammer, &hammers[i]));
	}
	play(&game, seconds_of(tc));
	atomic_store(&game.over, true);
	for (unsigned i = 0; i < HAMMERS; i++) {
		pthread_join(hammers[i].thread, NULL);
		ATF_CHECK_MSG(!hammers[i].wrong, "%s", hammers[i].wrong);
	}
	for (unsigned i = 0; i < PLAYERS; i++)
		cleat_plug_out(&game.players[i].plug);
	tell(&game);
	rig_end(&game.rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, storm__guest);
	return atf_no_error();
}
