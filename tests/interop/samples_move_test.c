/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sample servers of libvfio-user migrate, from one process into another,
 * through our client. Both take more for granted than the protocol says; what
 * that is stands where it is heeded.
 */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#include <cleat/migration.h>

#include "migration/migration.h"
#include "tests/interop/samples.h"

static struct cleat_migration *migration_of(struct sample *sample)
{
	struct cleat_error why = { .text = "" };
	struct cleat_migration *mig;

	ATF_REQUIRE_MSG(!cleat_migration_create(sample->dev, 0, &mig, &why),
			"%s", why.text);
	return mig;
}

/*
 * The device's last word and all of it, into a file. Stopped, these servers
 * refuse to be looked at: whoever wants the source to go on keeps this.
 */
static struct cleat_migration *save(struct sample *sample, size_t piece, int fd)
{
	struct cleat_migration *mig = migration_of(sample);
	struct cleat_error why = { .text = "" };
	struct cleat_migration_io io;

	if (piece)
		mig->max_piece = piece;
	cleat_migration_io_fd(mig, fd, &io);
	ATF_REQUIRE_MSG(!cleat_migration_start(mig, &why), "%s", why.text);
	ATF_REQUIRE_MSG(!cleat_migration_stop(mig, &why), "%s", why.text);
	ATF_REQUIRE_MSG(!cleat_migration_save(mig, &io, 0, &why), "%s",
			why.text);
	return mig;
}

static int load(struct sample *sample, size_t piece, int fd)
{
	struct cleat_migration *mig = migration_of(sample);
	enum cleat_migration_state state = CLEAT_MIGRATION_ERROR;
	struct cleat_error why = { .text = "" };
	struct cleat_migration_io io;
	bool done = false;
	int err = 0;

	if (piece)
		mig->max_piece = piece;
	ATF_REQUIRE_EQ(0, lseek(fd, 0, SEEK_SET));
	cleat_migration_io_fd(mig, fd, &io);
	while (!done && !err)
		err = cleat_migration_load(mig, &io, &done, &why);
	if (!err)
		err = cleat_migration_run(mig, &why);
	printf("%s\n", why.text);
	/* It is known what it is in; a reset leaves newer ones in RESUMING. */
	ATF_REQUIRE_EQ(0, cleat_migration_state(mig, &state));
	ATF_CHECK(state == CLEAT_MIGRATION_RUNNING ||
		  (err && state == CLEAT_MIGRATION_RESUMING));
	cleat_migration_unref(mig);
	return err;
}

static void go_on(struct cleat_migration *mig)
{
	struct cleat_error why = { .text = "" };

	ATF_REQUIRE_MSG(!cleat_migration_run(mig, &why), "%s", why.text);
	cleat_migration_unref(mig);
}

static void open_both(struct sample *from, struct sample *to, const char *name)
{
	if (!sample_open(from, name, "from.sock")) {
		sample_end(from);
		atf_tc_skip("this libvfio-user refuses its own sample's BAR");
	}
	ATF_REQUIRE(sample_open(to, name, "to.sock"));
}

static uint8_t pins(struct sample *sample)
{
	uint8_t value = 0;

	ATF_REQUIRE_EQ(0, cleat_region_read(sample->dev, 2, 1, &value, 1));
	return value;
}

static void count(struct sample *sample, uint8_t which)
{
	ATF_REQUIRE_EQ(0, cleat_region_write(sample->dev, 2, 0, &which, 1));
}

/*
 * Its state are 16 counters of 4 bytes, and it ends itself (an assertion) when
 * more or less is asked for or given at once. It gives them; when they are
 * given to it, it says that it has taken none of them, and its library answers
 * EINVAL. The source then goes on as if nothing had been.
 */
CLEAT_TC(gpio__gives_and_does_not_take)
{
	struct cleat_migration *mig;
	struct sample from, to;
	int fd = memfd(0, 0);

	open_both(&from, &to, "gpio-pci-idio-16");
	count(&from, 0x0f);
	count(&from, 0x03);
	count(&from, 0x01);
	ATF_REQUIRE_EQ(0xf1, pins(&from));
	mig = save(&from, 64, fd);
	ATF_CHECK(lseek(fd, 0, SEEK_END) > 64);
	ATF_CHECK_EQ(-EINVAL, load(&to, 64, fd));
	go_on(mig);
	ATF_CHECK_EQ(0xf1, pins(&from));
	count(&from, 0x02);
	ATF_CHECK_EQ(0xf3, pins(&from));
	sample_end(&from);
	sample_end(&to);
	close(fd);
}

/*
 * What it gives while it runs is in what it gives at last, and it wants to be
 * told once: so nothing is asked of it before it has stopped.
 */
CLEAT_TC(server__moves)
{
	uint8_t data[0x3000], back[0x3000] = { 0 };
	int fd = memfd(0, 0);
	time_t later = time(NULL) + 1000;
	struct sample from, to;

	open_both(&from, &to, "server");
	/* A timer that has gone off it cannot carry over. */
	ATF_REQUIRE_EQ(0, cleat_region_write(from.dev, 0, 0, &later,
					     sizeof(later)));
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 11 + i / 256);
	ATF_REQUIRE_EQ(0, cleat_region_write(from.dev, 1, 0, data,
					     sizeof(data)));
	cleat_migration_unref(save(&from, 0, fd));
	ATF_REQUIRE_EQ(0, load(&to, 0, fd));
	ATF_REQUIRE_EQ(0, cleat_region_read(to.dev, 1, 0, back, sizeof(back)));
	ATF_CHECK(!memcmp(data, back, sizeof(data)));
	sample_end(&from);
	sample_end(&to);
	close(fd);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, gpio__gives_and_does_not_take);
	ATF_TP_ADD_TC(tp, server__moves);
	return atf_no_error();
}
