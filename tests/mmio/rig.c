/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <sys/socket.h>

#include "tests/mmio/rig.h"

/* --- The server ------------------------------------------------------------- */

static int serve(struct rig *rig, uint64_t offset, size_t count)
{
	atomic_store(&rig->last_offset, offset);
	atomic_store(&rig->last_count, (unsigned)count);
	atomic_fetch_add(&rig->hung, 1);
	while (atomic_load(&rig->hang))
		usleep(200);
	atomic_fetch_sub(&rig->hung, 1);
	return atomic_load(&rig->refuse);
}

static int on_read(void *opaque, uint32_t index, uint64_t offset, void *buf,
		   size_t count)
{
	struct rig *rig = opaque;

	atomic_fetch_add(&rig->reads, 1);
	memcpy(buf, rig->regs + offset, count);
	return serve(rig, offset, count);
}

static int on_write(void *opaque, uint32_t index, uint64_t offset,
		    const void *buf, size_t count)
{
	struct rig *rig = opaque;

	atomic_fetch_add(&rig->writes, 1);
	memcpy(rig->regs + offset, buf, count);
	if (atomic_exchange(&rig->offer, false))
		cleat_server_set_io_fds(rig->srv, 0, rig->io, rig->num_io);
	return serve(rig, offset, count);
}

static void *run_server(void *arg)
{
	struct rig *rig = arg;

	cleat_server_run(rig->srv);
	return NULL;
}

static void open_server(struct rig *rig, int fd)
{
	static const struct cleat_server_ops ops = {
		.size = sizeof(ops),
		.region_read = on_read,
		.region_write = on_write,
	};
	struct cleat_server_region region = {
		.size = sizeof(region),
		.flags = rig->flags ? rig->flags :
				      CLEAT_REGION_READ | CLEAT_REGION_WRITE,
		.length = rig->length ? rig->length : BAR,
		.areas = rig->areas,
		.n_areas = rig->num_areas,
	};

	ATF_REQUIRE_EQ(0, cleat_server_create(NULL, &ops, rig, &rig->srv,
					      NULL));
	ATF_REQUIRE_EQ(0, cleat_server_add_region(rig->srv, &region, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_set_io_fds(rig->srv, 0, rig->io,
						  rig->num_io));
	ATF_REQUIRE_EQ(0, cleat_server_adopt(rig->srv, fd, NULL));
	ATF_REQUIRE_EQ(0, pthread_create(&rig->thread, NULL, run_server, rig));
}

void rig_open(struct rig *rig)
{
	struct cleat_device_config config = {
		.size = sizeof(config),
		.access_ms = rig->access_ms,
	};
	struct cleat_error why;
	int ends[2];

	peer_pair(ends);
	open_server(rig, ends[0]);
	config.fd = ends[1];
	ATF_REQUIRE_EQ_MSG(0, cleat_device_open(&config, &rig->dev, &why), "%s",
			   why.text);
	close(ends[1]);
}

void rig_close_device(struct rig *rig)
{
	rig->dev = cleat_device_unref(rig->dev);
}

void rig_kill_server(struct rig *rig)
{
	if (!rig->srv)
		return;
	atomic_store(&rig->hang, false);
	cleat_server_stop(rig->srv);
	pthread_join(rig->thread, NULL);
	cleat_server_destroy(rig->srv);
	rig->srv = NULL;
}

void rig_close(struct rig *rig)
{
	rig_close_device(rig);
	rig_kill_server(rig);
}

uint64_t rig_messages(struct rig *rig)
{
	struct cleat_device_stats stats = { .size = sizeof(stats) };

	ATF_REQUIRE_EQ(0, cleat_device_stats(rig->dev, &stats));
	return stats.requests;
}

struct cleat_binding *rig_bind(struct rig *rig, struct cleat_mmio *mmio,
			       struct vm *vm, uint32_t order)
{
	struct cleat_binding_config config = {
		.size = sizeof(config),
		.device = rig->dev,
		.order = order,
		.ops = vm ? &vm->ops : NULL,
	};
	struct cleat_binding *binding;
	struct cleat_error why;

	ATF_REQUIRE_EQ_MSG(0, cleat_mmio_bind(mmio, &config, &binding, &why),
			   "%s", why.text);
	return binding;
}

/* --- The VMM ------------------------------------------------------------------ */

bool is_there(struct cleat_mmio *mmio, enum cleat_space space, uint64_t address)
{
	uint8_t byte;

	return cleat_mmio_access(mmio, space, address, &byte, 1, false) !=
	       -ENOENT;
}

static void say(struct vm *vm, const char *what, enum cleat_space space,
		uint64_t address, const char *more)
{
	bool there = !vm->mmio || is_there(vm->mmio, space, address);
	size_t used;

	pthread_mutex_lock(&vm->lock);
	used = strlen(vm->text);
	snprintf(vm->text + used, sizeof(vm->text) - used, "%s%s:%llx%s%s",
		 used ? " " : "", what, (unsigned long long)address, more,
		 there ? "" : "!");
	pthread_mutex_unlock(&vm->lock);
}

static int on_slot_add(void *opaque, uint64_t guest, uint64_t length,
		       void *host, uint32_t flags, uint32_t *ret_slot)
{
	struct vm *vm = opaque;
	char more[32];

	snprintf(more, sizeof(more), ":%llx", (unsigned long long)length);
	say(vm, flags & CLEAT_SLOT_READONLY ? "+slotr" : "+slot", CLEAT_MEMORY,
	    guest, more);
	if (vm->refuse)
		return vm->refuse;
	vm->host = host;
	vm->slots[vm->num_slots % 64] = guest;
	*ret_slot = vm->num_slots++;
	return 0;
}

static int on_slot_remove(void *opaque, uint32_t slot)
{
	struct vm *vm = opaque;

	say(vm, "-slot", CLEAT_MEMORY, vm->slots[slot % 64], "");
	return vm->keep;
}

static void say_kick(struct vm *vm, const char *what,
		     const struct cleat_ioeventfd *kick)
{
	char more[64];
	int n = snprintf(more, sizeof(more), ":%u", kick->length);

	if (kick->match)
		snprintf(more + n, sizeof(more) - (size_t)n, "=%llx",
			 (unsigned long long)kick->datamatch);
	say(vm, what, kick->space, kick->address, more);
}

static int on_ioeventfd_add(void *opaque, const struct cleat_ioeventfd *kick)
{
	struct vm *vm = opaque;

	say_kick(vm, "+kick", kick);
	return vm->refuse;
}

static int on_ioeventfd_remove(void *opaque, const struct cleat_ioeventfd *kick)
{
	say_kick(opaque, "-kick", kick);
	return 0;
}

void vm_init(struct vm *vm, struct cleat_mmio *mmio)
{
	memset(vm, 0, sizeof(*vm));
	vm->mmio = mmio;
	pthread_mutex_init(&vm->lock, NULL);
	vm->ops.size = sizeof(vm->ops);
	vm->ops.opaque = vm;
	vm->ops.slot_add = on_slot_add;
	vm->ops.slot_remove = on_slot_remove;
	vm->ops.ioeventfd_add = on_ioeventfd_add;
	vm->ops.ioeventfd_remove = on_ioeventfd_remove;
}

const char *vm_said(struct vm *vm)
{
	static char said[sizeof(vm->text)];

	pthread_mutex_lock(&vm->lock);
	strcpy(said, vm->text);
	vm->text[0] = '\0';
	pthread_mutex_unlock(&vm->lock);
	return said;
}

/* --- vCPUs ---------------------------------------------------------------------- */

uint64_t load(struct cleat_mmio *mmio, uint64_t address, unsigned length)
{
	uint64_t value = 0;
	int err = cleat_mmio_access(mmio, CLEAT_MEMORY, address, &value, length,
				    false);

	ATF_REQUIRE(!err || err == -ENOENT);
	return err ? UINT64_MAX : value;
}

void store(struct cleat_mmio *mmio, uint64_t address, uint64_t value,
	   unsigned length)
{
	int err = cleat_mmio_access(mmio, CLEAT_MEMORY, address, &value, length,
				    true);

	ATF_REQUIRE(!err || err == -ENOENT);
}

static void *run_vcpu(void *arg)
{
	struct vcpu *vcpu = arg;

	cleat_cancel_enter(vcpu->cancel);
	vcpu->result = cleat_mmio_access(vcpu->mmio, CLEAT_MEMORY,
					 vcpu->address, &vcpu->value,
					 vcpu->length, vcpu->write);
	cleat_cancel_enter(NULL);
	return NULL;
}

void vcpu_start(struct vcpu *vcpu)
{
	ATF_REQUIRE_EQ(0, pthread_create(&vcpu->thread, NULL, run_vcpu, vcpu));
}

int vcpu_join(struct vcpu *vcpu)
{
	ATF_REQUIRE_EQ(0, pthread_join(vcpu->thread, NULL));
	return vcpu->result;
}
