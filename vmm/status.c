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
	if (cleat_vmm_stopping(vm))
		return "ending";
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

void cleat_vmm_status_put(struct vm *vm, yajl_gen gen)
{
	put_string(gen, "state");
	put_string(gen, state(vm));
	put_count(gen, "cpus", vm->vcpu_count);
	put_count(gen, "memory", vm->ram.size);
	put_devices(vm, gen);
}
