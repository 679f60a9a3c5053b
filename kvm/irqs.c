/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>

#include "kvm/private.h"

/* No table can have a route of it: raising it does nothing. */
#define NO_GSI 0x7fffffff

static int set_irqfd(struct cleat_kvm *kvm, uint32_t gsi, int fd,
		     int resample_fd, uint32_t flags)
{
	struct kvm_irqfd arg = {
		.fd = (uint32_t)fd,
		.gsi = gsi,
		.flags = flags,
	};

	if (resample_fd >= 0) {
		arg.flags |= KVM_IRQFD_FLAG_RESAMPLE;
		arg.resamplefd = (uint32_t)resample_fd;
	}
	return cleat_kvm_ioctl(kvm, KVM_IRQFD, &arg);
}

static struct cleat_kvm_irqfd **bucket(struct cleat_kvm *kvm, uint32_t gsi)
{
	return &kvm->irqfds[gsi % CLEAT_KVM_BUCKETS];
}

static bool forget(struct cleat_kvm *kvm, uint32_t gsi, int fd)
{
	struct cleat_kvm_irqfd **link, *found;

	pthread_mutex_lock(&kvm->lock);
	for (link = bucket(kvm, gsi); (found = *link); link = &found->next)
		if (found->gsi == gsi && found->fd == fd)
			break;
	if (found)
		*link = found->next;
	pthread_mutex_unlock(&kvm->lock);
	free(found);
	return found;
}

static void remember(struct cleat_kvm *kvm, struct cleat_kvm_irqfd *entry)
{
	pthread_mutex_lock(&kvm->lock);
	entry->next = *bucket(kvm, entry->gsi);
	*bucket(kvm, entry->gsi) = entry;
	pthread_mutex_unlock(&kvm->lock);
}

static int irqfd_add(void *opaque, uint32_t gsi, int fd, int resample_fd)
{
	struct cleat_kvm *kvm = opaque;
	struct cleat_kvm_irqfd *entry;
	int err;

	if (resample_fd >= 0 && !kvm->resample)
		return -EOPNOTSUPP;
	entry = malloc(sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	*entry = (struct cleat_kvm_irqfd){.gsi = gsi, .fd = fd};
	/*
	 * The route first: the eventfd may hold an interrupt already, and KVM
	 * would deliver it by the route that the GSI had before.
	 */
	err = cleat_kvm_route_ready(kvm, gsi);
	if (!err)
		err = set_irqfd(kvm, gsi, fd, resample_fd, 0);
	if (err)
		free(entry);
	else
		remember(kvm, entry);
	return err;
}

static int irqfd_remove(void *opaque, uint32_t gsi, int fd)
{
	struct cleat_kvm *kvm = opaque;

	if (!forget(kvm, gsi, fd))
		return -ENOENT;
	/* KVM waits here for what it is just injecting. */
	return set_irqfd(kvm, gsi, fd, -1, KVM_IRQFD_FLAG_DEASSIGN);
}

static int msi_signal(void *opaque, const struct cleat_msi *msi)
{
	struct cleat_kvm *kvm = opaque;
	struct kvm_msi arg = {
		.address_lo = (uint32_t)msi->address,
		.address_hi = (uint32_t)(msi->address >> 32),
		.data = msi->data,
	};
	int result = cleat_kvm_ioctl(kvm, KVM_SIGNAL_MSI, &arg);

	/* 0 and more say whether the guest took it, which is its business. */
	return result < 0 ? result : 0;
}

static int set_line(struct cleat_kvm *kvm, uint32_t gsi, bool level)
{
	struct kvm_irq_level arg = {.irq = gsi, .level = level};

	return cleat_kvm_ioctl(kvm, KVM_IRQ_LINE, &arg);
}

static int line_set(void *opaque, uint32_t gsi, bool level)
{
	return set_line(opaque, gsi, level);
}

static int call_line_set(void *opaque, uint32_t gsi, bool level)
{
	struct cleat_kvm *kvm = opaque;

	return kvm->config.line_set(kvm->config.opaque, gsi, level);
}

/* The IOAPIC is KVM's, not the VMM's. */
static bool has_ioapic(struct cleat_kvm *kvm)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};

	return !cleat_kvm_ioctl(kvm, KVM_GET_IRQCHIP, &chip);
}

int cleat_kvm_irqs_init(struct cleat_kvm *kvm, struct cleat_error *reterr)
{
	/* -ENXIO: a VM whose interrupt controllers are all in user space. */
	int err = set_line(kvm, NO_GSI, false);
	bool ioapic = has_ioapic(kvm);

	if (err && err != -ENXIO)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "the descriptor is no KVM virtual machine");
	if (kvm->config.line_set)
		kvm->ops.line_set = call_line_set;
	else if (ioapic)
		kvm->ops.line_set = line_set;
	if (err)
		return 0;
	if (cleat_kvm_extension(kvm, KVM_CAP_SIGNAL_MSI))
		kvm->ops.msi_signal = msi_signal;
	if (cleat_kvm_extension(kvm, KVM_CAP_IRQFD)) {
		kvm->ops.irqfd_add = irqfd_add;
		kvm->ops.irqfd_remove = irqfd_remove;
	}
	/* KVM sees the end of a line's interrupt only at its own IOAPIC. */
	kvm->resample =
		ioapic && cleat_kvm_extension(kvm, KVM_CAP_IRQFD_RESAMPLE);
	return 0;
}

void cleat_kvm_irqs_end(struct cleat_kvm *kvm)
{
	for (unsigned i = 0; i < CLEAT_KVM_BUCKETS; i++) {
		while (kvm->irqfds[i]) {
			struct cleat_kvm_irqfd *entry = kvm->irqfds[i];

			kvm->irqfds[i] = entry->next;
			set_irqfd(kvm, entry->gsi, entry->fd, -1,
				  KVM_IRQFD_FLAG_DEASSIGN);
			free(entry);
		}
	}
}
