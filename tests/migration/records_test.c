/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a server of the library's takes for a state: its own records, whole and
 * in order. The bytes on the wire are damaged here one after the other, behind
 * the back of the stream's checksums.
 */
#include <cleat/server.h>

#include "migration/migration.h"
#include "tests/migration/rig.h"

#define STATE 200u
#define RECORDS 3u
#define MOST 4096u

/**
 * struct device - a state that is the same at both ends
 * @saved:  records given
 * @given:  that came in
 * @loaded: and were taken over
 * @busy:   it takes no state
 * @resets: how often
 */
struct device {
	struct cleat_server *srv;
	struct script script;
	struct end end;
	uint8_t state[RECORDS][STATE];
	unsigned saved, given, loaded;
	bool wrong, busy;
	unsigned resets;
};

static int change(void *opaque, enum cleat_server_phase old,
		  enum cleat_server_phase now)
{
	struct device *device = opaque;

	if (now == CLEAT_SERVER_SAVING)
		device->saved = 0;
	if (now == CLEAT_SERVER_LOADING && device->busy)
		return -EBUSY;
	if (now == CLEAT_SERVER_LOADING)
		device->given = 0;
	return 0;
}

static int save(void *opaque, void *buf, size_t room)
{
	struct device *device = opaque;

	if (device->saved == RECORDS)
		return 0;
	memcpy(buf, device->state[device->saved++], STATE);
	return STATE;
}

static int load(void *opaque, uint32_t version, const void *buf, size_t count)
{
	struct device *device = opaque;

	if (version != 1 || count != STATE || device->given == RECORDS ||
	    memcmp(buf, device->state[device->given++], STATE))
		device->wrong = true;
	return 0;
}

static int loaded(void *opaque)
{
	struct device *device = opaque;

	device->loaded++;
	device->wrong |= device->given != RECORDS;
	return 0;
}

static int reset(void *opaque)
{
	struct device *device = opaque;

	device->resets++;
	return 0;
}

static int run(void *arg)
{
	return cleat_server_run(((struct device *)arg)->srv);
}

static void serve(struct device *device, int fd)
{
	const struct cleat_server_config config = { .size = sizeof(config) };
	const struct cleat_server_ops ops = { .size = sizeof(ops),
					      .reset = reset };
	const struct cleat_server_migration migration = {
		.size = sizeof(migration),
		.name = "records",
		.version = 1,
		.change = change,
		.save = save,
		.load = load,
		.loaded = loaded,
	};

	ATF_REQUIRE_EQ(0, cleat_server_create(&config, &ops, device,
					      &device->srv, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_add_migration(device->srv, &migration,
						     NULL));
	ATF_REQUIRE_EQ(0, cleat_server_adopt(device->srv, fd, NULL));
	script_start(&device->script, run, device);
}

static void device_make(struct device *device)
{
	struct cleat_device_config config = { .size = sizeof(config) };
	struct cleat_error why = { .text = "" };
	int ends[2];

	memset(device, 0, sizeof(*device));
	for (unsigned i = 0; i < RECORDS * STATE; i++)
		device->state[i / STATE][i % STATE] = (uint8_t)(i * 13 + i / 7);
	peer_pair(ends);
	serve(device, ends[1]);
	config.fd = ends[0];
	ATF_REQUIRE_MSG(!cleat_device_open(&config, &device->end.dev, &why),
			"%s", why.text);
	close(ends[0]);
	end_migration(&device->end, CLEAT_MIGRATION_ONLY_V2);
}

static void device_end(struct device *device)
{
	ATF_CHECK(!device->wrong);
	cleat_migration_unref(device->end.mig);
	cleat_device_unref(device->end.dev);
	script_end(&device->script);
	cleat_server_destroy(device->srv);
}

static int walk(struct device *device, unsigned state)
{
	return cleat_migration_walk(device->end.mig, state, NULL);
}

static size_t fetch(struct device *device, uint8_t *data)
{
	struct cleat_migration *mig = device->end.mig;
	size_t size = 0, got = 1;
	bool last;

	ATF_REQUIRE_EQ(0, walk(device, CLEAT_MIGRATION_STOP_COPY));
	while (got) {
		ATF_REQUIRE_EQ(0, mig->way->read(mig, data + size, MOST - size,
						 &got, &last));
		size += got;
	}
	ATF_REQUIRE_EQ(0, walk(device, CLEAT_MIGRATION_RUNNING));
	return size;
}

/* In pieces, as the way is; 0 if it is the device's state now. */
static int give(struct device *device, const uint8_t *data, size_t size)
{
	struct cleat_migration *mig = device->end.mig;
	int err = 0;

	ATF_REQUIRE_EQ(0, walk(device, CLEAT_MIGRATION_RESUMING));
	for (size_t at = 0; at < size && !err; at += 300)
		err = mig->way->write(mig, data + at,
				      size - at < 300 ? size - at : 300, false);
	if (!err)
		err = walk(device, CLEAT_MIGRATION_STOP);
	return err;
}

/* Refused, it stays where it is, and a reset leads out. */
static void check_refused(struct device *device)
{
	ATF_CHECK_EQ(CLEAT_MIGRATION_RESUMING, end_state(&device->end));
	ATF_CHECK_EQ(0, device->loaded);
	ATF_REQUIRE_EQ(0, cleat_device_reset(device->end.dev));
	ATF_REQUIRE_EQ(CLEAT_MIGRATION_RUNNING, end_state(&device->end));
}

CLEAT_TC(load__whole)
{
	static struct device device;
	uint8_t data[MOST];
	size_t size;

	device_make(&device);
	size = fetch(&device, data);
	ATF_CHECK(size > RECORDS * STATE);
	ATF_REQUIRE_EQ(0, give(&device, data, size));
	ATF_CHECK_EQ(1, device.loaded);
	ATF_CHECK_EQ(RECORDS, device.given);
	device_end(&device);
}

CLEAT_TC(load__damaged_at_every_byte)
{
	static const uint8_t damage[] = { 0x01, 0x80, 0xff };
	static struct device device;
	uint8_t data[MOST];
	size_t size;

	device_make(&device);
	size = fetch(&device, data);
	for (size_t i = 0; i < size; i++)
		for (unsigned k = 0; k < 3; k++) {
			data[i] ^= damage[k];
			ATF_REQUIRE_MSG(give(&device, data, size) < 0,
					"byte %zu ^ %#x was taken", i,
					damage[k]);
			data[i] ^= damage[k];
			check_refused(&device);
		}
	ATF_REQUIRE_EQ(0, give(&device, data, size));
	ATF_CHECK_EQ(1, device.loaded);
	device_end(&device);
}

CLEAT_TC(load__cut_off_at_every_byte)
{
	static struct device device;
	uint8_t data[MOST];
	size_t size;

	device_make(&device);
	size = fetch(&device, data);
	/* (none at all is no state, and changes nothing) */
	for (size_t i = 1; i < size; i++) {
		ATF_REQUIRE_MSG(give(&device, data, i) < 0,
				"%zu of %zu bytes were taken", i, size);
		check_refused(&device);
	}
	device_end(&device);
}

CLEAT_TC(load__goes_on_after_the_end)
{
	static struct device device;
	uint8_t data[MOST];
	size_t size;

	device_make(&device);
	size = fetch(&device, data);
	data[size] = 0;
	ATF_CHECK(give(&device, data, size + 1) < 0);
	check_refused(&device);
	memcpy(data + size, data, size);
	ATF_CHECK(give(&device, data, 2 * size) < 0);
	check_refused(&device);
	device_end(&device);
}

/* Two steps lead to RESUMING: it does not stay where the first one led. */
CLEAT_TC(load__refused_before_the_first_byte)
{
	static struct device device;
	struct cleat_error why;
	struct tape tape;

	tape_make(&tape);
	device_make(&device);
	save_all(&device.end, &tape, 0);
	ATF_REQUIRE_EQ(0, cleat_migration_run(device.end.mig, NULL));
	device.busy = true;
	ATF_CHECK_EQ(-EBUSY, load_all(&device.end, &tape, &why));
	ATF_CHECK_EQ(CLEAT_MIGRATION_RUNNING, end_state(&device.end));
	ATF_CHECK_EQ(1, device.resets);
	device.busy = false;
	tape.at = 0;
	ATF_CHECK_EQ(0, load_all(&device.end, &tape, &why));
	ATF_CHECK_EQ(CLEAT_MIGRATION_STOP, end_state(&device.end));
	ATF_CHECK_EQ(1, device.loaded);
	device_end(&device);
	tape_free(&tape);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, load__whole);
	ATF_TP_ADD_TC(tp, load__damaged_at_every_byte);
	ATF_TP_ADD_TC(tp, load__cut_off_at_every_byte);
	ATF_TP_ADD_TC(tp, load__goes_on_after_the_end);
	ATF_TP_ADD_TC(tp, load__refused_before_the_first_byte);
	return atf_no_error();
}
