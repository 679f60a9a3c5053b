/* SPDX-License-Identifier: BSD-2-Clause */
#include <sys/ioctl.h>

#include "tests/kvm/fixture.h"

static int create(int vm, struct cleat_kvm_config config, const char *why)
{
	struct cleat_error error = {0};
	struct cleat_kvm *kvm = NULL;
	int err;

	if (!config.size)
		config.size = sizeof(config);
	err = cleat_kvm_create(vm, &config, &kvm, &error);
	ATF_CHECK_EQ(err, cleat_kvm_create(vm, &config, &kvm, NULL));
	ATF_CHECK_EQ(NULL, kvm);
	ATF_CHECK_EQ(err, error.code);
	ATF_CHECK_MSG(strstr(error.text, why), "not \"%s\": %s", why,
		      error.text);
	return err;
}

static int new_vm(const atf_tc_t *tc)
{
	int kvm = kvm_open(tc);
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);

	ATF_REQUIRE(vm >= 0);
	close(kvm);
	return vm;
}

CLEAT_TC(create__no_vm)
{
	struct cleat_kvm_config config = {.slots = 1};
	int kvm = kvm_open(tc);
	int fd = make_eventfd();

	ATF_CHECK_EQ(-EINVAL, create(kvm, config, "no KVM virtual machine"));
	ATF_CHECK_EQ(-EINVAL, create(fd, config, "no KVM virtual machine"));
	ATF_CHECK_EQ(-EINVAL, create(-1, config, "descriptor"));
	close(fd);
	close(kvm);
}

CLEAT_TC(create__impossible)
{
	struct cleat_kvm_config config = {.slots = 40000};
	int vm = new_vm(tc);

	ATF_CHECK_EQ(-EINVAL, create(vm, config, "memory slots"));
	config.slots = 1;
	config.first_slot = UINT32_MAX;
	ATF_CHECK_EQ(-EINVAL, create(vm, config, "memory slots"));
	config.size = 8;
	ATF_CHECK_EQ(-EINVAL, create(vm, config, "8 bytes"));
	config.size = 4096;
	ATF_CHECK_EQ(-EINVAL, create(vm, config, "4096 bytes"));
	close(vm);
}

CLEAT_TC(create__impossible_gsis)
{
	struct cleat_kvm_config config = {
		.gsis = 4096, .first_gsi = 24, .base_routes = ioapic_routes()};
	int vm = new_vm(tc);

	ATF_REQUIRE_EQ(0, ioctl(vm, KVM_CREATE_IRQCHIP, 0));
	ATF_CHECK_EQ(-EINVAL, create(vm, config, "GSIs"));
	config.gsis = UINT32_MAX;
	ATF_CHECK_EQ(-EINVAL, create(vm, config, "GSIs"));
	config.gsis = 16;
	config.first_gsi = 20;
	ATF_CHECK_EQ(-EINVAL, create(vm, config, "base route of GSI 20"));
	close(vm);
}

CLEAT_TC(create__nothing_asked)
{
	struct cleat_kvm_config config = {.size = sizeof(config)};
	const struct cleat_vm_ops *ops;
	struct cleat_kvm *kvm;
	int vm = new_vm(tc);

	ATF_REQUIRE_EQ(0, ioctl(vm, KVM_CREATE_IRQCHIP, 0));
	ATF_REQUIRE_EQ(0, cleat_kvm_create(vm, &config, &kvm, NULL));
	ops = cleat_kvm_ops(kvm);
	ATF_CHECK_EQ(sizeof(*ops), ops->size);
	ATF_CHECK(!ops->slot_add && !ops->slot_remove);
	ATF_CHECK(!ops->gsi_alloc && !ops->routes_commit && !ops->msi_route);
	ATF_CHECK(!ops->intx_gsi && !ops->log);
	ATF_CHECK(ops->ioeventfd_add && ops->ioeventfd_remove);
	ATF_CHECK(ops->irqfd_add && ops->irqfd_remove && ops->msi_signal);
	ATF_CHECK(ops->line_set);
	ATF_CHECK_EQ(NULL, cleat_kvm_destroy(kvm));
	ATF_CHECK_EQ(NULL, cleat_kvm_destroy(NULL));
	close(vm);
}

/* Interrupt controllers of the VMM's own: no interrupt goes through KVM. */
CLEAT_TC(create__no_irqchip)
{
	struct cleat_kvm_config config = {.size = sizeof(config),
					  .slots = 1,
					  .gsis = 16,
					  .base_routes = ioapic_routes(),
					  .first_gsi = 24};
	const struct cleat_vm_ops *ops;
	struct cleat_kvm *kvm;
	int vm = new_vm(tc);

	ATF_REQUIRE_EQ(0, cleat_kvm_create(vm, &config, &kvm, NULL));
	ops = cleat_kvm_ops(kvm);
	ATF_CHECK(ops->slot_add && ops->ioeventfd_add);
	ATF_CHECK(!ops->gsi_alloc && !ops->gsi_free && !ops->msi_route);
	ATF_CHECK(!ops->routes_begin && !ops->routes_commit);
	ATF_CHECK(!ops->irqfd_add && !ops->irqfd_remove);
	ATF_CHECK(!ops->msi_signal && !ops->line_set);
	cleat_kvm_destroy(kvm);
	close(vm);
}

struct called {
	unsigned logs, lines, pins;
};

static void note_log(void *opaque, const char *text)
{
	((struct called *)opaque)->logs += !strcmp(text, "hello");
}

static int note_line(void *opaque, uint32_t gsi, bool level)
{
	((struct called *)opaque)->lines += gsi == 5 && level;
	return -EBUSY;
}

static int note_pin(void *opaque, uint32_t requester, unsigned pin,
		    uint32_t *ret_gsi)
{
	((struct called *)opaque)->pins += requester == 8 && pin == 2;
	*ret_gsi = 18;
	return 0;
}

CLEAT_TC(create__callbacks)
{
	struct called called = {0};
	struct cleat_kvm_config config = {.size = sizeof(config),
					  .intx_gsi = note_pin,
					  .log = note_log,
					  .line_set = note_line,
					  .opaque = &called};
	const struct cleat_vm_ops *ops;
	struct cleat_kvm *kvm;
	int vm = new_vm(tc);
	uint32_t gsi = 0;

	ATF_REQUIRE_EQ(0, cleat_kvm_create(vm, &config, &kvm, NULL));
	ops = cleat_kvm_ops(kvm);
	ops->log(ops->opaque, "hello");
	ATF_CHECK_EQ(-EBUSY, ops->line_set(ops->opaque, 5, true));
	ATF_CHECK_EQ(0, ops->intx_gsi(ops->opaque, 8, 2, &gsi));
	ATF_CHECK_EQ(18, gsi);
	ATF_CHECK_EQ(3, called.logs + called.lines + called.pins);
	cleat_kvm_destroy(kvm);
	close(vm);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, create__no_vm);
	ATF_TP_ADD_TC(tp, create__impossible);
	ATF_TP_ADD_TC(tp, create__impossible_gsis);
	ATF_TP_ADD_TC(tp, create__nothing_asked);
	ATF_TP_ADD_TC(tp, create__no_irqchip);
	ATF_TP_ADD_TC(tp, create__callbacks);
	return atf_no_error();
}
