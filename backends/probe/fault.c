/* SPDX-License-Identifier: BSD-2-Clause */
/* Going wrong on purpose, for those who must live with a server that does. */
#include <poll.h>
#include <signal.h>

#include "backends/probe/probe.h"

#define LOOK_MS 20

void cleat_probe_sleep_us(struct probe *probe, uint32_t us)
{
	uint32_t ms = us / 1000 + !!(us % 1000);

	for (; ms > LOOK_MS && !probe->stopping; ms -= LOOK_MS)
		poll(NULL, 0, LOOK_MS);
	if (!probe->stopping)
		poll(NULL, 0, (int)ms);
}

static void hang(struct probe *probe)
{
	while (!probe->stopping)
		poll(NULL, 0, LOOK_MS);
}

/* As the kernel's out-of-memory killer does it: no last words. */
static void die(void)
{
	raise(SIGKILL);
}

int cleat_probe_fault(struct probe *probe, bool write)
{
	const struct probe_faults *faults = &probe->options.faults;

	probe->accesses++;
	if (faults->die_after && probe->accesses > faults->die_after)
		die();
	if (faults->drop_after && probe->accesses > faults->drop_after)
		cleat_server_disconnect(probe->srv);
	if (write ? faults->hang_write : faults->hang_read)
		hang(probe);
	if (faults->slow_ms)
		cleat_probe_sleep_us(probe, faults->slow_ms * 1000);
	return -(int)faults->error;
}

void cleat_probe_fault_now(struct probe *probe, uint32_t what)
{
	switch (what) {
	case PROBE_FAULT_DIE:
		die();
		break;
	case PROBE_FAULT_HANG:
		hang(probe);
		break;
	case PROBE_FAULT_DISCONNECT:
		cleat_server_disconnect(probe->srv);
		break;
	}
}
