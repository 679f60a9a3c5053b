/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Migration: the registers and counters, the pages, and a state of any size
 * that keeps changing while the device runs, so that a client has something to
 * do before it stops the guest.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "backends/probe/probe.h"
#include "wire/wire.h"

#define CHUNK 32768u
#define MIB (UINT64_C(1) << 20)
#define TICK_NS 1000000
/* Places written in each tick. */
#define SCRIBBLES 4

enum {
	CORE = 1,
	PAGES = 2,
	SHADOW = 3,
	STATE = 4,
};

struct chunk {
	uint32_t kind;
	uint32_t offset_chunks;
	uint8_t data[CHUNK];
};

struct core {
	uint32_t kind;
	uint32_t features, msix_vectors, msi_vectors;
	uint32_t state_mib;
	uint32_t mapped_seen;
	struct probe_registers regs;
	struct probe_counters counters;
	uint64_t random;
};

/* A state that is coming in. */
struct probe_incoming {
	struct core core;
	uint8_t pages[PROBE_PAGES_LENGTH];
	uint8_t shadow[CHUNK];
	uint32_t have; /* kinds */
	uint64_t have_chunks;
	uint8_t *seen; /* by chunk */
	uint8_t *state;
};

static uint64_t state_bytes(const struct probe *probe)
{
	return probe->options.state_mib * MIB;
}

static uint64_t chunks(const struct probe *probe)
{
	return state_bytes(probe) / CHUNK;
}

uint32_t cleat_probe_state_sum(const struct probe *probe)
{
	const uint64_t *words = (const uint64_t *)probe->state;
	uint64_t sum = 0xcbf29ce484222325ull;

	for (uint64_t i = 0; i < state_bytes(probe) / 8; i++)
		sum = (sum ^ words[i]) * 0x100000001b3ull;
	return (uint32_t)(sum ^ sum >> 32);
}

static uint64_t next_random(struct probe *probe)
{
	probe->random = probe->random * 6364136223846793005ull +
			1442695040888963407ull;
	return probe->random >> 16;
}

static void on_tick(void *opaque, int fd, uint32_t events)
{
	struct probe *probe = opaque;
	uint64_t expired;

	if (read(fd, &expired, sizeof(expired)) != sizeof(expired))
		return;
	for (unsigned i = 0; i < SCRIBBLES; i++) {
		uint64_t at = next_random(probe) % (state_bytes(probe) / 8);

		((uint64_t *)probe->state)[at] = next_random(probe);
		probe->state_dirty[at * 8 / CHUNK] = 1;
	}
}

/* ---- Out ---------------------------------------------------------- */

static int save_chunk(struct probe *probe, uint64_t i, struct chunk *to)
{
	to->kind = STATE;
	to->offset_chunks = (uint32_t)i;
	probe->state_dirty[i] = 0;
	memcpy(to->data, probe->state + i * CHUNK, CHUNK);
	return sizeof(*to);
}

static int save_pages(struct probe *probe, uint32_t part, struct chunk *to)
{
	to->kind = PAGES;
	to->offset_chunks = part;
	memcpy(to->data, probe->pages + part * CHUNK, CHUNK);
	return sizeof(*to);
}

static int save_shadow(struct probe *probe, struct chunk *to)
{
	memset(to, 0, sizeof(*to));
	to->kind = SHADOW;
	memcpy(to->data, probe->shadow, 8 * PROBE_SHADOWS);
	return sizeof(*to);
}

static int save_core(struct probe *probe, void *to)
{
	const struct core core = {
		.kind = CORE,
		.features = probe->options.features,
		.msix_vectors = probe->options.msix_vectors,
		.msi_vectors = probe->options.msi_vectors,
		.state_mib = probe->options.state_mib,
		.mapped_seen = probe->mapped_seen,
		.regs = probe->regs,
		.counters = probe->counters,
		.random = probe->random,
	};

	memcpy(to, &core, sizeof(core));
	return sizeof(core);
}

/* What the guest or the tick can change comes when neither can any more. */
static int save_rest(struct probe *probe, void *buf)
{
	uint32_t parts = PROBE_PAGES_LENGTH / CHUNK;
	uint32_t part = probe->saved_parts++;

	if (part < parts)
		return save_pages(probe, part, buf);
	if (part == parts)
		return save_shadow(probe, buf);
	return part == parts + 1 ? save_core(probe, buf) : 0;
}

static int save(void *opaque, void *buf, size_t room)
{
	struct probe *probe = opaque;

	for (uint64_t i = 0; i < chunks(probe); i++)
		if (probe->state_dirty[i])
			return save_chunk(probe, i, buf);
	return probe->phase == CLEAT_SERVER_SAVING ? save_rest(probe, buf) : 0;
}

static uint64_t left(void *opaque)
{
	struct probe *probe = opaque;
	uint64_t bytes = PROBE_PAGES_LENGTH + CHUNK + sizeof(struct core);

	for (uint64_t i = 0; i < chunks(probe); i++)
		bytes += probe->state_dirty[i] ? CHUNK : 0;
	return bytes;
}

/* ---- In ----------------------------------------------------------- */

static void drop_incoming(struct probe *probe)
{
	if (!probe->incoming)
		return;
	free(probe->incoming->seen);
	free(probe->incoming->state);
	free(probe->incoming);
	probe->incoming = NULL;
}

static int begin_incoming(struct probe *probe)
{
	struct probe_incoming *in;

	drop_incoming(probe);
	in = calloc(1, sizeof(*in));
	if (!in)
		return -ENOMEM;
	probe->incoming = in;
	in->seen = calloc(1, chunks(probe) + 1);
	in->state = calloc(1, state_bytes(probe) + 1);
	return in->seen && in->state ? 0 : -ENOMEM;
}

static int load_state(struct probe *probe, const struct chunk *chunk)
{
	struct probe_incoming *in = probe->incoming;

	if (chunk->offset_chunks >= chunks(probe))
		return -EXDEV;
	memcpy(in->state + (uint64_t)chunk->offset_chunks * CHUNK, chunk->data,
	       CHUNK);
	in->have_chunks += !in->seen[chunk->offset_chunks];
	in->seen[chunk->offset_chunks] = 1;
	return 0;
}

static int load_chunk(struct probe *probe, const struct chunk *chunk)
{
	struct probe_incoming *in = probe->incoming;

	if (chunk->kind == STATE)
		return load_state(probe, chunk);
	if (chunk->kind == SHADOW && !chunk->offset_chunks) {
		memcpy(in->shadow, chunk->data, CHUNK);
		in->have |= 1u << SHADOW;
		return 0;
	}
	if (chunk->kind != PAGES ||
	    chunk->offset_chunks >= PROBE_PAGES_LENGTH / CHUNK)
		return -EBADMSG;
	memcpy(in->pages + chunk->offset_chunks * CHUNK, chunk->data, CHUNK);
	in->have |= 1u << (8 + chunk->offset_chunks);
	return 0;
}

static int load(void *opaque, uint32_t version, const void *buf, size_t count)
{
	struct probe *probe = opaque;
	struct probe_incoming *in = probe->incoming;
	uint32_t kind = 0;

	if (!in)
		return -EINVAL;
	if (count >= sizeof(kind))
		memcpy(&kind, buf, sizeof(kind));
	if (kind != CORE)
		return count == sizeof(struct chunk) ? load_chunk(probe, buf) :
						       -EBADMSG;
	if (count != sizeof(in->core))
		return -EBADMSG;
	memcpy(&in->core, buf, sizeof(in->core));
	in->have |= 1u << CORE;
	return 0;
}

static bool is_same_device(const struct probe *probe, const struct core *core)
{
	const struct probe_options *options = &probe->options;

	return core->features == options->features &&
	       core->msix_vectors == options->msix_vectors &&
	       core->msi_vectors == options->msi_vectors &&
	       core->state_mib == options->state_mib;
}

/* What was under way at the source goes on here. */
static void go_on(struct probe *probe)
{
	if (probe->regs.irq_left)
		cleat_probe_arm_timer(probe);
	if (probe->regs.dma_status != PROBE_DMA_BUSY)
		return;
	probe->regs.dma_status = PROBE_DMA_IDLE;
	cleat_probe_start_dma(probe, probe->regs.dma_go);
}

static int loaded(void *opaque)
{
	const uint32_t all = 1u << CORE | 1u << SHADOW | 3u << 8;
	struct probe *probe = opaque;
	struct probe_incoming *in = probe->incoming;

	if (!in || in->have != all || in->have_chunks != chunks(probe))
		return -EBADMSG;
	if (!is_same_device(probe, &in->core))
		return -EXDEV;
	probe->regs = in->core.regs;
	probe->counters = in->core.counters;
	probe->mapped_seen = in->core.mapped_seen;
	probe->random = in->core.random;
	memcpy(probe->pages, in->pages, sizeof(in->pages));
	memcpy(probe->shadow, in->shadow, 8 * PROBE_SHADOWS);
	if (chunks(probe)) {
		memcpy(probe->state, in->state, state_bytes(probe));
		memset(probe->state_dirty, 1, chunks(probe));
	}
	go_on(probe);
	return 0;
}

static int change(void *opaque, enum cleat_server_phase old,
		  enum cleat_server_phase now)
{
	struct probe *probe = opaque;
	int err = now == CLEAT_SERVER_LOADING ? begin_incoming(probe) : 0;

	if (err)
		return err;
	probe->saved_parts = 0;
	if (chunks(probe) && (now == CLEAT_SERVER_PRE_SAVING ||
			      (now == CLEAT_SERVER_SAVING &&
			       old != CLEAT_SERVER_PRE_SAVING)))
		memset(probe->state_dirty, 1, chunks(probe));
	if (now == CLEAT_SERVER_RUNNING)
		drop_incoming(probe);
	probe->phase = now;
	return 0;
}

/* ---- Making it ---------------------------------------------------- */

static int make_state(struct probe *probe)
{
	const struct itimerspec tick = { { 0, TICK_NS }, { 0, TICK_NS } };

	if (!probe->options.state_mib)
		return 0;
	probe->state = calloc(1, state_bytes(probe));
	probe->state_dirty = calloc(1, chunks(probe));
	if (!probe->state || !probe->state_dirty)
		return -ENOMEM;
	probe->tick = timerfd_create(CLOCK_MONOTONIC,
				     TFD_CLOEXEC | TFD_NONBLOCK);
	if (probe->tick < 0 || timerfd_settime(probe->tick, 0, &tick, NULL))
		return -errno;
	return cleat_server_watch(probe->srv, probe->tick, EPOLLIN, on_tick,
				  probe);
}

int cleat_probe_add_migration(struct probe *probe, struct cleat_error *reterr)
{
	struct cleat_server_migration migration = {
		.size = sizeof(migration),
		.flags = CLEAT_SERVER_MIGRATE_PRE_COPY,
		.name = "cleat-probe",
		.version = 1,
		.change = change,
		.save = save,
		.load = load,
		.loaded = loaded,
		.left = left,
	};
	int err = make_state(probe);

	probe->phase = CLEAT_SERVER_RUNNING;
	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, err,
				  "no memory for --state-size");
	if (probe->options.migration == PROGRAM_MIGRATION_NONE)
		return 0;
	if (probe->options.migration == PROGRAM_MIGRATION_V1)
		migration.flags |= CLEAT_SERVER_MIGRATE_V1;
	return cleat_server_add_migration(probe->srv, &migration, reterr);
}

void cleat_probe_end_migration(struct probe *probe)
{
	drop_incoming(probe);
	free(probe->state);
	free(probe->state_dirty);
	cleat_close(&probe->tick);
}
