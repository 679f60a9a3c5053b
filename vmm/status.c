/* SPDX-License-Identifier: BSD-2-Clause */
/* What the control socket's `status` answers. */
#include <string.h>

#include "vmm/vmm.h"

static void put_string(yajl_gen gen, const char *text)
{
	yajl_gen_string(gen, (const unsigned char *)text, strlen(text));
}

static void put_count(yajl_gen gen, const char *key, uint64_t value)
{
	put_string(gen, key);
	yajl_gen_integer(gen, (long long)value);
}

static const char *state(struct vm *vm)
{
	int phase = atomic_load(&vm->migration.phase);

	if (cleat_vmm_stopping(vm))
		return "ending";
	if (phase == PHASE_WAITING || phase == PHASE_LOADING)
		return "incoming";
	return cleat_vmm_pausing(vm) ? "paused" : "running";
}

static void put_devices(struct vm *vm, yajl_gen gen)
{
	unsigned i;

	put_string(gen, "devices");
	yajl_gen_array_open(gen);
	for (i = 0; i < vm->devices.count; i++) {
		yajl_gen_map_open(gen);
		put_string(gen, "socket");
		put_string(gen, vm->devices.device[i].path);
		put_string(gen, "lost");
		yajl_gen_bool(gen, vm->devices.device[i].lost);
		yajl_gen_map_close(gen);
	}
	yajl_gen_array_close(gen);
}

static const char *phase_name(int phase)
{
	static const char *const names[] = {
		[PHASE_NONE] = "none",
		[PHASE_WAITING] = "waiting",
		[PHASE_LOADING] = "loading",
		[PHASE_CONNECTING] = "connecting",
		[PHASE_COPYING] = "copying",
		[PHASE_STOPPED] = "stopped",
		[PHASE_DONE] = "done",
		[PHASE_FAILED] = "failed",
		[PHASE_CANCELLED] = "cancelled",
		[PHASE_DOUBTFUL] = "doubtful",
	};

	return names[phase];
}

static void put_parts(const struct migration *m, yajl_gen gen)
{
	unsigned i;

	put_string(gen, "downtime_ns");
	yajl_gen_map_open(gen);
	for (i = 0; i < PARTS; i++)
		put_count(gen, cleat_vmm_part_name(i),
			  atomic_load(&m->parts[i]));
	yajl_gen_map_close(gen);
}

static void put_migration(struct vm *vm, yajl_gen gen)
{
	const struct migration *m = &vm->migration;
	int phase = atomic_load(&m->phase);
	uint64_t left = atomic_load(&m->left), rate = atomic_load(&m->rate);

	put_string(gen, "migration");
	yajl_gen_map_open(gen);
	put_string(gen, "phase");
	put_string(gen, phase_name(phase));
	put_count(gen, "rounds", atomic_load(&m->rounds));
	put_count(gen, "pages", atomic_load(&m->pages));
	put_count(gen, "rate", rate);
	put_count(gen, "left", left);
	put_count(gen, "estimate_ms", rate ? left * 1000 / rate : 0);
	/* Its thread has ended with these words, and writes no more. */
	if (phase > PHASE_DONE) {
		put_string(gen, "error");
		put_string(gen, m->why);
	}
	put_parts(m, gen);
	yajl_gen_map_close(gen);
}

void cleat_vmm_status_put(struct vm *vm, yajl_gen gen)
{
	put_string(gen, "state");
	put_string(gen, state(vm));
	put_count(gen, "cpus", vm->vcpu_count);
	put_count(gen, "memory", vm->ram.size);
	put_devices(vm, gen);
	put_migration(vm, gen);
}
