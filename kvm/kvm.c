/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm/private.h"

int cleat_kvm_ioctl(struct cleat_kvm *kvm, unsigned long request, void *arg)
{
	int result = ioctl(kvm->vm_fd, request, arg);

	return result < 0 ? -errno : result;
}

unsigned cleat_kvm_extension(struct cleat_kvm *kvm, unsigned capability)
{
	int value = ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, capability);

	return value < 0 ? 0 : (unsigned)value;
}

static int call_intx_gsi(void *opaque, uint32_t requester, unsigned pin,
			 uint32_t *ret_gsi)
{
	struct cleat_kvm *kvm = opaque;

	return kvm->config.intx_gsi(kvm->config.opaque, requester, pin,
				    ret_gsi);
}

static void call_log(void *opaque, const char *text)
{
	struct cleat_kvm *kvm = opaque;

	kvm->config.log(kvm->config.opaque, text);
}

static int take_config(struct cleat_kvm *kvm,
		       const struct cleat_kvm_config *config,
		       struct cleat_error *reterr)
{
	if (config->size < offsetof(struct cleat_kvm_config, line_set) ||
	    config->size > sizeof(*config))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "struct cleat_kvm_config of %u bytes",
				  config->size);
	memcpy(&kvm->config, config, config->size);
	if (config->intx_gsi)
		kvm->ops.intx_gsi = call_intx_gsi;
	if (config->log)
		kvm->ops.log = call_log;
	return 0;
}

static int take_vm(struct cleat_kvm *kvm, int vm_fd, struct cleat_error *reterr)
{
	kvm->vm_fd = cleat_dup(vm_fd);
	if (kvm->vm_fd == -EBADF)
		kvm->vm_fd = -EINVAL;
	if (kvm->vm_fd < 0)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, kvm->vm_fd,
				  "cannot duplicate the VM's descriptor: %s",
				  strerror(-kvm->vm_fd));
	return 0;
}

static int set_up(struct cleat_kvm *kvm, int vm_fd,
		  const struct cleat_kvm_config *config,
		  struct cleat_error *reterr)
{
	int err = take_config(kvm, config, reterr);

	if (!err)
		err = take_vm(kvm, vm_fd, reterr);
	if (!err)
		err = cleat_kvm_irqs_init(kvm, reterr);
	if (!err)
		err = cleat_kvm_routes_init(kvm, reterr);
	if (!err)
		err = cleat_kvm_slots_init(kvm, reterr);
	if (!err)
		err = cleat_kvm_kicks_init(kvm, reterr);
	if (!err)
		cleat_kvm_ring_init(kvm);
	return err;
}

int cleat_kvm_create(int vm_fd, const struct cleat_kvm_config *config,
		     struct cleat_kvm **ret_kvm, struct cleat_error *reterr)
{
	struct cleat_kvm *kvm = calloc(1, sizeof(*kvm));
	int err;

	if (!kvm)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "no memory");
	kvm->vm_fd = -1;
	kvm->ops.size = sizeof(kvm->ops);
	kvm->ops.opaque = kvm;
	pthread_mutex_init(&kvm->lock, NULL);
	pthread_mutex_init(&kvm->routes_lock, NULL);
	pthread_mutex_init(&kvm->ring.lock, NULL);
	err = pthread_key_create(&kvm->depth, NULL);
	if (err) {
		free(kvm);
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "the process has no thread key left");
	}
	err = set_up(kvm, vm_fd, config, reterr);
	if (err)
		cleat_kvm_destroy(kvm);
	else
		*ret_kvm = kvm;
	return err;
}

struct cleat_kvm *cleat_kvm_destroy(struct cleat_kvm *kvm)
{
	if (!kvm)
		return NULL;
	cleat_kvm_irqs_end(kvm);
	cleat_kvm_routes_end(kvm);
	cleat_kvm_kicks_end(kvm);
	cleat_kvm_slots_end(kvm);
	cleat_kvm_ring_end(kvm);
	cleat_close(&kvm->vm_fd);
	pthread_key_delete(kvm->depth);
	pthread_mutex_destroy(&kvm->ring.lock);
	pthread_mutex_destroy(&kvm->routes_lock);
	pthread_mutex_destroy(&kvm->lock);
	free(kvm);
	return NULL;
}

const struct cleat_vm_ops *cleat_kvm_ops(struct cleat_kvm *kvm)
{
	return &kvm->ops;
}
