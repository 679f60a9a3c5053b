/* SPDX-License-Identifier: BSD-2-Clause */
/* A function goes elsewhere: nothing that the guest set is lost. */
#include "tests/pci/rig.h"
#include "wire/wire.h"

struct state {
	uint8_t *bytes;
	size_t size;
};

static struct state save(struct rig *rig)
{
	struct state state = { .size = cleat_pci_save_size(rig->pci) };
	struct cleat_error why = { .text = "" };

	state.bytes = malloc(state.size);
	ATF_CHECK_EQ(-ENOBUFS, cleat_pci_save(rig->pci, state.bytes,
					      state.size - 1, NULL));
	ATF_REQUIRE_EQ_MSG((ssize_t)state.size,
			   cleat_pci_save(rig->pci, state.bytes, state.size,
					  &why),
			   "%s", why.text);
	return state;
}

/* MSI-X on: 0 unmasked, 1 masked, and what came for both. */
static struct rig *used(void)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_enable(rig);
	rig_enable_msix(rig);
	rig_entry(rig, 0, 0x41, false);
	rig_entry(rig, 1, 0x42, true);
	rig_write(rig, PCI_INTERRUPT_LINE, 9, 1);
	rig_write(rig, RIG_EXPRESS + PCI_EXP_DEVCTL, 0x2810, 2);
	rig_pump(rig);
	rig_forget(rig);
	return rig;
}

static struct rig *fresh(void)
{
	struct rig *rig = rig_new();

	rig_start(rig);
	rig_forget(rig);
	return rig;
}

CLEAT_TC(save__keeps_what_comes)
{
	struct rig *rig = used();
	struct state state = save(rig);

	ATF_CHECK_EQ(1, rig_count(rig, "irqfd-"));
	rig_fire(rig, 2, 0);
	rig_fire(rig, 2, 1);
	rig_pump(rig);
	ATF_CHECK_EQ(0, rig_count(rig, "inject"));
	ATF_CHECK_EQ(3, rig_load(rig, RIG_PBA));
	/* Nothing is said to a server that takes no interrupts now. */
	ATF_CHECK_EQ(0, rig_count(rig, "arm"));
	ATF_CHECK_EQ(0, rig_count(rig, "off"));
	ATF_CHECK_EQ(0, cleat_pci_resume(rig->pci));
	rig_pump(rig);
	ATF_CHECK_EQ(1, rig_count(rig, "inject 41"));
	ATF_CHECK_EQ(2, rig_load(rig, RIG_PBA));
	free(state.bytes);
	rig_end(rig);
}

static void move(struct rig *from, struct rig *to)
{
	struct state state = save(from);

	ATF_REQUIRE_EQ(0, cleat_pci_load(to->pci, state.bytes, state.size,
					 NULL));
	ATF_REQUIRE_EQ(0, cleat_pci_resume(to->pci));
	rig_pump(to);
	rig_forget(to);
	free(state.bytes);
	rig_end(from);
}

CLEAT_TC(save__registers_only)
{
	struct rig *from = rig_new(), *to = fresh();

	from->server.words_only = true;
	from->server.config[0xf0] = 0x5a;
	rig_start(from);
	move(from, to);
	ATF_CHECK_EQ(0x5a, rig_read(to, 0xf0, 4));
	rig_end(to);
}

/* It says nothing, or to the first of many reads that it is too long. */
static void save_in_silence(bool words_only)
{
	struct rig *rig = rig_new();
	size_t size;
	uint8_t *bytes;

	rig->access_ms = 500;
	rig->server.config_length = 256;
	rig->server.words_only = words_only;
	rig_start(rig);
	size = cleat_pci_save_size(rig->pci);
	bytes = malloc(size);
	rig_hold(rig, VFIO_USER_REGION_READ);
	ATF_CHECK_EQ(-ETIMEDOUT,
		     cleat_pci_save(rig->pci, bytes, size, NULL));
	rig_release(rig);
	free(bytes);
	rig_end(rig);
}

CLEAT_TC(save__server_silent)
{
	save_in_silence(false);
	save_in_silence(true);
}

struct saver {
	struct rig *rig;
	struct cleat_cancel *cancel;
	uint8_t *bytes;
	ssize_t result;
};

static void *save_cancelled(void *opaque)
{
	struct saver *saver = opaque;

	cleat_cancel_enter(saver->cancel);
	saver->result = cleat_pci_save(saver->rig->pci, saver->bytes,
				       cleat_pci_save_size(saver->rig->pci),
				       NULL);
	cleat_cancel_enter(NULL);
	return NULL;
}

/* In a word of the last piece that there is. */
CLEAT_TC(save__called_back)
{
	struct saver saver = { .rig = rig_new() };
	pthread_t thread;

	saver.rig->server.config_length = 256;
	saver.rig->server.words_only = true;
	rig_start(saver.rig);
	saver.bytes = malloc(cleat_pci_save_size(saver.rig->pci));
	ATF_REQUIRE_EQ(0, cleat_cancel_create(&saver.cancel));
	rig_hold(saver.rig, VFIO_USER_REGION_READ);
	ATF_REQUIRE_EQ(0, pthread_create(&thread, NULL, save_cancelled,
					 &saver));
	REQUIRE_SOON(atomic_load(&saver.rig->server.waiting));
	cleat_cancel_set(saver.cancel);
	pthread_join(thread, NULL);
	ATF_CHECK_EQ(-ECANCELED, saver.result);
	rig_release(saver.rig);
	cleat_cancel_destroy(saver.cancel);
	free(saver.bytes);
	rig_end(saver.rig);
}

/* It answers reads, and no write. */
CLEAT_TC(load__server_silent)
{
	struct rig *from = used(), *to = rig_new();
	struct state state = save(from);

	to->access_ms = 500;
	rig_start(to);
	rig_hold(to, VFIO_USER_REGION_WRITE);
	ATF_CHECK_EQ(-ETIMEDOUT, cleat_pci_load(to->pci, state.bytes,
						state.size, NULL));
	rig_release(to);
	free(state.bytes);
	rig_end(from);
	rig_end(to);
}

/* INTx is in service, and the guest ends it while nothing is delivered. */
static void call_off(struct rig *rig)
{
	free(save(rig).bytes);
	cleat_pci_intx_eoi(rig->pci);
	rig_end_intx(rig);
	ATF_CHECK_EQ(0, rig_count(rig, "unmask"));
	ATF_CHECK_EQ(0, cleat_pci_resume(rig->pci));
	REQUIRE_SOON(rig_has_said(rig, "unmask 0"));
	rig_end(rig);
}

static struct rig *with_intx(struct rig *rig)
{
	/* It takes the end by message only. */
	rig->server.irq_flags[0] = VFIO_IRQ_INFO_EVENTFD;
	rig_start(rig);
	rig_write(rig, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	rig_fire(rig, 0, 0);
	return rig;
}

CLEAT_TC(save__called_off_in_intx)
{
	struct rig *rig = with_intx(rig_new());

	rig_pump(rig);
	ATF_CHECK(rig_has_said(rig, "raise 16"));
	call_off(rig);
	rig = rig_new();
	rig->resample_error = -EOPNOTSUPP;
	with_intx(rig);
	REQUIRE_SOON(rig_has_said(rig, "line 16 1"));
	call_off(rig);
}

static void check_same(struct rig *from, struct rig *to)
{
	for (unsigned at = 0; at < 0x100; at += 4)
		ATF_CHECK_EQ_MSG(rig_read(from, at, 4), rig_read(to, at, 4),
				 "register %#x: %#x, not %#x", at,
				 rig_read(to, at, 4), rig_read(from, at, 4));
	for (unsigned at = 0; at < 8 * 16; at += 4)
		ATF_CHECK_EQ(rig_load(from, RIG_TABLE + at),
			     rig_load(to, RIG_TABLE + at));
}

CLEAT_TC(load__everything)
{
	struct rig *from = used(), *to = fresh();
	struct state state = save(from);
	struct cleat_error why = { .text = "" };

	ATF_REQUIRE_EQ_MSG(0, cleat_pci_load(to->pci, state.bytes, state.size,
					     &why),
			   "%s", why.text);
	check_same(from, to);
	ATF_CHECK(rig_has_said(to, "arm 2 0+2"));
	ATF_CHECK_EQ(0, rig_count(to, "irqfd+"));
	ATF_CHECK_EQ(0x2810, cleat_pci_config_read(
				     to->pci, RIG_EXPRESS + PCI_EXP_DEVCTL, 2));
	/* Bus master last of what the server hears. */
	ATF_CHECK(rig_has_said(to, "config 4"));
	ATF_REQUIRE_EQ(0, cleat_pci_resume(to->pci));
	rig_pump(to);
	/* Fired once without being asked; the masked one is pending. */
	ATF_CHECK_EQ(1, rig_count(to, "inject 41"));
	ATF_CHECK_EQ(0, rig_count(to, "inject 42"));
	ATF_CHECK_EQ(2, rig_load(to, RIG_PBA));
	rig_mask(to, 1, false);
	rig_pump(to);
	ATF_CHECK_EQ(1, rig_count(to, "inject 42"));
	free(state.bytes);
	rig_end(from);
	rig_end(to);
}

/* Where nothing is armed that the guest does not use. */
CLEAT_TC(load__pending_under_function_mask)
{
	struct rig *from = used(), *to = fresh();

	rig_write(from, RIG_MSIX + 2, 0xc000, 2);
	rig_fire(from, 2, 0);
	ATF_CHECK_EQ(1, rig_load(from, RIG_PBA));
	move(from, to);
	ATF_CHECK_EQ(1, rig_load(to, RIG_PBA));
	rig_write(to, RIG_MSIX + 2, 0x8000, 2);
	rig_pump(to);
	ATF_CHECK_EQ(1, rig_count(to, "inject 41"));
	ATF_CHECK_EQ(1, rig_count(to, "inject"));
	ATF_CHECK_EQ(0, rig_load(to, RIG_PBA));
	rig_end(to);
}

/* It moves twice before the guest enables it. */
CLEAT_TC(load__pending_intx_disabled)
{
	struct rig *from = rig_new(), *between = fresh(), *to = fresh();
	uint16_t on = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

	rig_start(from);
	rig_write(from, PCI_COMMAND, on, 2);
	rig_write(from, PCI_COMMAND, on | PCI_COMMAND_INTX_DISABLE, 2);
	rig_fire(from, 0, 0);
	move(from, between);
	move(between, to);
	ATF_CHECK_EQ(0, rig_stats(to).vectors);
	rig_write(to, PCI_COMMAND, on, 2);
	rig_pump(to);
	ATF_CHECK_EQ(1, rig_count(to, "raise 16"));
	rig_end(to);
}

CLEAT_TC(load__intx)
{
	struct rig *from = rig_new(), *to = fresh();
	struct state state;

	rig_start(from);
	rig_write(from, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER,
		  2);
	state = save(from);
	ATF_REQUIRE_EQ(0, cleat_pci_load(to->pci, state.bytes, state.size,
					 NULL));
	ATF_CHECK(rig_has_said(to, "arm 0"));
	ATF_CHECK_EQ(0, rig_count(to, "irqfd+"));
	ATF_REQUIRE_EQ(0, cleat_pci_resume(to->pci));
	ATF_CHECK_EQ(1, rig_stats(to).type);
	ATF_CHECK_EQ(1, rig_stats(to).vectors);
	rig_pump(to);
	ATF_CHECK_EQ(1, rig_count(to, "raise 16"));
	free(state.bytes);
	rig_end(from);
	rig_end(to);
}

CLEAT_TC(load__damaged_at_every_byte)
{
	struct rig *from = used(), *to = fresh();
	struct state state = save(from);

	for (size_t i = 0; i < state.size; i++) {
		int err;

		state.bytes[i] ^= 0x10;
		err = cleat_pci_load(to->pci, state.bytes, state.size, NULL);
		state.bytes[i] ^= 0x10;
		ATF_REQUIRE_MSG(err == -EBADMSG || err == -EPROTONOSUPPORT,
				"byte %zu: %d", i, err);
	}
	for (size_t i = 0; i < state.size; i += 61)
		ATF_REQUIRE_EQ(-EBADMSG, cleat_pci_load(to->pci, state.bytes, i,
							NULL));
	/* Nothing was touched. */
	rig_expect(to, "");
	free(state.bytes);
	rig_end(from);
	rig_end(to);
}

CLEAT_TC(load__another_function)
{
	struct rig *from = used(), *to = rig_new();
	struct state state = save(from);

	to->server.bar_length[2] = 0x2000;
	rig_start(to);
	rig_forget(to);
	ATF_CHECK_EQ(-EXDEV, cleat_pci_load(to->pci, state.bytes, state.size,
					    NULL));
	rig_expect(to, "");
	free(state.bytes);
	rig_end(from);
	rig_end(to);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, save__keeps_what_comes);
	ATF_TP_ADD_TC(tp, save__registers_only);
	ATF_TP_ADD_TC(tp, save__server_silent);
	ATF_TP_ADD_TC(tp, save__called_back);
	ATF_TP_ADD_TC(tp, load__server_silent);
	ATF_TP_ADD_TC(tp, save__called_off_in_intx);
	ATF_TP_ADD_TC(tp, load__everything);
	ATF_TP_ADD_TC(tp, load__pending_under_function_mask);
	ATF_TP_ADD_TC(tp, load__pending_intx_disabled);
	ATF_TP_ADD_TC(tp, load__intx);
	ATF_TP_ADD_TC(tp, load__damaged_at_every_byte);
	ATF_TP_ADD_TC(tp, load__another_function);
	return atf_no_error();
}
