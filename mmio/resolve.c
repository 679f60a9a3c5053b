/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mmio/resolve.h"

/* The widest store a CPU makes: what an ioeventfd without length answers to. */
#define WIDEST 8

static const char why_nothing[] = "the server offers no other way";
static const char why_no_area[] = "the server offers no mappable area";
static const char why_unreadable[] = "the region is not readable";
static const char why_read_only[] = "stores: the region is read-only";
static const char why_file_read_only[] = "stores: the file is read-only";
static const char why_ports[] = "ports have no memory slots";
static const char why_no_slots[] = "the VMM makes no memory slots";
static const char why_not_pages[] = "the area is not whole pages here";
static const char why_shared_page[] = "shares its page with an emulated part";
static const char why_file_offset[] =
	"offsets in region and file differ within the page";
static const char why_unaligned[] = "the area is not aligned in its file";
static const char why_length[] = "an ioeventfd has no such length";
static const char why_wild_match[] = "an ioeventfd with a value has a length";
static const char why_for_ports[] = "the ioeventfd is for ports";
static const char why_two_pages[] = "the ioeventfd is on two pages";
static const char why_emulated[] = "the descriptor reaches an emulated part";
static const char why_ioregionfd[] = "no kernel has ioregionfds";
static const char why_shadow_length[] = "the shadow doorbell has no length";
static const char why_shadow_aligned[] = "the shadow is not aligned";
static const char why_shadow_overlap[] = "overlaps another shadow doorbell";
static const char why_no_fd[] = "no eventfd came with it";
static const char why_outside[] = "the descriptor is not inside the region";

/* An IO descriptor while it is being judged. */
struct entry {
	const struct cleat_resolve_io *source;
	int number;
	uint64_t first;
	uint64_t end;
	bool kick; /* an ioeventfd, not a shadow */
	const char *why; /* why it cannot be used */
};

struct resolver {
	const struct cleat_resolve_input *in;
	struct entry *entries; /* by first address, then narrowest first */
	unsigned num_entries;
	uint64_t *edges;
	unsigned num_edges;
	struct cleat_runs out;
	unsigned num_kicks;
	/* Where the sweep is. */
	unsigned area, window, entry, shadow;
};

/* --- Pages --------------------------------------------------------------- */

static uint64_t page_down(const struct resolver *r, uint64_t offset)
{
	return offset & ~(r->in->page - 1);
}

/* Up to a page's end, but not beyond the region's, which may be at 2^64. */
static uint64_t page_up(const struct resolver *r, uint64_t offset)
{
	uint64_t down = page_down(r, offset);

	if (down == offset)
		return offset;
	return r->in->length - down < r->in->page ? r->in->length :
						     down + r->in->page;
}

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* --- IO descriptors ------------------------------------------------------ */

static bool in_window(const struct resolver *r, uint64_t first, uint64_t end)
{
	for (unsigned i = 0; i < r->in->num_windows; i++) {
		const struct cleat_resolve_window *w = &r->in->windows[i];

		if (w->offset < end && w->offset + w->length > first)
			return true;
	}
	return false;
}

static const char *judge_kick(const struct resolver *r,
			      const struct cleat_io_fd *io, uint64_t end)
{
	uint64_t length = io->length;

	if (io->fd < 0)
		return why_no_fd;
	if (length > WIDEST || (length & (length - 1)))
		return why_length;
	if (io->match && !length)
		return why_wild_match;
	if (io->ports && !r->in->ports)
		return why_for_ports;
	/* The CPU makes two accesses of one over a page's end. */
	if (length && page_down(r, io->offset) != page_down(r, end - 1))
		return why_two_pages;
	if (in_window(r, io->offset, end))
		return why_emulated;
	return NULL;
}

static const char *judge_shadow(const struct resolver *r,
				const struct cleat_resolve_io *source)
{
	const struct cleat_io_fd *io = &source->io;

	if (io->fd < 0)
		return why_no_fd;
	if (!io->length)
		return why_shadow_length;
	/* No store could have that value. */
	if (io->match && (io->length > WIDEST || io->length & (io->length - 1)))
		return why_length;
	if (!source->safe)
		return source->why;
	if ((io->offset - io->shadow_offset) % WIDEST)
		return why_shadow_aligned;
	return NULL;
}

static void judge(struct resolver *r, struct entry *entry)
{
	const struct cleat_io_fd *io = &entry->source->io;
	uint64_t length = io->length ? io->length : WIDEST;

	entry->first = min64(io->offset, r->in->length);
	entry->end = r->in->length;
	entry->kick = io->type != CLEAT_IO_FD_SHADOW;
	if (io->length > r->in->length - entry->first ||
	    entry->first == r->in->length) {
		entry->why = why_outside;
		return;
	}
	entry->end = entry->first + min64(length, entry->end - entry->first);
	if (io->type == CLEAT_IO_FD_IOEVENTFD)
		entry->why = judge_kick(r, io, entry->end);
	else if (io->type == CLEAT_IO_FD_SHADOW)
		entry->why = judge_shadow(r, entry->source);
	else
		entry->why = why_ioregionfd;
}

/* 0 for the narrowest. */
static unsigned width_of(const struct cleat_io_fd *io)
{
	return io->match ? 0 : io->length ? 1 : 2;
}

static int by_address(const void *left, const void *right)
{
	const struct entry *a = left, *b = right;
	const struct cleat_io_fd *ia = &a->source->io, *ib = &b->source->io;

	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	if (a->kick != b->kick)
		return a->kick ? -1 : 1;
	if (width_of(ia) != width_of(ib))
		return width_of(ia) < width_of(ib) ? -1 : 1;
	if (ia->length != ib->length)
		return ia->length < ib->length ? -1 : 1;
	if (ia->match && ia->datamatch != ib->datamatch)
		return ia->datamatch < ib->datamatch ? -1 : 1;
	return a->number - b->number;
}

/* A byte has one shadow: the first. */
static void part_shadows(struct resolver *r)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < r->num_entries; i++) {
		struct entry *entry = &r->entries[i];

		if (entry->kick || entry->why)
			continue;
		if (entry->first < end)
			entry->why = why_shadow_overlap;
		else
			end = entry->end;
	}
}

static int take_entries(struct resolver *r)
{
	const struct cleat_resolve_input *in = r->in;

	r->num_entries = in->num_io;
	r->entries = calloc(in->num_io + 1, sizeof(*r->entries));
	if (!r->entries)
		return -ENOMEM;
	for (unsigned i = 0; i < in->num_io; i++) {
		r->entries[i].source = &in->io[i];
		r->entries[i].number = (int)i;
		judge(r, &r->entries[i]);
	}
	qsort(r->entries, r->num_entries, sizeof(*r->entries), by_address);
	part_shadows(r);
	return 0;
}

/* --- Edges: between two of them nothing changes -------------------------- */

static void edge(struct resolver *r, uint64_t offset)
{
	r->edges[r->num_edges++] = min64(offset, r->in->length);
}

static int by_value(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;

	return *a < *b ? -1 : *a > *b;
}

static void drop_doubles(struct resolver *r)
{
	unsigned n = 0;

	qsort(r->edges, r->num_edges, sizeof(*r->edges), by_value);
	for (unsigned i = 0; i < r->num_edges; i++)
		if (!n || r->edges[n - 1] != r->edges[i])
			r->edges[n++] = r->edges[i];
	r->num_edges = n;
}

static int find_edges(struct resolver *r)
{
	const struct cleat_resolve_input *in = r->in;
	size_t most = 2 + 4 * ((size_t)in->num_areas + in->num_windows) +
		      2 * (size_t)in->num_io;

	r->edges = malloc(most * sizeof(*r->edges));
	if (!r->edges)
		return -ENOMEM;
	edge(r, 0);
	edge(r, in->length);
	for (unsigned i = 0; i < in->num_areas; i++) {
		uint64_t start = in->areas[i].offset;
		uint64_t end = start + in->areas[i].length;

		edge(r, start);
		edge(r, end);
		edge(r, page_up(r, start));
		edge(r, page_down(r, end));
	}
	for (unsigned i = 0; i < in->num_windows; i++) {
		uint64_t start = in->windows[i].offset;
		uint64_t end = start + in->windows[i].length;

		edge(r, start);
		edge(r, end);
		edge(r, page_down(r, start));
		edge(r, page_up(r, end));
	}
	for (unsigned i = 0; i < r->num_entries; i++) {
		edge(r, r->entries[i].first);
		edge(r, r->entries[i].end);
	}
	drop_doubles(r);
	return 0;
}

/* --- Kicks of one address ------------------------------------------------- */

static bool same_writes(const struct cleat_kick *a, const struct cleat_kick *b)
{
	return a->length == b->length && a->match == b->match &&
	       (!a->match || a->datamatch == b->datamatch);
}

/* Every write that kicks @narrow would kick @wide, were it not for @narrow. */
static bool covers(const struct cleat_kick *wide,
		   const struct cleat_kick *narrow)
{
	return !wide->match && (!wide->length || wide->length == narrow->length);
}

/* The next wider one of @kicks has the same eventfd: this one adds nothing. */
static bool is_redundant(const struct cleat_kick *kicks, unsigned num,
			 unsigned i)
{
	for (unsigned n = i + 1; n < num; n++)
		if (covers(&kicks[n], &kicks[i]))
			return kicks[n].fd == kicks[i].fd;
	return false;
}

/* The usable descriptors at @offset, narrowest first, each kind once. */
static unsigned collect(struct resolver *r, uint64_t offset,
			struct cleat_kick *kicks)
{
	unsigned num = 0;

	for (; r->entry < r->num_entries; r->entry++) {
		const struct entry *entry = &r->entries[r->entry];
		const struct cleat_io_fd *io = &entry->source->io;
		struct cleat_kick kick = { .length = (uint32_t)io->length,
					   .match = io->match,
					   .datamatch = io->datamatch,
					   .fd = io->fd };

		if (entry->first > offset)
			break;
		if (entry->first < offset || !entry->kick || entry->why)
			continue;
		if (!num || !same_writes(&kicks[num - 1], &kick))
			kicks[num++] = kick;
	}
	return num;
}

/* Put the kicks at @offset into the list; KVM has no two for one write. */
static unsigned take_kicks(struct resolver *r, uint64_t offset)
{
	struct cleat_kick *kicks = r->out.kicks + r->num_kicks;
	bool *wanted = r->out.wanted + r->num_kicks;
	unsigned num = collect(r, offset, kicks), n = 0;

	for (unsigned i = 0; i < num; i++)
		if (!is_redundant(kicks, num, i))
			kicks[n++] = kicks[i];
	for (unsigned i = 0; i < n; i++) {
		wanted[i] = true;
		for (unsigned k = 0; k < i && wanted[i]; k++)
			wanted[i] = !covers(&kicks[i], &kicks[k]);
	}
	return n;
}

/* --- One interval ---------------------------------------------------------- */

static int area_at(struct resolver *r, uint64_t offset)
{
	const struct cleat_resolve_area *areas = r->in->areas;

	while (r->area < r->in->num_areas &&
	       areas[r->area].offset + areas[r->area].length - 1 < offset)
		r->area++;
	return r->area < r->in->num_areas && areas[r->area].offset <= offset ?
		       (int)r->area : -1;
}

static int window_at(struct resolver *r, uint64_t offset)
{
	const struct cleat_resolve_window *windows = r->in->windows;

	while (r->window < r->in->num_windows &&
	       windows[r->window].offset + windows[r->window].length - 1 <
		       offset)
		r->window++;
	return r->window < r->in->num_windows &&
			       windows[r->window].offset <= offset ?
		       (int)r->window : -1;
}

static const struct entry *shadow_at(struct resolver *r, uint64_t offset)
{
	const struct entry *entry;

	for (; r->shadow < r->num_entries; r->shadow++) {
		entry = &r->entries[r->shadow];
		if (entry->kick || entry->why || entry->end <= offset)
			continue;
		return entry->first <= offset ? entry : NULL;
	}
	return NULL;
}

/* Why a descriptor that begins here is not used, if there is one. */
static const char *unused_at(const struct resolver *r, unsigned from,
			     uint64_t offset)
{
	for (; from < r->num_entries && r->entries[from].first <= offset;
	     from++)
		if (r->entries[from].first == offset && r->entries[from].why)
			return r->entries[from].why;
	return NULL;
}

/* NULL if the pages from @offset to @end of @area can be a memory slot. */
static const char *judge_slot(const struct resolver *r,
			      const struct cleat_resolve_area *area,
			      uint64_t offset, uint64_t end)
{
	const struct cleat_resolve_input *in = r->in;

	if (in->ports)
		return why_ports;
	if (!in->slots)
		return why_no_slots;
	if ((area->offset - area->fd_offset) % in->page)
		return why_file_offset;
	if (offset < page_up(r, area->offset) ||
	    end > page_down(r, area->offset + area->length))
		return why_not_pages;
	for (unsigned i = 0; i < in->num_windows; i++) {
		const struct cleat_resolve_window *w = &in->windows[i];

		if (page_down(r, w->offset) < end &&
		    page_up(r, w->offset + w->length) > offset)
			return why_shared_page;
	}
	return NULL;
}

static bool host_may(const struct cleat_resolve_area *area)
{
	return area && area->safe &&
	       !((area->offset - area->fd_offset) % WIDEST);
}

/* The area that can be used from @offset to @end, or NULL and why. */
static const struct cleat_resolve_area *
usable_area(struct resolver *r, struct cleat_run *run, uint64_t end)
{
	int number = area_at(r, run->seg.offset);
	const struct cleat_resolve_area *area;
	const char *why;

	if (number < 0)
		return NULL;
	area = &r->in->areas[number];
	if (!area->mapped) {
		run->seg.why = area->why;
		return NULL;
	}
	why = judge_slot(r, area, run->seg.offset, end);
	run->slot = why ? -1 : 0;
	run->seg.why = why;
	if (why && !area->safe)
		run->seg.why = area->why;
	else if (why && !host_may(area))
		run->seg.why = why_unaligned;
	if (why && !host_may(area))
		return NULL;
	run->area = number;
	run->seg.fd = area->fd;
	run->seg.fd_offset =
		area->fd_offset + (run->seg.offset - area->offset);
	return area;
}

static void choose_read(const struct resolver *r, struct cleat_run *run,
			const struct cleat_resolve_area *area)
{
	run->seg.read_way = CLEAT_WAY_TRAP;
	run->load = CLEAT_WAY_TRAP;
	if (!area)
		return;
	run->seg.read_way = CLEAT_WAY_MAP;
	if (host_may(area))
		run->load = CLEAT_WAY_MAP;
}

static void use_shadow(const struct resolver *r, struct cleat_run *run,
		       const struct entry *entry)
{
	const struct cleat_io_fd *io = &entry->source->io;
	struct cleat_kick *kick =
		&r->out.kicks[r->in->num_io + (unsigned)entry->number];

	kick->length = io->match ? (uint32_t)io->length : 0;
	kick->match = io->match;
	kick->datamatch = io->datamatch;
	kick->fd = io->fd;
	run->seg.kicks = kick;
	run->seg.num_kicks = 1;
	run->seg.write_way = CLEAT_WAY_SHADOW;
	run->store = CLEAT_WAY_SHADOW;
	run->shadow = entry->number;
	if (run->area >= 0)
		return;
	run->seg.fd = io->shadow_fd;
	run->seg.fd_offset = io->shadow_offset + (run->seg.offset - io->offset);
}

/* @kicks: how many begin where the run begins. */
static void choose_write(struct resolver *r, struct cleat_run *run,
			 const struct cleat_resolve_area *area, unsigned kicks)
{
	const struct entry *shadow = shadow_at(r, run->seg.offset);
	bool host = host_may(area) && area->writable;

	run->store = host ? CLEAT_WAY_MAP : CLEAT_WAY_TRAP;
	run->seg.other_way = run->store;
	run->seg.write_way = run->store;
	if (run->slot >= 0 && area->writable) {
		run->seg.write_way = CLEAT_WAY_MAP;
	} else if (kicks) {
		run->seg.write_way = CLEAT_WAY_IOEVENTFD;
		run->seg.kicks = r->out.kicks + r->num_kicks;
		run->wanted = r->out.wanted + r->num_kicks;
		run->seg.num_kicks = kicks;
		r->num_kicks += kicks;
	} else if (!host && shadow) {
		use_shadow(r, run, shadow);
	}
}

static void explain(const struct resolver *r, struct cleat_run *run,
		    const struct cleat_resolve_area *area, const char *unused)
{
	if (run->seg.why)
		return;
	if (!r->in->readable)
		run->seg.why = why_unreadable;
	else if (!r->in->writable)
		run->seg.why = run->slot >= 0 ? why_read_only : why_no_area;
	else if (area && !area->writable)
		run->seg.why = why_file_read_only;
	else if (!area && run->seg.write_way != CLEAT_WAY_TRAP)
		run->seg.why = why_no_area;
	else if (!area)
		run->seg.why = unused ? unused : why_nothing;
}

static void emulate(struct cleat_run *run, int window)
{
	run->seg.read_way = CLEAT_WAY_EMULATED;
	run->seg.write_way = CLEAT_WAY_EMULATED;
	run->seg.other_way = CLEAT_WAY_EMULATED;
	run->load = CLEAT_WAY_EMULATED;
	run->store = CLEAT_WAY_EMULATED;
	run->window = window;
}

static struct cleat_run resolve_interval(struct resolver *r, uint64_t offset,
					 uint64_t end)
{
	struct cleat_run run = {
		.start = offset,
		.seg = { .offset = offset, .length = end - offset, .fd = -1 },
		.slot = -1,
		.area = -1,
		.shadow = -1,
		.window = window_at(r, offset),
	};
	const struct cleat_resolve_area *area;
	unsigned from = r->entry, kicks = take_kicks(r, offset);

	if (run.window >= 0) {
		emulate(&run, run.window);
		return run;
	}
	area = r->in->readable ? usable_area(r, &run, end) : NULL;
	choose_read(r, &run, area);
	if (r->in->writable)
		choose_write(r, &run, area, kicks);
	explain(r, &run, area, unused_at(r, from, offset));
	return run;
}

/* --- All of them ----------------------------------------------------------- */

static bool same_run(const struct cleat_run *a, const struct cleat_run *b)
{
	/* The kicks of one address are a run's own, a shadow's are not. */
	return a->seg.kicks == b->seg.kicks &&
	       a->seg.read_way == b->seg.read_way &&
	       a->seg.write_way == b->seg.write_way && a->slot == b->slot &&
	       a->area == b->area && a->shadow == b->shadow &&
	       a->window == b->window && a->seg.why == b->seg.why;
}

static void sweep(struct resolver *r)
{
	struct cleat_runs *out = &r->out;

	for (unsigned i = 0; i + 1 < r->num_edges; i++) {
		struct cleat_run run = resolve_interval(r, r->edges[i],
							r->edges[i + 1]);
		struct cleat_run *last = out->runs + out->num - 1;

		if (out->num && same_run(last, &run))
			last->seg.length += run.seg.length;
		else
			out->runs[out->num++] = run;
	}
}

/* A page that is mapped for loads alone may have doorbells for its stores. */
static void find_slots(struct resolver *r)
{
	struct cleat_runs *out = &r->out;

	for (unsigned i = 0; i < out->num; i++) {
		struct cleat_run *run = &out->runs[i];
		bool goes_on = i && run[-1].slot >= 0 &&
			       run[-1].area == run->area;

		if (run->slot < 0)
			continue;
		if (!goes_on)
			out->slots[out->num_slots++] = (struct cleat_run_slot){
				.offset = run->seg.offset,
				.area = (unsigned)run->area,
				.writable = run->seg.write_way == CLEAT_WAY_MAP,
			};
		run->slot = (int)out->num_slots - 1;
		out->slots[run->slot].length += run->seg.length;
	}
}

static bool same_load(const struct cleat_run *a, const struct cleat_run *b)
{
	return a->load == b->load && a->window == b->window &&
	       (a->load != CLEAT_WAY_MAP || a->area == b->area);
}

static bool same_store(const struct cleat_run *a, const struct cleat_run *b)
{
	return a->store == b->store && a->window == b->window &&
	       (a->store != CLEAT_WAY_MAP || a->area == b->area) &&
	       (a->store != CLEAT_WAY_SHADOW || a->shadow == b->shadow);
}

static void find_ends(struct cleat_runs *out)
{
	for (unsigned i = out->num; i--;) {
		struct cleat_run *run = &out->runs[i], *next = run + 1;
		bool last = i + 1 == out->num;

		run->load_end = run->seg.offset + run->seg.length;
		run->store_end = run->load_end;
		if (!last && same_load(run, next))
			run->load_end = next->load_end;
		if (!last && same_store(run, next))
			run->store_end = next->store_end;
	}
}

int cleat_resolve(const struct cleat_resolve_input *input,
		  struct cleat_runs *ret_runs)
{
	struct resolver r = { .in = input };
	int err = take_entries(&r);

	if (!err)
		err = find_edges(&r);
	if (!err) {
		r.out.runs = calloc(r.num_edges, sizeof(*r.out.runs));
		/* One for each ioeventfd, then one for each shadow. */
		r.out.kicks = calloc(2 * (size_t)input->num_io + 1,
				     sizeof(*r.out.kicks));
		r.out.wanted = calloc(input->num_io + 1, sizeof(bool));
		r.out.slots = calloc(r.num_edges, sizeof(*r.out.slots));
		if (!r.out.runs || !r.out.kicks || !r.out.wanted ||
		    !r.out.slots)
			err = -ENOMEM;
	}
	if (err) {
		cleat_runs_free(&r.out);
	} else {
		sweep(&r);
		find_slots(&r);
		find_ends(&r.out);
		*ret_runs = r.out;
	}
	free(r.entries);
	free(r.edges);
	return err;
}

void cleat_runs_free(struct cleat_runs *runs)
{
	free(runs->runs);
	free(runs->slots);
	free(runs->kicks);
	free(runs->wanted);
	memset(runs, 0, sizeof(*runs));
}

struct cleat_run *cleat_runs_find(const struct cleat_runs *runs,
				  uint64_t offset)
{
	unsigned low = 0, high = runs->num;

	while (high - low > 1) {
		unsigned middle = low + (high - low) / 2;

		if (runs->runs[middle].start <= offset)
			low = middle;
		else
			high = middle;
	}
	return &runs->runs[low];
}
