/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The resolver as a table of cases: what a server offers, and the runs that
 * must come of it, as text. A run is
 *
 *	OFFSET+LENGTH LOAD STORE [kicks]
 *
 * in hexadecimal, where a way is T (message), M (mapped, no slot), S (mapped,
 * with a slot), s (slot only: the vCPU thread goes by message), K (shadow), E
 * (emulated) or I (ioeventfd, with the other way after it), and a kick is its
 * length, "=value", "@fd", and "!" if the vCPU thread has to do it.
 */
#include <stdarg.h>
#include <stdio.h>

#include "mmio/resolve.h"
#include "tests/support/support.h"

#define AREAS 4
#define IOS 8
#define WINDOWS 2

struct area {
	uint64_t offset, length, fd_offset;
	const char *flags; /* - unmapped, r read-only, u unsafe */
};

struct io {
	char type; /* i ioeventfd, k shadow, r ioregionfd; p: ports; u: unsafe */
	uint64_t offset, length;
	int fd;
	const char *match;
	uint64_t shadow_offset;
};

struct window {
	uint64_t offset, length;
};

struct example {
	const char *name;
	uint64_t length;
	const char *flags; /* r no reads, w no writes, p ports, s no slots */
	struct area areas[AREAS];
	struct io ios[IOS];
	struct window windows[WINDOWS];
	const char *expected;
	const char *why; /* of the first run, if given */
};

static const struct example examples[] = {
	{ "nothing offered", 0x4000, .expected = "0+4000 T T",
	  .why = "the server offers no other way" },
	{ "one byte", 1, .expected = "0+1 T T" },
	{ "whole region mapped", 0x4000, .areas = { { 0, 0x4000, 0, "" } },
	  .expected = "0+4000 S S" },
	{ "NVMe: registers, doorbells", 0x4000,
	  .areas = { { 0x1000, 0x1000, 0x1000, "" } },
	  .expected = "0+1000 T T; 1000+1000 S S; 2000+2000 T T" },
	{ "two files side by side", 0x2000,
	  .areas = { { 0, 0x1000, 0x5000, "" }, { 0x1000, 0x1000, 0, "" } },
	  .expected = "0+1000 S S; 1000+1000 S S" },
	{ "area not mapped", 0x1000, .areas = { { 0, 0x1000, 0, "-" } },
	  .expected = "0+1000 T T", .why = "bad file" },
	{ "read-only file", 0x1000, .areas = { { 0, 0x1000, 0, "r" } },
	  .expected = "0+1000 S T", .why = "stores: the file is read-only" },
	{ "read-only region", 0x1000, "w", .areas = { { 0, 0x1000, 0, "r" } },
	  .expected = "0+1000 S T", .why = "stores: the region is read-only" },
	{ "write-only region", 0x1000, "r", .areas = { { 0, 0x1000, 0, "" } },
	  .expected = "0+1000 T T", .why = "the region is not readable" },
	{ "pages that may go away", 0x1000, .areas = { { 0, 0x1000, 0, "u" } },
	  .expected = "0+1000 s s" },
	{ "nobody makes slots", 0x1000, "s", .areas = { { 0, 0x1000, 0, "" } },
	  .expected = "0+1000 M M", .why = "the VMM makes no memory slots" },
	{ "no slots, and pages that may go away", 0x1000, "s",
	  .areas = { { 0, 0x1000, 0, "u" } }, .expected = "0+1000 T T",
	  .why = "bad file" },
	{ "ports mapped", 0x100, "p", .areas = { { 0, 0x100, 0, "" } },
	  .expected = "0+100 M M", .why = "ports have no memory slots" },

	{ "area not page-aligned", 0x4000,
	  .areas = { { 0x800, 0x2000, 0x800, "" } },
	  .expected = "0+800 T T; 800+800 M M; 1000+1000 S S; 2000+800 M M; "
		      "2800+1800 T T" },
	{ "area inside a page", 0x1000,
	  .areas = { { 0x100, 0x80, 0x100, "" } },
	  .expected = "0+100 T T; 100+80 M M; 180+e80 T T" },
	{ "area inside a page, pages that may go away", 0x1000,
	  .areas = { { 0x100, 0x80, 0x100, "u" } },
	  .expected = "0+100 T T; 100+80 T T; 180+e80 T T" },
	{ "file offset of another page offset", 0x2000,
	  .areas = { { 0, 0x2000, 0x40, "" } }, .expected = "0+2000 M M",
	  .why = "offsets in region and file differ within the page" },
	{ "odd file offset", 0x1000, .areas = { { 0, 0x1000, 0x44, "" } },
	  .expected = "0+1000 T T",
	  .why = "the area is not aligned in its file" },
	{ "region that ends inside a page", 0x1800,
	  .areas = { { 0, 0x1800, 0, "" } },
	  .expected = "0+1000 S S; 1000+800 M M" },
	{ "region to the end of 64 bits", UINT64_MAX,
	  .areas = { { UINT64_MAX - 0x1fff, 0x1fff, 0, "" } },
	  .expected = "0+ffffffffffffe000 T T; ffffffffffffe000+1000 S S; "
		      "fffffffffffff000+fff M M" },

	{ "MSI-X table in a mapped page", 0x3000,
	  .areas = { { 0, 0x3000, 0, "" } }, .windows = { { 0x1000, 0x100 } },
	  .expected = "0+1000 S S; 1000+100 E E; 1100+f00 M M; 2000+1000 S S" },
	{ "MSI-X table over a page's edge", 0x3000,
	  .areas = { { 0, 0x3000, 0, "" } }, .windows = { { 0xff0, 0x20 } },
	  .expected = "0+ff0 M M; ff0+20 E E; 1010+ff0 M M; 2000+1000 S S" },
	{ "table and PBA in one page", 0x1000,
	  .areas = { { 0, 0x1000, 0, "u" } },
	  .windows = { { 0, 0x40 }, { 0x800, 8 } },
	  .expected = "0+40 E E; 40+7c0 T T; 800+8 E E; 808+7f8 T T" },
	{ "window to the end", 0x1800, .areas = { { 0, 0x1800, 0, "" } },
	  .windows = { { 0x1700, 0x100 } },
	  .expected = "0+1000 S S; 1000+700 M M; 1700+100 E E" },

	{ "ioeventfd without length", 0x1000, .ios = { { 'i', 0x10, 0, 5 } },
	  .expected = "0+10 T T; 10+8 T I/T 0@5; 18+fe8 T T" },
	{ "ioeventfd of four bytes", 0x1000, .ios = { { 'i', 0x10, 4, 5 } },
	  .expected = "0+10 T T; 10+4 T I/T 4@5; 14+fec T T" },
	{ "ioeventfd at the end", 0x1000, .ios = { { 'i', 0xffc, 0, 5 } },
	  .expected = "0+ffc T T; ffc+4 T I/T 0@5" },
	{ "a queue's two doorbells", 0x10,
	  .ios = { { 'i', 4, 4, 6 }, { 'i', 0, 4, 5 } },
	  .expected = "0+4 T I/T 4@5; 4+4 T I/T 4@6; 8+8 T T" },
	{ "without length, and the next close by", 0x10,
	  .ios = { { 'i', 0, 0, 5 }, { 'i', 4, 0, 6 } },
	  .expected = "0+4 T I/T 0@5; 4+4 T I/T 0@6; 8+8 T T" },
	{ "two values at one address", 0x10,
	  .ios = { { 'i', 0, 4, 6, "2" }, { 'i', 0, 4, 5, "1" } },
	  .expected = "0+4 T I/T 4=1@5 4=2@6; 4+c T T" },
	{ "one value twice: the first", 0x10,
	  .ios = { { 'i', 0, 4, 6, "2" }, { 'i', 0, 4, 5, "2" } },
	  .expected = "0+4 T I/T 4=2@6; 4+c T T" },
	{ "two lengths at one address", 0x10,
	  .ios = { { 'i', 0, 4, 6 }, { 'i', 0, 2, 5 } },
	  .expected = "0+2 T I/T 2@5 4@6; 2+e T T" },
	{ "a value and any value", 0x10,
	  .ios = { { 'i', 0, 4, 6 }, { 'i', 0, 4, 5, "1" } },
	  .expected = "0+4 T I/T 4=1@5 4@6!; 4+c T T" },
	{ "a value and any value of another length", 0x10,
	  .ios = { { 'i', 0, 2, 6 }, { 'i', 0, 4, 5, "1" } },
	  .expected = "0+2 T I/T 4=1@5 2@6; 2+e T T" },
	{ "a length and any length", 0x10,
	  .ios = { { 'i', 0, 0, 6 }, { 'i', 0, 4, 5 } },
	  .expected = "0+4 T I/T 4@5 0@6!; 4+c T T" },
	{ "a value, a length and any length", 0x10,
	  .ios = { { 'i', 0, 0, 7 }, { 'i', 0, 4, 6 }, { 'i', 0, 4, 5, "9" } },
	  .expected = "0+4 T I/T 4=9@5 4@6! 0@7!; 4+c T T" },
	{ "the same eventfd for all: the widest", 0x10,
	  .ios = { { 'i', 0, 4, 5, "9" }, { 'i', 0, 4, 5 }, { 'i', 0, 0, 5 } },
	  .expected = "0+4 T I/T 0@5; 4+c T T" },
	{ "the same eventfd round another", 0x10,
	  .ios = { { 'i', 0, 4, 5, "9" }, { 'i', 0, 4, 6 }, { 'i', 0, 0, 5 } },
	  .expected = "0+4 T I/T 4=9@5 4@6! 0@5!; 4+c T T" },
	{ "a length that no CPU has", 0x10, .ios = { { 'i', 0, 3, 5 } },
	  .expected = "0+3 T T; 3+d T T",
	  .why = "an ioeventfd has no such length" },
	{ "bigger than its page", 0x3000, .ios = { { 'i', 0, 0x2000, 5 } },
	  .expected = "0+2000 T T; 2000+1000 T T",
	  .why = "an ioeventfd has no such length" },
	{ "over a page's edge", 0x2000, .ios = { { 'i', 0xffc, 8, 5 } },
	  .expected = "0+ffc T T; ffc+8 T T; 1004+ffc T T" },
	{ "value without length", 0x10, .ios = { { 'i', 0, 0, 5, "1" } },
	  .expected = "0+8 T T; 8+8 T T",
	  .why = "an ioeventfd with a value has a length" },
	{ "outside the region", 0x10, .ios = { { 'i', 0xc, 8, 5 } },
	  .expected = "0+c T T; c+4 T T" },
	{ "far outside the region", 0x10,
	  .ios = { { 'i', UINT64_MAX, 8, 5 }, { 'k', 0x10, 1, 5 } },
	  .expected = "0+10 T T" },
	{ "ioregionfd", 0x10, .ios = { { 'r', 0, 0x10, 5 } },
	  .expected = "0+10 T T", .why = "no kernel has ioregionfds" },
	{ "ports", 0x10, "p", .ios = { { 'p', 0, 2, 5 }, { 'i', 4, 2, 6 } },
	  .expected = "0+2 T I/T 2@5; 2+2 T T; 4+2 T I/T 2@6; 6+a T T" },
	{ "for ports, in memory", 0x10, .ios = { { 'p', 0, 2, 5 } },
	  .expected = "0+2 T T; 2+e T T",
	  .why = "the ioeventfd is for ports" },
	{ "in a read-only region", 0x10, "w", .ios = { { 'i', 0, 2, 5 } },
	  .expected = "0+10 T T" },
	{ "reaches an emulated part", 0x10, .ios = { { 'i', 0, 8, 5 } },
	  .windows = { { 4, 4 } },
	  .expected = "0+4 T T; 4+4 E E; 8+8 T T",
	  .why = "the descriptor reaches an emulated part" },
	{ "beside an emulated part", 0x10, .ios = { { 'i', 0, 4, 5 } },
	  .windows = { { 4, 4 } },
	  .expected = "0+4 T I/T 4@5; 4+4 E E; 8+8 T T" },

	{ "in a mapped page: the page", 0x2000,
	  .areas = { { 0, 0x1000, 0, "" } },
	  .ios = { { 'i', 0x10, 4, 5 }, { 'i', 0x1000, 4, 6 } },
	  .expected = "0+1000 S S; 1000+4 T I/T 4@6; 1004+ffc T T" },
	{ "in a page mapped read-only", 0x1000,
	  .areas = { { 0, 0x1000, 0, "r" } }, .ios = { { 'i', 0, 4, 5 } },
	  .expected = "0+4 S I/T 4@5; 4+ffc S T" },
	{ "in an area without a slot: the ioeventfd", 0x1000, "s",
	  .areas = { { 0, 0x1000, 0, "" } }, .ios = { { 'i', 0, 4, 5 } },
	  .expected = "0+4 M I/M 4@5; 4+ffc M M" },

	{ "shadow doorbells", 0x1000, .ios = { { 'k', 0x100, 0x80, 5 } },
	  .expected = "0+100 T T; 100+80 T K 0@5; 180+e80 T T" },
	{ "shadow over pages", 0x4000, .ios = { { 'k', 0x800, 0x2800, 5 } },
	  .expected = "0+800 T T; 800+2800 T K 0@5; 3000+1000 T T" },
	{ "shadow in pages that may go away", 0x10,
	  .ios = { { 'u', 0, 0x10, 5 } }, .expected = "0+10 T T",
	  .why = "bad file" },
	{ "shadow not aligned", 0x10,
	  .ios = { { 'k', 0, 8, 5, NULL, 4 } },
	  .expected = "0+8 T T; 8+8 T T",
	  .why = "the shadow is not aligned" },
	{ "shadow without length", 0x10, .ios = { { 'k', 0, 0, 5 } },
	  .expected = "0+8 T T; 8+8 T T",
	  .why = "the shadow doorbell has no length" },
	{ "shadow with a value", 0x10, .ios = { { 'k', 0, 4, 5, "7" } },
	  .expected = "0+4 T K 4=7@5; 4+c T T" },
	{ "shadows overlap: the first", 0x20,
	  .ios = { { 'k', 8, 0x10, 6 }, { 'k', 0, 0x10, 5 } },
	  .expected = "0+10 T K 0@5; 10+10 T T" },
	{ "ioeventfd in a shadow", 0x20,
	  .ios = { { 'k', 0, 0x20, 5 }, { 'i', 8, 4, 6 } },
	  .expected = "0+8 T K 0@5; 8+4 T I/T 4@6; c+14 T K 0@5" },
	{ "shadow in a mapped page: the page", 0x1000,
	  .areas = { { 0, 0x1000, 0, "" } }, .ios = { { 'k', 0, 8, 5 } },
	  .expected = "0+1000 S S" },
	{ "shadow in a page mapped read-only", 0x1000,
	  .areas = { { 0, 0x1000, 0, "r" } }, .ios = { { 'k', 0, 8, 5 } },
	  .expected = "0+8 S K 0@5; 8+ff8 S T" },
	{ "shadow beside a window", 0x20, .ios = { { 'k', 0, 0x20, 5 } },
	  .windows = { { 8, 8 } },
	  .expected = "0+8 T K 0@5; 8+8 E E; 10+10 T K 0@5" },
};

/* --- From an example to the resolver's input ------------------------------ */

struct setting {
	struct cleat_resolve_area areas[AREAS];
	struct cleat_resolve_io ios[IOS];
	struct cleat_resolve_window windows[WINDOWS];
	struct cleat_resolve_input input;
};

static bool has(const char *flags, char flag)
{
	return flags && strchr(flags, flag);
}

static void set_areas(struct setting *s, const struct example *e)
{
	for (unsigned i = 0; i < AREAS && e->areas[i].length; i++) {
		const struct area *a = &e->areas[i];

		s->areas[i] = (struct cleat_resolve_area){
			.offset = a->offset,
			.length = a->length,
			.fd = 100 + (int)i,
			.fd_offset = a->fd_offset,
			.mapped = !has(a->flags, '-'),
			.writable = !has(a->flags, 'r'),
			.safe = !has(a->flags, '-') && !has(a->flags, 'u'),
			.why = "bad file",
		};
		s->input.num_areas = i + 1;
	}
}

static void set_ios(struct setting *s, const struct example *e)
{
	for (unsigned i = 0; i < IOS && e->ios[i].type; i++) {
		const struct io *io = &e->ios[i];

		s->ios[i].io = (struct cleat_io_fd){
			.offset = io->offset,
			.length = io->length,
			.type = io->type == 'r' ? CLEAT_IO_FD_IOREGIONFD :
				strchr("ku", io->type) ? CLEAT_IO_FD_SHADOW :
							 CLEAT_IO_FD_IOEVENTFD,
			.match = io->match,
			.datamatch = io->match ? strtoull(io->match, 0, 0) : 0,
			.ports = io->type == 'p',
			.fd = io->fd,
			.shadow_fd = 200 + io->fd,
			.shadow_offset = io->shadow_offset,
		};
		s->ios[i].safe = io->type == 'k';
		s->ios[i].why = "bad file";
		s->input.num_io = i + 1;
	}
}

static void set_up(struct setting *s, const struct example *e)
{
	memset(s, 0, sizeof(*s));
	s->input.length = e->length;
	s->input.page = 0x1000;
	s->input.readable = !has(e->flags, 'r');
	s->input.writable = !has(e->flags, 'w');
	s->input.ports = has(e->flags, 'p');
	s->input.slots = !has(e->flags, 's');
	s->input.areas = s->areas;
	s->input.io = s->ios;
	s->input.windows = s->windows;
	set_areas(s, e);
	set_ios(s, e);
	for (unsigned i = 0; i < WINDOWS && e->windows[i].length; i++) {
		s->windows[i].offset = e->windows[i].offset;
		s->windows[i].length = e->windows[i].length;
		s->input.num_windows = i + 1;
	}
}

/* --- And from its output to text ------------------------------------------ */

struct text {
	char buf[1024];
	size_t used;
};

static void say(struct text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void say(struct text *text, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text->buf + text->used, sizeof(text->buf) - text->used,
		      format, args);
	va_end(args);
	text->used += (size_t)n;
	ATF_REQUIRE(text->used < sizeof(text->buf));
}

static char letter(enum cleat_way way)
{
	return "TMIKE"[way];
}

static char load_letter(const struct cleat_run *run)
{
	if (run->seg.read_way != CLEAT_WAY_MAP)
		return letter(run->seg.read_way);
	if (run->slot < 0)
		return 'M';
	return run->load == CLEAT_WAY_MAP ? 'S' : 's';
}

static void say_store(struct text *text, const struct cleat_run *run)
{
	char way = letter(run->seg.write_way);

	if (run->seg.write_way == CLEAT_WAY_MAP && run->slot >= 0)
		way = run->store == CLEAT_WAY_MAP ? 'S' : 's';
	say(text, " %c", way);
	if (run->seg.write_way == CLEAT_WAY_IOEVENTFD)
		say(text, "/%c", letter(run->seg.other_way));
	for (unsigned i = 0; i < run->seg.num_kicks; i++) {
		const struct cleat_kick *kick = &run->seg.kicks[i];

		say(text, " %u", kick->length);
		if (kick->match)
			say(text, "=%x", (unsigned)kick->datamatch);
		say(text, "@%d", kick->fd);
		if (run->wanted && !run->wanted[i])
			say(text, "!");
	}
}

static void say_runs(struct text *text, const struct cleat_runs *runs)
{
	for (unsigned i = 0; i < runs->num; i++) {
		const struct cleat_run *run = &runs->runs[i];

		say(text, "%s%llx+%llx %c", i ? "; " : "",
		    (unsigned long long)run->seg.offset,
		    (unsigned long long)run->seg.length, load_letter(run));
		say_store(text, run);
	}
}

/* --- What is true of every result ------------------------------------------ */

static void check_run(const struct cleat_run *run)
{
	bool best = run->seg.write_way == CLEAT_WAY_EMULATED ||
		    (run->slot >= 0 && run->seg.write_way == CLEAT_WAY_MAP);

	ATF_CHECK_EQ(best, !run->seg.why);
	ATF_CHECK_EQ(run->seg.read_way == CLEAT_WAY_MAP, run->area >= 0);
	ATF_CHECK_EQ(run->seg.write_way == CLEAT_WAY_SHADOW, run->shadow >= 0);
	ATF_CHECK(run->load_end >= run->seg.offset + run->seg.length);
	ATF_CHECK(run->store_end >= run->seg.offset + run->seg.length);
	ATF_CHECK_EQ(run->area >= 0 || run->shadow >= 0, run->seg.fd >= 0);
}

static void check_cover(const struct cleat_runs *runs, uint64_t length)
{
	uint64_t next = 0;

	for (unsigned i = 0; i < runs->num; i++) {
		struct cleat_run *run = &runs->runs[i];

		check_run(run);
		ATF_REQUIRE_EQ(next, run->seg.offset);
		ATF_REQUIRE(run->seg.length > 0);
		next += run->seg.length;
		ATF_CHECK_EQ(run, cleat_runs_find(runs, run->seg.offset));
		ATF_CHECK_EQ(run, cleat_runs_find(runs, next - 1));
	}
	ATF_REQUIRE_EQ(length, next);
}

/* Whole pages, and every run with a slot is inside its own. */
static void check_slots(const struct cleat_runs *runs)
{
	uint64_t covered = 0, wanted = 0;

	for (unsigned i = 0; i < runs->num_slots; i++) {
		struct cleat_run_slot *slot = &runs->slots[i];

		ATF_CHECK(slot->length && slot->length % 0x1000 == 0);
		ATF_CHECK_EQ(0, slot->offset % 0x1000);
		covered += slot->length;
	}
	for (unsigned i = 0; i < runs->num; i++) {
		struct cleat_run *run = &runs->runs[i];
		struct cleat_run_slot *slot = &runs->slots[run->slot];

		if (run->slot < 0)
			continue;
		ATF_CHECK(run->slot < (int)runs->num_slots);
		ATF_CHECK(run->seg.offset - slot->offset < slot->length);
		ATF_CHECK_EQ((int)slot->area, run->area);
		ATF_CHECK(!slot->writable ||
			  run->seg.write_way == CLEAT_WAY_MAP);
		wanted += run->seg.length;
	}
	ATF_CHECK_EQ(wanted, covered);
}

CLEAT_TC(resolve__examples)
{
	for (size_t i = 0; i < sizeof(examples) / sizeof(*examples); i++) {
		const struct example *e = &examples[i];
		struct text text = { .used = 0 };
		struct cleat_runs runs;
		struct setting setting;

		set_up(&setting, e);
		ATF_REQUIRE_EQ(0, cleat_resolve(&setting.input, &runs));
		say_runs(&text, &runs);
		ATF_CHECK_MSG(!strcmp(e->expected, text.buf),
			      "%s:\nexpected %s\ngot      %s", e->name,
			      e->expected, text.buf);
		if (e->why && (!runs.runs[0].seg.why ||
			       strcmp(e->why, runs.runs[0].seg.why)))
			atf_tc_fail_nonfatal("%s: why: %s", e->name,
					     runs.runs[0].seg.why);
		check_cover(&runs, e->length);
		check_slots(&runs);
		cleat_runs_free(&runs);
	}
}

/* Loads of eight bytes go as one message over the ends of doorbells. */
CLEAT_TC(resolve__ends_of_ways)
{
	static const struct example e = {
		"", 0x2000, .areas = { { 0x1000, 0x1000, 0, "" } },
		.ios = { { 'i', 0, 4, 5 }, { 'i', 4, 4, 6 }, { 'k', 8, 8, 7 } },
	};
	struct cleat_runs runs;
	struct setting setting;

	set_up(&setting, &e);
	ATF_REQUIRE_EQ(0, cleat_resolve(&setting.input, &runs));
	ATF_REQUIRE_EQ(5, runs.num);
	for (unsigned i = 0; i < 4; i++)
		ATF_CHECK_EQ(0x1000, runs.runs[i].load_end);
	ATF_CHECK_EQ(8, runs.runs[0].store_end);
	ATF_CHECK_EQ(8, runs.runs[1].store_end);
	ATF_CHECK_EQ(16, runs.runs[2].store_end);
	ATF_CHECK_EQ(0x1000, runs.runs[3].store_end);
	ATF_CHECK_EQ(0x2000, runs.runs[4].store_end);
	cleat_runs_free(&runs);
}

/* --- Anything at all -------------------------------------------------------- */

static uint64_t any(unsigned short seed[3], uint64_t below)
{
	uint64_t n = (uint64_t)nrand48(seed) << 31 ^ (uint64_t)nrand48(seed);

	return n % below;
}

static void any_parts(struct setting *s, unsigned short seed[3])
{
	uint64_t at = 0, window = 0;

	for (unsigned i = 0; i < AREAS; i++) {
		struct cleat_resolve_area *area = &s->areas[i];

		area->offset = at + any(seed, 0x1800);
		area->length = 1 + any(seed, 0x1800);
		area->fd_offset = any(seed, 3) ? area->offset & 0xfff :
						 any(seed, 0x100);
		area->mapped = any(seed, 4);
		area->safe = area->mapped && any(seed, 2);
		area->writable = any(seed, 2);
		area->why = "bad file";
		at = area->offset + area->length;
	}
	for (unsigned i = 0; i < WINDOWS; i++) {
		s->windows[i].offset = window + any(seed, 0x2000);
		s->windows[i].length = 1 + any(seed, 0x1100);
		window = s->windows[i].offset + s->windows[i].length;
	}
	s->input.length = (at > window ? at : window) + any(seed, 0x1000);
}

static void any_ios(struct setting *s, unsigned short seed[3])
{
	for (unsigned i = 0; i < IOS; i++) {
		struct cleat_resolve_io *io = &s->ios[i];

		io->io.offset = any(seed, any(seed, 2) ? 0x20 : 0x4000);
		io->io.length = any(seed, 2) ? 1ull << any(seed, 4) :
					       any(seed, 0x1800);
		io->io.type = (uint32_t)any(seed, 3);
		io->io.match = any(seed, 3) == 0;
		io->io.datamatch = any(seed, 3);
		io->io.fd = (int)any(seed, 3);
		io->io.shadow_offset = any(seed, 3) ? io->io.offset & 7 : 4;
		io->safe = any(seed, 2);
		io->why = "bad file";
	}
}

CLEAT_TC(resolve__anything)
{
	unsigned short seed[3] = { 3, 1, 4 };

	for (unsigned n = 0; n < 20000; n++) {
		struct setting s = {
			.input = { .page = 0x1000,
				   .readable = any(seed, 8),
				   .writable = any(seed, 8),
				   .ports = !any(seed, 8),
				   .slots = any(seed, 4),
				   .areas = s.areas,
				   .num_areas = (unsigned)any(seed, AREAS + 1),
				   .io = s.ios,
				   .num_io = (unsigned)any(seed, IOS + 1),
				   .windows = s.windows,
				   .num_windows =
					   (unsigned)any(seed, WINDOWS + 1) },
		};
		struct cleat_runs runs;

		any_parts(&s, seed);
		any_ios(&s, seed);
		ATF_REQUIRE_EQ(0, cleat_resolve(&s.input, &runs));
		check_cover(&runs, s.input.length);
		check_slots(&runs);
		cleat_runs_free(&runs);
	}
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, resolve__examples);
	ATF_TP_ADD_TC(tp, resolve__ends_of_ways);
	ATF_TP_ADD_TC(tp, resolve__anything);
	return atf_no_error();
}
