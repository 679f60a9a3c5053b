/* SPDX-License-Identifier: BSD-2-Clause */
/* The stream, damaged at every byte; the device's end is the test's. */
#include "migration/migration.h"
#include "tests/migration/rig.h"

#define STATE 3000u

/**
 * struct fake - a device without a server
 * @give: its state; @given of it are out
 * @got:  what came in
 */
struct fake {
	struct cleat_migration mig;
	unsigned state;
	const uint8_t *give;
	size_t size;
	size_t given;
	size_t piece;
	uint8_t got[2 * STATE];
	size_t taken;
	unsigned writes;
};

/* Asked at the beginning, and after a failure: then it has been reset. */
static int fake_get(struct cleat_migration *mig, unsigned *ret_state)
{
	*ret_state = CLEAT_MIGRATION_RUNNING;
	return 0;
}

static int fake_set(struct cleat_migration *mig, unsigned state)
{
	((struct fake *)mig)->state = state;
	return 0;
}

static int fake_read(struct cleat_migration *mig, void *buf, size_t room,
		     size_t *ret_got, bool *ret_last)
{
	struct fake *fake = (struct fake *)mig;
	size_t n = fake->size - fake->given;

	if (n > room)
		n = room;
	if (fake->piece && n > fake->piece)
		n = fake->piece;
	memcpy(buf, fake->give + fake->given, n);
	fake->given += n;
	*ret_got = n;
	*ret_last = n && fake->piece;
	return 0;
}

static int fake_write(struct cleat_migration *mig, const void *buf, size_t size,
		      bool last)
{
	struct fake *fake = (struct fake *)mig;

	if (fake->taken + size > sizeof(fake->got))
		return -E2BIG;
	memcpy(fake->got + fake->taken, buf, size);
	fake->taken += size;
	fake->writes += last;
	return 0;
}

static int fake_left(struct cleat_migration *mig, uint64_t *ret_bytes)
{
	return -ENODATA;
}

static const struct cleat_migration_way fake_way = {
	.generation = 2,
	.get_state = fake_get,
	.set_state = fake_set,
	.read = fake_read,
	.write = fake_write,
	.left = fake_left,
};

static uint8_t original[STATE];

static void fake_make(struct fake *fake)
{
	for (unsigned i = 0; i < STATE; i++)
		original[i] = (uint8_t)(i * 31 + (i >> 8));
	memset(fake, 0, sizeof(*fake));
	fake->mig.way = &fake_way;
	fake->mig.max_piece = 700;
	fake->mig.pre_copy = true;
	fake->mig.section = UINT64_MAX;
	fake->mig.identity.vendor = 0xc1ea;
	fake->mig.buf = malloc(CLEAT_STREAM_FRAME);
	pthread_mutex_init(&fake->mig.lock, NULL);
	fake->state = CLEAT_MIGRATION_RUNNING;
	atomic_store(&fake->mig.state, fake->state);
	fake->give = original;
}

static void fake_free(struct fake *fake)
{
	free(fake->mig.buf);
}

/* Two sections before the last, so that there are frames of each type. */
static void record(struct tape *tape)
{
	struct fake fake;

	fake_make(&fake);
	tape_make(tape);
	ATF_REQUIRE_EQ(0, cleat_migration_start(&fake.mig, NULL));
	for (unsigned i = 1; i <= 2; i++) {
		fake.size = i * STATE / 3;
		ATF_REQUIRE_EQ(0, cleat_migration_save(&fake.mig, &tape->io, 0,
						       NULL));
	}
	fake.size = STATE;
	fake.piece = 500;
	ATF_REQUIRE_EQ(0, cleat_migration_stop(&fake.mig, NULL));
	ATF_REQUIRE_EQ(0, cleat_migration_save(&fake.mig, &tape->io, 0, NULL));
	fake_free(&fake);
}

static int play(struct fake *fake, struct tape *tape, struct cleat_error *why)
{
	struct end end = { .mig = &fake->mig };

	fake_make(fake);
	tape->at = 0;
	return load_all(&end, tape, why);
}

/* Whatever went in was right, up to where it ended. */
static void check_prefix(const struct fake *fake)
{
	ATF_REQUIRE(fake->taken <= STATE);
	ATF_REQUIRE(!memcmp(fake->got, original, fake->taken));
}

CLEAT_TC(load__whole)
{
	struct fake fake;
	struct tape tape;

	record(&tape);
	ATF_REQUIRE_EQ(0, play(&fake, &tape, NULL));
	ATF_CHECK_EQ(STATE, fake.taken);
	ATF_CHECK_EQ(2, fake.writes); /* pieces that end at the source */
	check_prefix(&fake);
	fake_free(&fake);
	tape_free(&tape);
}

CLEAT_TC(load__damaged_at_every_byte)
{
	static const uint8_t damage[] = { 0x01, 0x80, 0xff };
	struct tape tape;

	record(&tape);
	for (size_t i = 0; i < tape.size; i++)
		for (unsigned k = 0; k < 3; k++) {
			struct cleat_error why = { .text = "" };
			struct fake fake;
			int err;

			tape.data[i] ^= damage[k];
			err = play(&fake, &tape, &why);
			tape.data[i] ^= damage[k];
			ATF_REQUIRE_MSG(err == -EBADMSG || err == -ENODATA ||
						err == -EPROTONOSUPPORT,
					"byte %zu: %d", i, err);
			ATF_REQUIRE_EQ(err, why.code);
			check_prefix(&fake);
			if (i < sizeof(struct cleat_stream_head))
				ATF_REQUIRE_EQ(0, fake.taken);
			fake_free(&fake);
		}
	tape_free(&tape);
}

CLEAT_TC(load__cut_off_at_every_byte)
{
	struct tape tape;
	size_t size;

	record(&tape);
	size = tape.size;
	for (tape.size = 0; tape.size < size; tape.size++) {
		struct cleat_error why = { .text = "" };
		struct fake fake;

		ATF_REQUIRE_EQ(-ENODATA, play(&fake, &tape, &why));
		check_prefix(&fake);
		fake_free(&fake);
	}
	tape_free(&tape);
}

/* A frame that is left out, doubled or moved is whole in itself. */
CLEAT_TC(load__frames_out_of_order)
{
	size_t first = sizeof(struct cleat_stream_head), length;
	struct tape tape, other;
	struct fake fake;

	record(&tape);
	length = sizeof(struct cleat_stream_frame) +
		 ((struct cleat_stream_frame *)(tape.data + first))->length;
	tape_make(&other);
	other.io.write(&other, tape.data, first);
	other.io.write(&other, tape.data + first + length,
		       tape.size - first - length);
	ATF_CHECK_EQ(-EBADMSG, play(&fake, &other, NULL));
	ATF_CHECK_EQ(0, fake.taken);
	fake_free(&fake);
	tape_free(&other);
	tape_make(&other);
	other.io.write(&other, tape.data, first + length);
	other.io.write(&other, tape.data + first, tape.size - first);
	ATF_CHECK_EQ(-EBADMSG, play(&fake, &other, NULL));
	ATF_CHECK_EQ(STATE / 3, fake.taken);
	fake_free(&fake);
	tape_free(&other);
	tape_free(&tape);
}

static struct cleat_stream_head *head_of(struct tape *tape)
{
	return (struct cleat_stream_head *)tape->data;
}

static void seal(struct tape *tape)
{
	struct cleat_stream_head *head = head_of(tape);

	head->crc = 0;
	head->crc = cleat_crc32c(0, head, sizeof(*head));
}

CLEAT_TC(load__foreign)
{
	struct cleat_error why;
	struct fake fake;
	struct tape tape;

	record(&tape);
	head_of(&tape)->identity.vendor++;
	seal(&tape);
	ATF_CHECK_EQ(-EXDEV, play(&fake, &tape, &why));
	ATF_CHECK(strstr(why.text, "vendor"));
	fake_free(&fake);
	head_of(&tape)->identity.vendor--;
	head_of(&tape)->identity.regions[2] = 4096;
	seal(&tape);
	ATF_CHECK_EQ(-EXDEV, play(&fake, &tape, &why));
	ATF_CHECK(strstr(why.text, "regions"));
	fake_free(&fake);
	head_of(&tape)->identity.regions[2] = 0;
	head_of(&tape)->generation = 1;
	seal(&tape);
	ATF_CHECK_EQ(-EXDEV, play(&fake, &tape, &why));
	ATF_CHECK(strstr(why.text, "generation"));
	fake_free(&fake);
	tape_free(&tape);
}

CLEAT_TC(load__newer)
{
	struct cleat_error why;
	struct fake fake;
	struct tape tape;

	record(&tape);
	head_of(&tape)->version = 2;
	head_of(&tape)->size = 4096;
	seal(&tape);
	ATF_CHECK_EQ(-EPROTONOSUPPORT, play(&fake, &tape, &why));
	ATF_CHECK(strstr(why.text, "newer"));
	ATF_CHECK_EQ(CLEAT_STREAM_PREFIX, tape.at);
	fake_free(&fake);
	tape_free(&tape);
}

/* A length is no reason to allocate, nor to read for ever. */
CLEAT_TC(frame__too_long)
{
	struct cleat_stream_frame frame;

	for (uint32_t type = 0; type < 8; type++) {
		cleat_stream_make_frame(&frame, type, 0, NULL, 0);
		ATF_CHECK_EQ(type == CLEAT_STREAM_SECTION ? 0 : -EBADMSG,
			     cleat_stream_check_frame(&frame, 0, NULL));
		frame.length = CLEAT_STREAM_FRAME + 1;
		ATF_CHECK_EQ(-EBADMSG,
			     cleat_stream_check_frame(&frame, 0, NULL));
		frame.length = ~0u;
		ATF_CHECK_EQ(-EBADMSG,
			     cleat_stream_check_frame(&frame, 0, NULL));
	}
}

CLEAT_TC(crc__known)
{
	uint8_t bytes[32];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	ATF_CHECK_EQ(0xe3069283u, cleat_crc32c(0, "123456789", 9));
	ATF_CHECK_EQ(0x46dd794eu, cleat_crc32c(0, bytes, sizeof(bytes)));
	for (unsigned i = 0; i <= sizeof(bytes); i++)
		ATF_CHECK_EQ(0x46dd794eu,
			     cleat_crc32c(cleat_crc32c(0, bytes, i), bytes + i,
					  sizeof(bytes) - i));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, load__whole);
	ATF_TP_ADD_TC(tp, load__damaged_at_every_byte);
	ATF_TP_ADD_TC(tp, load__cut_off_at_every_byte);
	ATF_TP_ADD_TC(tp, load__frames_out_of_order);
	ATF_TP_ADD_TC(tp, load__foreign);
	ATF_TP_ADD_TC(tp, load__newer);
	ATF_TP_ADD_TC(tp, frame__too_long);
	ATF_TP_ADD_TC(tp, crc__known);
	return atf_no_error();
}
