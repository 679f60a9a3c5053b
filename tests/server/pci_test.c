/* SPDX-License-Identifier: BSD-2-Clause */
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <sys/eventfd.h>

#include "tests/server/rig.h"

#define CONFIG VFIO_PCI_CONFIG_REGION_INDEX

static struct cleat_server_pci *pci;

/* What the ops told. */
static struct {
	unsigned commands, msi, msix, writes;
	uint16_t old, now;
	bool msix_enabled, msix_masked;
} told;

static void on_command(void *opaque, uint16_t old, uint16_t now)
{
	told.commands++;
	told.old = old;
	told.now = now;
}

static void on_msi(void *opaque, bool enabled)
{
	told.msi++;
}

static void on_msix(void *opaque, bool enabled, bool masked)
{
	told.msix++;
	told.msix_enabled = enabled;
	told.msix_masked = masked;
}

static void on_written(void *opaque, uint32_t offset, size_t count)
{
	told.writes++;
}

static const struct cleat_server_pci_ops ops = {
	.size = sizeof(ops),
	.command_changed = on_command,
	.msi_changed = on_msi,
	.msix_changed = on_msix,
	.config_written = on_written,
};

static const struct cleat_server_pci_config usual = {
	.size = sizeof(usual),
	.vendor = 0x1b36,
	.device = 0x1234,
	.subvendor = 0xaaaa,
	.subdevice = 0xbbbb,
	.class_code = 0x010802,
	.revision = 3,
	.interrupt_pin = 1,
	.bars = { [2] = { CLEAT_BAR_64 | CLEAT_BAR_PREFETCH },
		  [4] = { CLEAT_BAR_IO } },
	.pm = true,
	.pcie = true,
	.msi_vectors = 4,
	.msix_vectors = 8,
	.msix_bar = 0,
	.msix_table = 0x1000,
	.msix_pba_bar = 0,
	.msix_pba = 0x2000,
	.serial = 0x1122334455667788,
};

static void add_bar(struct rig *rig, uint32_t index, uint64_t length)
{
	struct cleat_server_region bar = {
		.size = sizeof(bar),
		.index = index,
		.flags = CLEAT_REGION_READ | CLEAT_REGION_WRITE,
		.length = length,
	};

	ATF_REQUIRE_EQ(0, cleat_server_add_region(rig->srv, &bar, NULL));
}

static void start(struct rig *rig)
{
	struct peer_message reply;

	memset(&told, 0, sizeof(told));
	rig_create(rig, NULL);
	add_bar(rig, 2, UINT64_C(1) << 33);
	add_bar(rig, 4, 64);
	add_bar(rig, 6, 65536);
	ATF_REQUIRE_EQ(0, cleat_server_pci_create(rig->srv, &usual, &ops, rig,
						  &pci, NULL));
	rig_run(rig);
	rig_version(rig, "{\"capabilities\":{\"max_msg_fds\":16}}", &reply);
	peer_message_end(&reply);
}

static uint32_t get(struct rig *rig, uint64_t offset, uint32_t width)
{
	uint32_t value = 0;

	ATF_REQUIRE_EQ(0, rig_read(rig, CONFIG, offset, &value, width));
	return value;
}

static void put(struct rig *rig, uint64_t offset, uint32_t width,
		uint32_t value)
{
	ATF_REQUIRE_EQ(0, rig_write(rig, CONFIG, offset, &value, width));
}

static uint32_t find_cap(struct rig *rig, uint32_t id)
{
	uint32_t at = get(rig, PCI_CAPABILITY_LIST, 1);

	for (unsigned steps = 0; at && steps < 48; steps++) {
		if (get(rig, at, 1) == id)
			return at;
		at = get(rig, at + 1, 1);
	}
	return 0;
}

CLEAT_TC(header__says_who)
{
	struct rig rig;

	start(&rig);
	ATF_REQUIRE_EQ(0x12341b36, get(&rig, 0, 4));
	ATF_REQUIRE_EQ(0x01080203, get(&rig, PCI_CLASS_REVISION, 4));
	ATF_REQUIRE_EQ(0xbbbbaaaa, get(&rig, PCI_SUBSYSTEM_VENDOR_ID, 4));
	ATF_REQUIRE_EQ(1, get(&rig, PCI_INTERRUPT_PIN, 1));
	put(&rig, 0, 4, 0);
	put(&rig, PCI_INTERRUPT_PIN, 1, 0xff);
	put(&rig, PCI_INTERRUPT_LINE, 1, 0x2a);
	ATF_REQUIRE_EQ(0x12341b36, get(&rig, 0, 4));
	ATF_REQUIRE_EQ(0x012a, get(&rig, PCI_INTERRUPT_LINE, 2));
	ATF_REQUIRE_EQ(3, told.writes);
	rig_end(&rig);
}

CLEAT_TC(bars__sized)
{
	struct rig rig;

	start(&rig);
	for (uint32_t at = PCI_BASE_ADDRESS_0; at <= PCI_BASE_ADDRESS_5;
	     at += 4)
		put(&rig, at, 4, UINT32_MAX);
	put(&rig, PCI_ROM_ADDRESS, 4, 0xfffff800);
	ATF_CHECK_EQ(~(RIG_BAR - 1u), get(&rig, PCI_BASE_ADDRESS_0, 4));
	ATF_CHECK_EQ(0, get(&rig, PCI_BASE_ADDRESS_1, 4));
	ATF_CHECK_EQ(0xc, get(&rig, PCI_BASE_ADDRESS_2, 4));
	ATF_CHECK_EQ(0xfffffffe, get(&rig, PCI_BASE_ADDRESS_3, 4));
	ATF_CHECK_EQ(0xffffffc1, get(&rig, PCI_BASE_ADDRESS_4, 4));
	ATF_CHECK_EQ(0xffff0000, get(&rig, PCI_ROM_ADDRESS, 4));
	rig_end(&rig);
}

CLEAT_TC(caps__chained)
{
	uint32_t at;
	struct rig rig;

	start(&rig);
	ATF_REQUIRE(get(&rig, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	ATF_CHECK(find_cap(&rig, PCI_CAP_ID_PM));
	at = find_cap(&rig, PCI_CAP_ID_MSI);
	ATF_CHECK_EQ(PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 2 << 1,
		     get(&rig, at + PCI_MSI_FLAGS, 2));
	at = find_cap(&rig, PCI_CAP_ID_MSIX);
	ATF_CHECK_EQ(7, get(&rig, at + PCI_MSIX_FLAGS, 2));
	ATF_CHECK_EQ(0x1000, get(&rig, at + PCI_MSIX_TABLE, 4));
	at = find_cap(&rig, PCI_CAP_ID_EXP);
	ATF_CHECK(get(&rig, at + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR);
	ATF_CHECK_EQ(0, find_cap(&rig, PCI_CAP_ID_VNDR));
	ATF_CHECK_EQ(PCI_EXT_CAP_ID_DSN | 1 << 16, get(&rig, 256, 4));
	ATF_CHECK_EQ(0x55667788, get(&rig, 260, 4));
	rig_end(&rig);
}

CLEAT_TC(caps__of_the_device)
{
	static const uint8_t body[] = { 1, 2, 3, 4, 5, 6 };
	static const uint8_t writable[] = { 0, 0, 0xf0, 0, 0, 0 };
	uint8_t big[256] = { 0 };
	struct peer_message reply;
	struct rig rig;
	int at, ext;

	rig_create(&rig, NULL);
	ATF_REQUIRE_EQ(0, cleat_server_pci_create(
				  rig.srv,
				  &(struct cleat_server_pci_config){
					  .size = sizeof(usual), .pcie = true },
				  NULL, NULL, &pci, NULL));
	at = cleat_server_pci_add_cap(pci, PCI_CAP_ID_VNDR, body, writable, 6);
	ATF_REQUIRE(at > 0);
	ext = cleat_server_pci_add_ext_cap(pci, PCI_EXT_CAP_ID_VNDR, 1, body,
					   NULL, 6);
	ATF_REQUIRE_EQ(256, ext);
	ext = cleat_server_pci_add_ext_cap(pci, PCI_EXT_CAP_ID_DSN, 2, body,
					   NULL, 6);
	ATF_REQUIRE_EQ(268, ext);
	ATF_REQUIRE_EQ(-ENOSPC, cleat_server_pci_add_cap(pci, 9, big, NULL,
							 255));
	rig_run(&rig);
	rig_version(&rig, NULL, &reply);
	peer_message_end(&reply);
	ATF_REQUIRE_EQ((uint32_t)at, find_cap(&rig, PCI_CAP_ID_VNDR));
	put(&rig, (uint32_t)at + 2, 4, 0);
	ATF_REQUIRE_EQ(0x04030201 & ~0xf00000u, get(&rig, (uint32_t)at + 2,
						    4));
	ATF_REQUIRE_EQ((268u << 20) | 1u << 16 | PCI_EXT_CAP_ID_VNDR,
		       get(&rig, 256, 4));
	rig_end(&rig);
}

CLEAT_TC(command__told)
{
	struct rig rig;

	start(&rig);
	put(&rig, PCI_COMMAND, 2, 0xffff);
	ATF_REQUIRE_EQ(1, told.commands);
	ATF_REQUIRE_EQ(0, told.old);
	ATF_REQUIRE_EQ(PCI_COMMAND_IO | PCI_COMMAND_MEMORY |
			       PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
			       PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE,
		       told.now);
	put(&rig, PCI_COMMAND, 2, 0xffff);
	ATF_REQUIRE_EQ(1, told.commands);
	put(&rig, PCI_COMMAND, 1, 0);
	ATF_REQUIRE_EQ(2, told.commands);
	put(&rig, find_cap(&rig, PCI_CAP_ID_MSIX) + PCI_MSIX_FLAGS, 2, 0xc000);
	ATF_REQUIRE_EQ(1, told.msix);
	ATF_REQUIRE(told.msix_enabled && told.msix_masked);
	put(&rig, find_cap(&rig, PCI_CAP_ID_MSI) + PCI_MSI_FLAGS, 2, 1);
	ATF_REQUIRE_EQ(1, told.msi);
	rig_end(&rig);
}

CLEAT_TC(flr__resets)
{
	uint32_t express, control;
	struct rig rig;

	start(&rig);
	express = find_cap(&rig, PCI_CAP_ID_EXP);
	control = find_cap(&rig, PCI_CAP_ID_MSIX) + PCI_MSIX_FLAGS;
	put(&rig, PCI_COMMAND, 2, 7);
	put(&rig, PCI_BASE_ADDRESS_0, 4, 0xfe000000);
	put(&rig, control, 2, PCI_MSIX_FLAGS_ENABLE);
	put(&rig, express + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
	ATF_REQUIRE_EQ(1, rig.resets);
	ATF_REQUIRE_EQ(0, get(&rig, PCI_COMMAND, 2));
	ATF_REQUIRE_EQ(0, get(&rig, PCI_BASE_ADDRESS_0, 4));
	ATF_REQUIRE_EQ(0xc, get(&rig, PCI_BASE_ADDRESS_2, 4));
	ATF_REQUIRE_EQ(7, get(&rig, control, 2));
	ATF_REQUIRE_EQ(0, get(&rig, express + PCI_EXP_DEVCTL, 2) & 0x8000);
	ATF_REQUIRE_EQ(0, told.now);
	ATF_REQUIRE(!told.msix_enabled);
	rig_end(&rig);
}

CLEAT_TC(access__outside)
{
	char buf[512] = { 0 };
	struct rig rig;

	start(&rig);
	ATF_CHECK_EQ(0, rig_read(&rig, CONFIG, 3840, buf, 256));
	ATF_CHECK_EQ(-EINVAL, rig_read(&rig, CONFIG, 4095, buf, 2));
	ATF_CHECK_EQ(-EINVAL, rig_write(&rig, CONFIG, 4096, buf, 1));
	memset(buf, 0xff, sizeof(buf));
	/* The whole of it at once, FLR and all. */
	for (unsigned at = 0; at < 4096; at += sizeof(buf))
		ATF_CHECK_EQ(0, rig_write(&rig, CONFIG, at, buf, sizeof(buf)));
	ATF_CHECK_EQ(1, rig.resets);
	ATF_CHECK_EQ(0x12341b36, get(&rig, 0, 4));
	rig_end(&rig);
}

CLEAT_TC(msix__table_and_pending)
{
	uint32_t entry[4] = { 0xfee00000, 0, 0x31, 1 }, out[4];
	int fd = eventfd(0, EFD_NONBLOCK);
	uint64_t pending = 0;
	struct rig rig;

	start(&rig);
	ATF_REQUIRE_EQ(0, rig_write(&rig, 0, 0x1000 + 7 * 16, entry, 16));
	ATF_REQUIRE_EQ(0, rig_read(&rig, 0, 0x1000 + 7 * 16, out, 16));
	ATF_REQUIRE(!memcmp(entry, out, 16));
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, VFIO_IRQ_SET_DATA_EVENTFD |
						     VFIO_IRQ_SET_ACTION_TRIGGER,
				       CLEAT_IRQ_MSIX, 5, 1, &fd, 1));
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, VFIO_IRQ_SET_DATA_NONE |
						     VFIO_IRQ_SET_ACTION_MASK,
				       CLEAT_IRQ_MSIX, 5, 1, NULL, 0));
	ATF_REQUIRE_EQ(0, rig_set_irqs(&rig, VFIO_IRQ_SET_DATA_NONE |
						     VFIO_IRQ_SET_ACTION_TRIGGER,
				       CLEAT_IRQ_MSIX, 5, 1, NULL, 0));
	ATF_REQUIRE_EQ(0, rig_read(&rig, 0, 0x2000, &pending, 8));
	ATF_REQUIRE_EQ(1u << 5, pending);
	pending = 0;
	ATF_REQUIRE_EQ(0, rig_write(&rig, 0, 0x2000, &pending, 8));
	ATF_REQUIRE_EQ(0, rig_read(&rig, 0, 0x2000, &pending, 8));
	ATF_REQUIRE_EQ(1u << 5, pending);
	/* The device sees neither; what reaches past them is its own. */
	ATF_REQUIRE_EQ(0, rig.reads + rig.writes);
	ATF_REQUIRE_EQ(0, rig_read(&rig, 0, 0x1000 + 7 * 16 + 12, out, 8));
	ATF_REQUIRE_EQ(1, rig.reads);
	rig_end(&rig);
	close(fd);
}

static void raise_action(struct rig *rig)
{
	rig->action_result = cleat_server_pci_raise(pci, 6);
}

static void lower_action(struct rig *rig)
{
	cleat_server_pci_lower(pci);
}

static int64_t act(struct rig *rig, void (*action)(struct rig *rig))
{
	rig->action = action;
	ATF_REQUIRE_EQ(0, rig_write32(rig, RIG_ACTION_NOW, 1));
	return rig->action_result;
}

static void arm(struct rig *rig, uint32_t index, uint32_t vector, int fd)
{
	ATF_REQUIRE_EQ(0, rig_set_irqs(rig, VFIO_IRQ_SET_DATA_EVENTFD |
						    VFIO_IRQ_SET_ACTION_TRIGGER,
				       index, vector, 1, &fd, 1));
}

CLEAT_TC(raise__by_what_is_enabled)
{
	int intx = eventfd(0, 0), msi = eventfd(0, 0), msix = eventfd(0, 0);
	uint32_t msi_at, msix_at;
	struct rig rig;

	start(&rig);
	msi_at = find_cap(&rig, PCI_CAP_ID_MSI) + PCI_MSI_FLAGS;
	msix_at = find_cap(&rig, PCI_CAP_ID_MSIX) + PCI_MSIX_FLAGS;
	arm(&rig, CLEAT_IRQ_INTX, 0, intx);
	arm(&rig, CLEAT_IRQ_MSI, 2, msi);
	arm(&rig, CLEAT_IRQ_MSIX, 6, msix);
	/* The line, with its status bit, which the command can hold back. */
	put(&rig, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	ATF_REQUIRE_EQ(0, act(&rig, raise_action));
	ATF_REQUIRE(get(&rig, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	ATF_REQUIRE_EQ(0, wait_eventfd(intx, 0));
	put(&rig, PCI_COMMAND, 2, 0);
	ATF_REQUIRE_EQ(1, wait_eventfd(intx, 0));
	act(&rig, lower_action);
	ATF_REQUIRE(!(get(&rig, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT));
	/* MSI with 4 vectors: 6 is 2 there. */
	put(&rig, msi_at, 2, 2 << 4 | PCI_MSI_FLAGS_ENABLE);
	ATF_REQUIRE_EQ(0, act(&rig, raise_action));
	ATF_REQUIRE_EQ(1, wait_eventfd(msi, 0));
	put(&rig, msi_at, 2, 0);
	put(&rig, msix_at, 2, PCI_MSIX_FLAGS_ENABLE);
	ATF_REQUIRE_EQ(0, act(&rig, raise_action));
	ATF_REQUIRE_EQ(1, wait_eventfd(msix, 0));
	ATF_REQUIRE_EQ(0, wait_eventfd(intx, 0) + wait_eventfd(msi, 0));
	rig_end(&rig);
	close(intx);
	close(msi);
	close(msix);
}

static int create(struct rig *rig, struct cleat_server_pci_config config)
{
	struct cleat_error why;

	return cleat_server_pci_create(rig->srv, &config, NULL, NULL, &pci,
				       &why);
}

CLEAT_TC(create__impossible)
{
	struct cleat_server_pci_config config = { .size = sizeof(config) };
	struct rig rig;

	rig_create(&rig, NULL);
	config.msi_vectors = 3;
	ATF_CHECK_EQ(-EINVAL, create(&rig, config));
	config.msi_vectors = 64;
	ATF_CHECK_EQ(-EINVAL, create(&rig, config));
	config.msi_vectors = 0;
	config.interrupt_pin = 5;
	ATF_CHECK_EQ(-EINVAL, create(&rig, config));
	config.interrupt_pin = 0;
	config.msix_vectors = 2049;
	ATF_CHECK_EQ(-EINVAL, create(&rig, config));
	config.msix_vectors = 2048;
	ATF_CHECK_EQ(-EINVAL, create(&rig, config));
	config.msix_vectors = 8;
	config.msix_bar = 1;
	ATF_CHECK_EQ(-EINVAL, create(&rig, config));
	config.msix_bar = 0;
	config.msix_table = RIG_BAR - 127;
	ATF_CHECK_EQ(-EINVAL, create(&rig, config));
	config.msix_table = 0;
	config.bars[0].flags = CLEAT_BAR_IO;
	ATF_CHECK_EQ(-EINVAL, create(&rig, config));
	config.bars[0].flags = 0;
	add_bar(&rig, 3, 100);
	ATF_CHECK_EQ(-EINVAL, create(&rig, config));
	rig_end(&rig);
}

/* --- In the middle of a migration ------------------------------------ */

#define RAM 0x100000u

static int no_state(void *opaque, void *buf, size_t room)
{
	return 0;
}

static int any_state(void *opaque, uint32_t version, const void *buf,
		     size_t count)
{
	return 0;
}

static int loaded(void *opaque)
{
	return 0;
}

static void start_migratable(struct rig *rig)
{
	const struct cleat_server_migration migration = {
		.size = sizeof(migration),
		.flags = CLEAT_SERVER_MIGRATE_PRE_COPY,
		.name = "nothing",
		.save = no_state,
		.load = any_state,
		.loaded = loaded,
	};
	struct peer_message reply;

	rig_create(rig, NULL);
	ATF_REQUIRE_EQ(0, cleat_server_pci_create(rig->srv, &usual, &ops, rig,
						  &pci, NULL));
	ATF_REQUIRE_EQ(0, cleat_server_add_migration(rig->srv, &migration,
						     NULL));
	rig_run(rig);
	rig_version(rig, NULL, &reply);
	peer_message_end(&reply);
}

struct phase {
	struct cleat_wire_feature feature;
	struct cleat_wire_mig_state state;
};

static void pre_copy(struct rig *rig)
{
	const struct phase set = {
		{ sizeof(set), VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE |
				       VFIO_DEVICE_FEATURE_SET },
		{ .state = CLEAT_SERVER_PRE_SAVING },
	};

	ATF_REQUIRE_EQ(0, rig_call(rig, VFIO_USER_DEVICE_FEATURE, &set,
				   sizeof(set)));
}

static unsigned get_phase(struct rig *rig)
{
	struct phase phase = {
		{ sizeof(phase), VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE |
					 VFIO_DEVICE_FEATURE_GET },
	};
	struct peer_message reply;

	rig_call_fds(rig, VFIO_USER_DEVICE_FEATURE, &phase, sizeof(phase), NULL,
		     0, &reply);
	ATF_REQUIRE_EQ(sizeof(phase), reply.length);
	memcpy(&phase, reply.body, sizeof(phase));
	peer_message_end(&reply);
	return phase.state.state;
}

static void read_ram(struct rig *rig)
{
	rig->action_result = cleat_server_dma_read(rig->srv, RAM, rig->scratch,
						   64);
}

static void answer(struct rig *rig, struct peer_message *request)
{
	char body[sizeof(struct cleat_wire_dma) + 64] = { 0 };

	ATF_REQUIRE_EQ(sizeof(struct cleat_wire_dma), request->length);
	memcpy(body, request->body, request->length);
	ATF_REQUIRE_EQ(0, peer_reply(rig->fd, request, body, sizeof(body), NULL,
				     0));
	peer_message_end(request);
}

/* The guest's, of which the migration hears nothing, whenever it comes. */
CLEAT_TC(reset__by_the_guest_in_pre_copy)
{
	struct peer_message request;
	uint64_t control;
	struct rig rig;

	start_migratable(&rig);
	control = find_cap(&rig, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL;
	ATF_REQUIRE_EQ(0, rig_map(&rig, RAM, 4096, 3, -1, 0));
	pre_copy(&rig);
	put(&rig, control, 2, PCI_EXP_DEVCTL_BCR_FLR);
	ATF_CHECK_EQ(1, rig.resets);
	ATF_CHECK_EQ(CLEAT_SERVER_PRE_SAVING, get_phase(&rig));
	/* And while a DMA is waited for: when that has ended. */
	rig.action = read_ram;
	ATF_REQUIRE_EQ(0, rig_write32(&rig, RIG_ACTION, 1));
	ATF_REQUIRE_EQ(0, peer_expect(rig.fd, VFIO_USER_DMA_READ, &request));
	put(&rig, control, 2, PCI_EXP_DEVCTL_BCR_FLR);
	ATF_CHECK_EQ(1, rig.resets);
	answer(&rig, &request);
	ATF_CHECK_EQ(CLEAT_SERVER_PRE_SAVING, get_phase(&rig));
	ATF_CHECK_EQ(2, rig.resets);
	ATF_CHECK_EQ(0, rig.action_result);
	/* The client's own ends it. */
	ATF_REQUIRE_EQ(0, rig_call(&rig, VFIO_USER_DEVICE_RESET, NULL, 0));
	ATF_CHECK_EQ(CLEAT_SERVER_RUNNING, get_phase(&rig));
	rig_end(&rig);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, header__says_who);
	ATF_TP_ADD_TC(tp, bars__sized);
	ATF_TP_ADD_TC(tp, caps__chained);
	ATF_TP_ADD_TC(tp, caps__of_the_device);
	ATF_TP_ADD_TC(tp, command__told);
	ATF_TP_ADD_TC(tp, flr__resets);
	ATF_TP_ADD_TC(tp, access__outside);
	ATF_TP_ADD_TC(tp, msix__table_and_pending);
	ATF_TP_ADD_TC(tp, raise__by_what_is_enabled);
	ATF_TP_ADD_TC(tp, create__impossible);
	ATF_TP_ADD_TC(tp, reset__by_the_guest_in_pre_copy);
	return atf_no_error();
}
