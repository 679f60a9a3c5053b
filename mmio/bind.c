/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mmio/private.h"

/* --- Looking at what the server offers --------------------------------------- */

static int map_area(struct cleat_binding *binding,
		    const struct cleat_region_area *area)
{
	struct cleat_resolve_area *to = &binding->areas[binding->num_areas];
	struct cleat_file_map *map =
		cleat_file_map(binding, area->fd, area->fd_offset,
			       area->length, binding->writable);

	if (!map)
		return -ENOMEM;
	*to = (struct cleat_resolve_area){
		.offset = area->offset,
		.length = area->length,
		.fd = area->fd,
		.fd_offset = area->fd_offset,
		.mapped = map->host,
		.writable = map->writable,
		.safe = map->host && map->safe,
		.why = map->why,
	};
	binding->area_hosts[binding->num_areas++] =
		cleat_file_host(map, area->fd_offset);
	return 0;
}

static int map_areas(struct cleat_binding *binding,
		     const struct cleat_region *region)
{
	int err = 0;

	binding->areas = calloc(region->num_areas + 1,
				sizeof(*binding->areas));
	binding->area_hosts = calloc(region->num_areas + 1,
				     sizeof(*binding->area_hosts));
	if (!binding->areas || !binding->area_hosts)
		return -ENOMEM;
	for (unsigned i = 0; i < region->num_areas && !err; i++)
		if (region->areas[i].length)
			err = map_area(binding, &region->areas[i]);
	return err;
}

static int map_shadow(struct cleat_binding *binding, unsigned i,
		      struct cleat_resolve_io *to)
{
	const struct cleat_io_fd *io = &binding->io_fds.entries[i];
	struct cleat_file_map *map;

	to->io = *io;
	if (io->type != CLEAT_IO_FD_SHADOW || !io->length)
		return 0;
	map = cleat_file_map(binding, io->shadow_fd, io->shadow_offset,
			     io->length, true);
	if (!map)
		return -ENOMEM;
	to->safe = map->host && map->safe && map->writable;
	to->why = map->why ? map->why : "the shadow's file is read-only";
	binding->shadow_hosts[i] = cleat_file_host(map, io->shadow_offset);
	return 0;
}

/* A server without descriptors, or with bad ones, is served by message. */
static int map_shadows(struct cleat_binding *binding,
		       struct cleat_resolve_io **ret_io)
{
	struct cleat_resolve_io *io;
	int err = cleat_device_io_fds(binding->dev, binding->region,
				      &binding->io_fds, NULL);

	if (err == -ENOMEM || err == -ECANCELED)
		return err;
	if (err)
		memset(&binding->io_fds, 0, sizeof(binding->io_fds));
	io = calloc(binding->io_fds.num + 1, sizeof(*io));
	binding->shadow_hosts = calloc(binding->io_fds.num + 1,
				       sizeof(*binding->shadow_hosts));
	err = io && binding->shadow_hosts ? 0 : -ENOMEM;
	for (unsigned i = 0; i < binding->io_fds.num && !err; i++)
		err = map_shadow(binding, i, &io[i]);
	if (err)
		free(io);
	else
		*ret_io = io;
	return err;
}

static int resolve(struct cleat_binding *binding,
		   const struct cleat_resolve_io *io)
{
	struct cleat_resolve_window *windows =
		calloc(binding->num_windows + 1, sizeof(*windows));
	struct cleat_resolve_input input = {
		.length = binding->length,
		.page = (uint64_t)sysconf(_SC_PAGESIZE),
		.readable = binding->readable,
		.writable = binding->writable,
		.ports = binding->space == CLEAT_PORTS,
		.slots = binding->ops.slot_add && binding->ops.slot_remove,
		.areas = binding->areas,
		.num_areas = binding->num_areas,
		.io = io,
		.num_io = binding->io_fds.num,
		.windows = windows,
		.num_windows = binding->num_windows,
	};
	int err;

	if (!windows)
		return -ENOMEM;
	for (unsigned i = 0; i < binding->num_windows; i++) {
		windows[i].offset = binding->windows[i].offset;
		windows[i].length = binding->windows[i].length;
	}
	err = cleat_resolve(&input, &binding->runs);
	free(windows);
	return err;
}

/* Where the vCPU thread finds each run. */
static void find_hosts(struct cleat_binding *binding)
{
	for (unsigned i = 0; i < binding->runs.num; i++) {
		struct cleat_run *run = &binding->runs.runs[i];

		if (run->area >= 0)
			run->host = binding->area_hosts[run->area] +
				    (run->start -
				     binding->areas[run->area].offset);
		if (run->shadow >= 0)
			run->shadow_host =
				binding->shadow_hosts[run->shadow] +
				(run->start -
				 binding->io_fds.entries[run->shadow].offset);
	}
}

static int make_marks(struct cleat_binding *binding)
{
	size_t slots = binding->runs.num_slots + 1;

	binding->slot_states = calloc(slots, sizeof(*binding->slot_states));
	binding->slots = calloc(slots, sizeof(*binding->slots));
	binding->kick_in = calloc(binding->io_fds.num + 1, sizeof(bool));
	return binding->slot_states && binding->slots && binding->kick_in ?
		       0 :
		       -ENOMEM;
}

static int find_ways(struct cleat_binding *binding,
		     const struct cleat_region *region)
{
	struct cleat_resolve_io *io = NULL;
	int err = map_areas(binding, region);

	if (!err)
		err = map_shadows(binding, &io);
	if (!err)
		err = resolve(binding, io);
	if (!err)
		err = make_marks(binding);
	if (!err)
		find_hosts(binding);
	free(io);
	return err;
}

/* --- The caller's part ------------------------------------------------------- */

static int by_offset(const void *left, const void *right)
{
	const struct cleat_emulated *a = left, *b = right;

	return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static int copy_windows(struct cleat_binding *binding,
			const struct cleat_binding_config *config)
{
	unsigned num = config->num_emulated;
	uint64_t end = 0;

	binding->windows = calloc(num + 1, sizeof(*binding->windows));
	if (!binding->windows)
		return -ENOMEM;
	if (num)
		memcpy(binding->windows, config->emulated,
		       num * sizeof(*binding->windows));
	binding->num_windows = num;
	qsort(binding->windows, num, sizeof(*binding->windows), by_offset);
	for (unsigned i = 0; i < num; i++) {
		const struct cleat_emulated *window = &binding->windows[i];

		if (!window->length || !window->access ||
		    window->offset < end || window->offset > binding->length ||
		    window->length > binding->length - window->offset)
			return -EINVAL;
		end = window->offset + window->length;
	}
	return 0;
}

static void copy_ops(struct cleat_binding *binding,
		     const struct cleat_vm_ops *ops)
{
	size_t size = sizeof(binding->ops);

	/* What an older VMM does not know of is NULL. */
	if (ops)
		memcpy(&binding->ops, ops,
		       ops->size < size ? ops->size : size);
}

static struct cleat_binding *
make_binding(struct cleat_mmio *mmio, const struct cleat_binding_config *config)
{
	unsigned stripes = cleat_num_stripes();
	size_t size = sizeof(struct cleat_binding) +
		      stripes * sizeof(struct cleat_stripe);
	struct cleat_binding *binding =
		aligned_alloc(CLEAT_CACHE_LINE, size);

	if (!binding)
		return NULL;
	memset(binding, 0, size);
	atomic_init(&binding->pins, 1);
	atomic_fetch_add(&mmio->refs, 1);
	cleat_device_pin(config->device);
	pthread_mutex_init(&binding->flights_lock, NULL);
	binding->mmio = mmio;
	binding->dev = config->device;
	binding->region = config->region;
	binding->space = config->space;
	binding->order = config->order;
	for (unsigned i = 0; i < stripes; i++)
		binding->stripes[i].shared = cleat_stripe_is_shared(i);
	copy_ops(binding, config->ops);
	return binding;
}

/*
 * What the VM has not let go the guest still reaches. It must not find there
 * what this process maps next.
 */
static void keep_stuck(struct cleat_binding *binding)
{
	const struct cleat_vm_ops *ops = &binding->ops;
	bool any = false;

	for (unsigned i = 0; i < binding->runs.num_slots; i++) {
		unsigned area = binding->runs.slots[i].area;

		if (!binding->slot_states ||
		    binding->slot_states[i] == CLEAT_SLOT_OUT)
			continue;
		cleat_file_keep(binding, binding->area_hosts[area]);
		any = true;
	}
	if (any && ops->log)
		ops->log(ops->opaque, "the VM has not let go of a memory slot: "
				      "what is behind it stays mapped");
}

/* All but the memory, which a parked access may still have pinned. */
static void free_ways(struct cleat_binding *binding)
{
	keep_stuck(binding);
	cleat_files_unmap(binding);
	cleat_io_fds_free(&binding->io_fds);
	cleat_runs_free(&binding->runs);
	free(binding->areas);
	free(binding->area_hosts);
	free(binding->shadow_hosts);
	free(binding->windows);
	free(binding->slot_states);
	free(binding->slots);
	free(binding->kick_in);
	free(binding->zones);
	cleat_mmio_unref(binding->mmio);
	cleat_binding_unpin(binding);
}

static void enlist(struct cleat_binding *binding)
{
	struct cleat_mmio *mmio = binding->mmio;

	pthread_mutex_lock(&mmio->lock);
	binding->ordered = cleat_binding_must_order(binding);
	binding->serial = mmio->next_serial++;
	binding->next = mmio->bindings;
	if (binding->next)
		binding->next->prev = binding;
	mmio->bindings = binding;
	pthread_mutex_unlock(&mmio->lock);
}

static void delist(struct cleat_binding *binding)
{
	struct cleat_mmio *mmio = binding->mmio;

	pthread_mutex_lock(&mmio->lock);
	if (binding->prev)
		binding->prev->next = binding->next;
	else
		mmio->bindings = binding->next;
	if (binding->next)
		binding->next->prev = binding->prev;
	pthread_mutex_unlock(&mmio->lock);
}

static int set_up(struct cleat_binding *binding,
		  const struct cleat_binding_config *config,
		  const struct cleat_region *region)
{
	int err;

	binding->length = region->length;
	binding->readable = region->flags & CLEAT_REGION_READ;
	binding->writable = region->flags & CLEAT_REGION_WRITE;
	err = copy_windows(binding, config);
	if (!err)
		err = find_ways(binding, region);
	if (err)
		return err;
	enlist(binding);
	err = cleat_binding_hook(binding);
	if (err)
		delist(binding);
	return err;
}

int cleat_mmio_bind(struct cleat_mmio *mmio,
		    const struct cleat_binding_config *config,
		    struct cleat_binding **ret_binding,
		    struct cleat_error *reterr)
{
	const struct cleat_region *region;
	struct cleat_binding *binding;
	int err;

	if (config->size != sizeof(*config) ||
	    (config->space != CLEAT_MEMORY && config->space != CLEAT_PORTS))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "struct cleat_binding_config of another "
				  "version, or no such space");
	region = cleat_device_region(config->device, config->region);
	if (!region || !region->length)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOENT,
				  "region %u: there is none", config->region);
	binding = make_binding(mmio, config);
	err = binding ? set_up(binding, config, region) : -ENOMEM;
	if (!err) {
		*ret_binding = binding;
		return 0;
	}
	if (binding)
		free_ways(binding);
	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
			  "region %u: cannot bind it: %s", config->region,
			  err == -EINVAL ? "emulated parts overlap or are not "
					   "inside it" :
					   strerror(-err));
}

struct cleat_binding *cleat_mmio_unbind(struct cleat_binding *binding)
{
	if (!binding)
		return NULL;
	cleat_device_hook_remove(binding->dev, &binding->hook);
	cleat_binding_withdraw(binding);
	delist(binding);
	free_ways(binding);
	return NULL;
}

/* --- Looking at a binding ------------------------------------------------------ */

static bool is_installed(const struct cleat_binding *binding,
			 const struct cleat_run *run)
{
	bool installed = run->slot >= 0 &&
			 binding->slot_states[run->slot] == CLEAT_SLOT_IN;

	if (run->slot >= 0 && !installed)
		return false;
	for (unsigned i = 0; run->wanted && i < run->seg.num_kicks; i++) {
		installed = !run->wanted[i] ||
			    binding->kick_in[&run->seg.kicks[i] -
					     binding->runs.kicks];
		if (!installed)
			return false;
	}
	return installed;
}

static void as_lost(struct cleat_segment *seg)
{
	seg->read_way = CLEAT_WAY_TRAP;
	seg->write_way = CLEAT_WAY_TRAP;
	seg->other_way = CLEAT_WAY_TRAP;
	seg->installed = false;
	seg->fd = -1;
	seg->kicks = NULL;
	seg->num_kicks = 0;
	seg->why = "the device is lost";
}

int cleat_binding_segment(struct cleat_binding *binding, unsigned segment,
			  struct cleat_segment *ret)
{
	if (segment >= binding->runs.num)
		return -ENOENT;
	pthread_mutex_lock(&binding->mmio->lock);
	*ret = binding->runs.runs[segment].seg;
	ret->installed = is_installed(binding, &binding->runs.runs[segment]);
	if (atomic_load(&binding->lost))
		as_lost(ret);
	pthread_mutex_unlock(&binding->mmio->lock);
	return 0;
}

static uint64_t total(struct cleat_binding *binding, enum cleat_counter counter)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < cleat_num_stripes(); i++)
		sum += atomic_load_explicit(
			&binding->stripes[i].counts[counter],
			memory_order_relaxed);
	return sum;
}

int cleat_binding_stats(struct cleat_binding *binding,
			struct cleat_mmio_stats *stats)
{
	if (stats->size != sizeof(*stats))
		return -EINVAL;
	memset(stats, 0, sizeof(*stats));
	stats->size = sizeof(*stats);
	stats->reads[CLEAT_WAY_MAP] = total(binding, CLEAT_COUNT_MAP_READ);
	stats->writes[CLEAT_WAY_MAP] = total(binding, CLEAT_COUNT_MAP_WRITE);
	stats->reads[CLEAT_WAY_TRAP] = total(binding, CLEAT_COUNT_TRAP_READ);
	stats->writes[CLEAT_WAY_TRAP] = total(binding, CLEAT_COUNT_TRAP_WRITE);
	stats->writes[CLEAT_WAY_SHADOW] =
		total(binding, CLEAT_COUNT_SHADOW_WRITE);
	stats->writes[CLEAT_WAY_IOEVENTFD] =
		total(binding, CLEAT_COUNT_IOEVENTFD_WRITE);
	stats->reads[CLEAT_WAY_EMULATED] =
		total(binding, CLEAT_COUNT_EMULATED_READ);
	stats->writes[CLEAT_WAY_EMULATED] =
		total(binding, CLEAT_COUNT_EMULATED_WRITE);
	stats->coalesced = total(binding, CLEAT_COUNT_COALESCED);
	stats->failed = total(binding, CLEAT_COUNT_FAILED);
	stats->called_back = total(binding, CLEAT_COUNT_CALLED_BACK);
	for (unsigned i = 0; i < CLEAT_MMIO_BUCKETS; i++)
		stats->wait_ns[i] = atomic_load_explicit(&binding->wait_ns[i],
							 memory_order_relaxed);
	stats->wait_worst_ns = atomic_load_explicit(&binding->wait_worst_ns,
						    memory_order_relaxed);
	return 0;
}
