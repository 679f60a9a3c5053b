/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdarg.h>
#include <sys/eventfd.h>

#include "tests/pci/rig.h"

/* The log */

void rig_say(struct rig *rig, const char *format, ...)
{
	va_list args;
	size_t left;

	pthread_mutex_lock(&rig->lock);
	left = RIG_LOG - rig->logged;
	if (left > 128) {
		if (rig->logged)
			rig->logged +=
				(size_t)sprintf(rig->log + rig->logged, "; ");
		va_start(args, format);
		rig->logged += (size_t)vsnprintf(rig->log + rig->logged, 100,
						 format, args);
		va_end(args);
	}
	pthread_mutex_unlock(&rig->lock);
}

void rig_expect(struct rig *rig, const char *text)
{
	char *copy;

	pthread_mutex_lock(&rig->lock);
	copy = strdup(rig->log);
	rig->logged = 0;
	rig->log[0] = '\0';
	pthread_mutex_unlock(&rig->lock);
	ATF_CHECK_STREQ(text, copy);
	free(copy);
}

void rig_forget(struct rig *rig)
{
	pthread_mutex_lock(&rig->lock);
	rig->logged = 0;
	rig->log[0] = '\0';
	pthread_mutex_unlock(&rig->lock);
}

unsigned rig_count(struct rig *rig, const char *word)
{
	unsigned count = 0;

	pthread_mutex_lock(&rig->lock);
	for (char *at = rig->log; (at = strstr(at, word)); at++)
		count++;
	pthread_mutex_unlock(&rig->lock);
	return count;
}

bool rig_has_said(struct rig *rig, const char *text)
{
	return rig_count(rig, text) > 0;
}

/* The VMM */

static int gsi_alloc(void *opaque, uint32_t *ret_gsi)
{
	struct rig *rig = opaque;
	int err = -ENOSPC;

	pthread_mutex_lock(&rig->lock);
	if (rig->gsis_left) {
		rig->gsis_left--;
		*ret_gsi = rig->next_gsi++;
		err = 0;
	}
	pthread_mutex_unlock(&rig->lock);
	return err;
}

static void gsi_free(void *opaque, uint32_t gsi)
{
	rig_say(opaque, "free %u", gsi);
}

static int msi_route(void *opaque, uint32_t gsi, const struct cleat_msi *msi)
{
	struct rig *rig = opaque;

	ATF_CHECK_EQ(rig->function, msi->requester);
	pthread_mutex_lock(&rig->lock);
	rig->routes[gsi % RIG_VECTORS] = *msi;
	pthread_mutex_unlock(&rig->lock);
	rig_say(rig, "route %u %llx %x", gsi, (unsigned long long)msi->address,
		msi->data);
	return 0;
}

static void routes_begin(void *opaque)
{
}

static int routes_commit(void *opaque)
{
	struct rig *rig = opaque;

	rig_say(rig, "commit");
	return rig->commit_fails ? -EINVAL : 0;
}

static int irqfd_add(void *opaque, uint32_t gsi, int fd, int resample)
{
	struct rig *rig = opaque;

	if (resample >= 0 && rig->resample_error)
		return rig->resample_error;
	pthread_mutex_lock(&rig->lock);
	if (rig->irqfds_refused) {
		rig->irqfds_refused--;
		pthread_mutex_unlock(&rig->lock);
		return -ENOMEM;
	}
	rig->irqfds[rig->num_irqfds++] =
		(struct rig_irqfd){ gsi, fd, resample };
	pthread_mutex_unlock(&rig->lock);
	rig_say(rig, resample >= 0 ? "irqfd+ %u resample" : "irqfd+ %u", gsi);
	return 0;
}

static int irqfd_remove(void *opaque, uint32_t gsi, int fd)
{
	struct rig *rig = opaque;
	int err = -ENOENT;

	rig_pump(rig);
	pthread_mutex_lock(&rig->lock);
	for (unsigned i = 0; i < rig->num_irqfds; i++) {
		if (rig->irqfds[i].gsi != gsi || rig->irqfds[i].fd != fd)
			continue;
		rig->irqfds[i] = rig->irqfds[--rig->num_irqfds];
		err = 0;
		break;
	}
	pthread_mutex_unlock(&rig->lock);
	rig_say(rig, err ? "irqfd? %u" : "irqfd- %u", gsi);
	return err;
}

static int msi_signal(void *opaque, const struct cleat_msi *msi)
{
	rig_say(opaque, "signal %llx %x", (unsigned long long)msi->address,
		msi->data);
	return 0;
}

static int intx_gsi(void *opaque, uint32_t requester, unsigned pin,
		    uint32_t *ret_gsi)
{
	struct rig *rig = opaque;

	if (rig->intx_error)
		return rig->intx_error;
	*ret_gsi = rig->intx_gsi + pin;
	return 0;
}

static int line_set(void *opaque, uint32_t gsi, bool level)
{
	rig_say(opaque, "line %u %d", gsi, level);
	return 0;
}

static void vmm_log(void *opaque, const char *text)
{
	fprintf(stderr, "%s\n", text);
}

static const struct cleat_vm_ops all_ops = {
	.size = sizeof(all_ops),
	.gsi_alloc = gsi_alloc,
	.gsi_free = gsi_free,
	.msi_route = msi_route,
	.routes_begin = routes_begin,
	.routes_commit = routes_commit,
	.irqfd_add = irqfd_add,
	.irqfd_remove = irqfd_remove,
	.msi_signal = msi_signal,
	.intx_gsi = intx_gsi,
	.line_set = line_set,
	.log = vmm_log,
};

void rig_pump(struct rig *rig)
{
	struct rig_irqfd irqfds[64];
	unsigned num;

	pthread_mutex_lock(&rig->lock);
	num = rig->num_irqfds < 64 ? rig->num_irqfds : 64;
	memcpy(irqfds, rig->irqfds, num * sizeof(irqfds[0]));
	pthread_mutex_unlock(&rig->lock);
	for (unsigned i = 0; i < num; i++) {
		uint64_t count;

		if (!wait_fd(irqfds[i].fd, POLLIN, 0) ||
		    read(irqfds[i].fd, &count, sizeof(count)) < 0)
			continue;
		if (irqfds[i].resample >= 0)
			rig_say(rig, "raise %u", irqfds[i].gsi);
		else
			rig_say(rig, "inject %x",
				rig->routes[irqfds[i].gsi % RIG_VECTORS].data);
	}
}

void rig_end_intx(struct rig *rig)
{
	uint64_t one = 1;

	pthread_mutex_lock(&rig->lock);
	for (unsigned i = 0; i < rig->num_irqfds; i++)
		if (rig->irqfds[i].resample >= 0)
			ATF_CHECK_EQ(8,
				     write(rig->irqfds[i].resample, &one, 8));
	pthread_mutex_unlock(&rig->lock);
}

/* The guest */

uint32_t rig_read(struct rig *rig, unsigned offset, unsigned length)
{
	return cleat_pci_config_read(rig->pci, offset, length);
}

void rig_write(struct rig *rig, unsigned offset, uint32_t value,
	       unsigned length)
{
	cleat_pci_config_write(rig->pci, offset, value, length);
}

static uint32_t load(struct rig *rig, enum cleat_space space, uint64_t address)
{
	uint32_t value = 0;
	int err =
		cleat_mmio_access(rig->mmio, space, address, &value, 4, false);

	return err == -ENOENT ? RIG_NOBODY : value;
}

uint32_t rig_load(struct rig *rig, uint64_t address)
{
	return load(rig, CLEAT_MEMORY, address);
}

uint32_t rig_in(struct rig *rig, uint16_t port)
{
	return load(rig, CLEAT_PORTS, port);
}

void rig_store(struct rig *rig, uint64_t address, uint32_t value)
{
	ATF_REQUIRE_EQ(0, cleat_mmio_access(rig->mmio, CLEAT_MEMORY, address,
					    &value, 4, true));
}

void rig_enable(struct rig *rig)
{
	rig_write(rig, PCI_BASE_ADDRESS_0, (uint32_t)RIG_BAR0, 4);
	rig_write(rig, PCI_BASE_ADDRESS_1, 0, 4);
	rig_write(rig, PCI_COMMAND,
		  PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
			  PCI_COMMAND_INTX_DISABLE,
		  2);
}

void rig_enable_msix(struct rig *rig)
{
	rig_write(rig, RIG_MSIX + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 2);
}

void rig_mask(struct rig *rig, unsigned vector, bool masked)
{
	rig_store(rig, RIG_TABLE + 16 * vector + 12, masked);
}

void rig_entry(struct rig *rig, unsigned vector, uint32_t data, bool masked)
{
	uint64_t entry = RIG_TABLE + 16 * vector;

	rig_store(rig, entry, 0xfee00000);
	rig_store(rig, entry + 4, 0);
	rig_store(rig, entry + 8, data);
	rig_mask(rig, vector, masked);
}

struct cleat_pci_stats rig_stats(struct rig *rig)
{
	struct cleat_pci_stats stats = { .size = sizeof(stats) };

	ATF_REQUIRE_EQ(0, cleat_pci_stats(rig->pci, &stats));
	return stats;
}

/* All of it */

void rig_open(struct rig *rig)
{
	struct cleat_device_config config = {
		.size = sizeof(config),
		.access_ms = rig->access_ms ? rig->access_ms : PATIENCE_MS,
		.control_ms = PATIENCE_MS,
	};
	struct cleat_error why;
	int ends[2], err;

	peer_pair(ends);
	rig->server.fd = ends[1];
	config.fd = ends[0];
	rig_serve(rig);
	err = cleat_device_open(&config, &rig->dev, &why);
	ATF_REQUIRE_MSG(!err, "%s", why.text);
	close(ends[0]);
	if (!rig->mmio)
		ATF_REQUIRE_EQ(0, cleat_mmio_create(&rig->mmio));
}

int rig_create(struct rig *rig, struct cleat_error *why)
{
	struct cleat_pci_config config = {
		.size = sizeof(config),
		.device = rig->dev,
		.mmio = rig->mmio,
		.ops = &rig->ops,
		.function = rig->function,
	};

	return cleat_pci_create(&config, &rig->pci, why);
}

void rig_start(struct rig *rig)
{
	struct cleat_error why;
	int err;

	rig_open(rig);
	err = rig_create(rig, &why);
	ATF_REQUIRE_MSG(!err, "%s", why.text);
	rig_forget(rig);
}

void rig_end(struct rig *rig)
{
	cleat_pci_unref(rig->pci);
	ATF_CHECK_EQ(0, rig->num_irqfds);
	cleat_device_unref(rig->dev);
	cleat_mmio_unref(rig->mmio);
	rig_unserve(rig);
	free(rig);
}

struct rig *rig_new(void)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	ATF_REQUIRE(rig);
	pthread_mutex_init(&rig->lock, NULL);
	rig->ops = all_ops;
	rig->ops.opaque = rig;
	rig->function = RIG_FUNCTION;
	rig->next_gsi = 100;
	rig->gsis_left = RIG_VECTORS;
	rig->intx_gsi = 16;
	rig_device(rig);
	return rig;
}
