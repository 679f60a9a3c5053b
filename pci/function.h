/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of this room share. docs/pci.md says what each does, which
 * lock covers what, and in which order they are taken:
 *
 *	turn	 one config write, reset or rerouting at a time; handed from
 *		 the vCPU that asks for a reset to the worker that does it
 *	irq_turn what is wired where: irqfds, GSIs, watches
 *	intx.line_lock
 *		 over ops->line_set
 *	worker.mutex, lock
 *		 leaves, held over no wait and no call of anybody's
 *
 * A turn is no mutex: waiting for it ends when the vCPU is called back.
 * Nothing but the worker sends SET_IRQS or DEVICE_RESET, or in its place a
 * thread that cannot be called back: one that is called back from these loses
 * the connection.
 */
#ifndef PCI_FUNCTION_H
#define PCI_FUNCTION_H

#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdatomic.h>

#include <cleat/pci.h>

#include "client/client.h"
#include "irq/irq.h"
#include "wire/wire.h"

#define PCI_CONFIG_SIZE 4096
#define PCI_NUM_BARS 7 /* 6: the expansion ROM */
#define PCI_COMMAND_OURS                                            \
	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | \
	 PCI_COMMAND_INTX_DISABLE)
#define PCI_NO_IRQ (-1)
/* Lines that one function may write to the VMM's log in its life. */
#define PCI_LOG_LINES 64

struct pci_turn {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool taken;
};

/* Where the handled capabilities are; 0: not there. */
struct pci_caps {
	uint8_t pm;
	uint8_t msi;
	uint8_t msix;
	uint8_t express;
	uint8_t af;
};

/**
 * struct pci_bar - one BAR, or the expansion ROM
 * @binding: NULL if there is none
 * @size:    of the window, a power of two
 * @length:  of the region behind it
 * @flags:   low bits of the register
 * @wide:    64 bits: the next register is its upper half
 * @upper:   the upper half of the one before
 * @placed, @address: where; under the turn
 */
struct pci_bar {
	struct cleat_binding *binding;
	uint64_t size;
	uint64_t length;
	uint8_t flags;
	bool wide;
	bool upper;
	bool placed;
	uint64_t address;
};

/**
 * struct pci_regs - what the guest has set of the registers with a local effect
 * @command: of PCI_COMMAND_OURS
 * @msi:     message control: enable and multiple message enable
 * @msix:    message control: enable and function mask
 * @power:   0 to 3, D0 to D3hot
 * @hold:    between two types of interrupt: neither is on
 */
struct pci_regs {
	uint16_t command;
	uint16_t msi;
	uint16_t msix;
	uint8_t power;
	bool hold;
};

enum pci_bound {
	PCI_UNBOUND,
	PCI_IRQFD, /* KVM injects */
	PCI_WATCH, /* the events thread does */
};

/**
 * struct pci_vector - one vector of MSI or MSI-X
 * @pci:    the function
 * @how:    written under irq_turn and lock
 * @armed:  the server has its eventfd; likewise
 * @refused: the server would not take it
 * @wanted: this round: the guest wants it delivered
 * @used:   this round: the guest has a use for it, maybe masked
 * @routed: @gsi sends @msi
 * @fresh:  this round: a route was asked for
 * @kept:   was pending where the state that was loaded was saved; under lock
 * @fd:     its eventfd, once armed; the irq room's
 * @plan:   this round: what it is to send
 * @msi:    what it sends; written under irq_turn and lock
 */
struct pci_vector {
	struct cleat_pci *pci;
	enum pci_bound how;
	bool armed;
	bool refused;
	bool wanted;
	bool used;
	bool has_gsi;
	bool routed;
	bool fresh;
	bool kept;
	uint32_t gsi;
	int fd;
	struct cleat_msi plan;
	struct cleat_msi msi;
	struct cleat_watch *watch;
};

/**
 * struct pci_intx - the pin; under irq_turn if nothing else is said
 * @how:       PCI_IRQFD: KVM raises the line and writes the resample eventfd;
 *             PCI_WATCH: the events thread raises it, the VMM tells of the end
 * @unmask_fd: the server takes the end of the interrupt by this; -1
 * @resample:  otherwise KVM writes this, and the worker tells the server; -1
 * @kept:      was pending where the state that was loaded was saved, and is to
 *             be once it is armed; under lock
 * @mute:      the server wants no unmasking; the worker's
 * @line_lock: over @level and ops->line_set, so that they agree
 * @level:     the line is up by our doing (PCI_WATCH)
 */
struct pci_intx {
	enum pci_bound how;
	bool armed;
	bool refused;
	bool kept;
	uint32_t gsi;
	int fd;
	int unmask_fd;
	int resample;
	struct cleat_watch *watch;
	atomic_bool mute;
	pthread_mutex_t line_lock;
	bool level;
};

/* What the worker can be asked for. */
#define PCI_JOB_SYNC (1u << 0) /* wire interrupts as the registers say */
#define PCI_JOB_UNMASK (1u << 1) /* tell the server that INTx has ended */
#define PCI_JOB_RESET (1u << 2) /* reset; the turn was handed over */
#define PCI_JOB_QUIT (1u << 3)

/**
 * struct pci_worker - the thread that waits for the server in a vCPU's stead
 * @started: it can be asked
 * @running: the thread is there
 * @asked, @done: jobs so far: what was asked at @asked is over when @done is
 *          as high
 * @result: of the last reset
 * @cancel: entered over the reset, which may take a minute
 * @retry, @timer: there while there are jobs and no thread could be had
 */
struct pci_worker {
	bool started;
	bool running;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	unsigned jobs;
	uint64_t asked;
	uint64_t done;
	int result;
	struct cleat_cancel *cancel;
	struct cleat_watch *retry;
	int timer;
};

enum pci_reset {
	PCI_RESET_BUS,
	PCI_RESET_EXPRESS, /* initiated by PCI Express' function-level reset */
	PCI_RESET_AF, /* by that of Advanced Features */
	PCI_RESET_POWER, /* by leaving D3hot */
};

/**
 * struct cleat_pci
 * @ops:      copied; members that the VMM's struct did not have are NULL
 * @bind_ops: the VMM's own, for bindings
 * @length:   of the server's config region
 * @own:      by bit: 1: @cfg has it, 0: the server has it
 * @cfg:      what we have of config space; changes under lock
 * @sizing:   by register: the guest has written all ones, to see what sticks
 * @msi_most: vectors that MSI offers, 0: no MSI
 * @msix_most: likewise
 * @table:    the MSI-X table as the guest sees it, under lock
 * @type:     the type of interrupt that is wired: VFIO_PCI_INTX_IRQ_INDEX and
 *            friends, or PCI_NO_IRQ; under irq_turn and lock
 * @pin:      1 to 4, or 0 where INTx cannot be delivered
 * @resetting: the guest sees no function
 * @gone:     the device has been shut down
 * @frozen:   between save or load and resume: nothing is delivered
 * @loaded:   what the server's config space is to be, with @has_loaded; NULL
 *            until a state was loaded, which few functions ever see
 */
struct cleat_pci {
	struct cleat_device *dev;
	struct cleat_mmio *mmio;
	struct cleat_vm_ops ops;
	const struct cleat_vm_ops *bind_ops;
	uint32_t function;
	struct cleat_device_hook hook;
	bool hooked;

	uint8_t own[PCI_CONFIG_SIZE];
	uint8_t cfg[PCI_CONFIG_SIZE];
	unsigned length;
	struct pci_caps cap;
	bool flr;
	bool af_flr;
	bool soft_reset;
	uint8_t power_states;
	bool msi_wide;
	bool msi_maskable;
	unsigned msi_most;
	unsigned msix_most;
	uint8_t *table;
	uint64_t table_at;
	uint64_t pba_at;
	uint8_t table_bar;
	uint8_t pba_bar;
	uint8_t pin;
	struct pci_bar bar[PCI_NUM_BARS];

	struct pci_turn turn;
	struct pci_turn irq_turn;
	pthread_mutex_t lock;
	struct pci_regs regs;
	uint8_t sizing;
	atomic_bool resetting;
	atomic_bool gone;
	atomic_bool frozen;
	bool has_loaded;
	uint8_t *loaded;
	enum pci_reset reset_kind;

	struct cleat_irqs *irqs;
	int type;
	struct pci_vector *vectors;
	unsigned num_vectors;
	struct pci_intx intx;
	struct pci_worker worker;

	atomic_uint_fast64_t injected;
	atomic_uint_fast64_t placed;
	atomic_uint logged;
};

/* --- turn.c ------------------------------------------------------------- */

int cleat_pci_cond_init(pthread_cond_t *cond);
/* Sleeps a tick at most, so that a set cancel handle is seen. */
void cleat_pci_cond_tick(pthread_cond_t *cond, pthread_mutex_t *mutex);
/* The calling thread is to come back. */
bool cleat_pci_called_back(void);

int cleat_pci_turn_init(struct pci_turn *turn);
void cleat_pci_turn_destroy(struct pci_turn *turn);
/* 0, -EINTR: called back, -ENODEV: @give_up became true. */
int cleat_pci_turn_take(struct pci_turn *turn, const atomic_bool *give_up);
void cleat_pci_turn_give(struct pci_turn *turn);
/* Let those that wait look at their @give_up. */
void cleat_pci_turn_wake(struct pci_turn *turn);

/* --- bytes.c ------------------------------------------------------------ */

uint16_t cleat_pci_get16(const uint8_t *bytes);
uint32_t cleat_pci_get32(const uint8_t *bytes);
uint64_t cleat_pci_get64(const uint8_t *bytes);
void cleat_pci_put16(uint8_t *bytes, uint16_t value);
void cleat_pci_put32(uint8_t *bytes, uint32_t value);

/* One line for the VMM's log, with the function's address before it. */
void cleat_pci_log(struct cleat_pci *pci, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* --- probe.c: what the server's config space says, read once -------------- */

int cleat_pci_probe(struct cleat_pci *pci, struct cleat_error *reterr);
/* Reads into cfg; @offset is a multiple of 4. */
int cleat_pci_probe_word(struct cleat_pci *pci, unsigned offset,
			 struct cleat_error *reterr);
/* Those bits of cfg are what the guest reads, whatever the server has. */
void cleat_pci_claim(struct cleat_pci *pci, unsigned offset, unsigned length);

/* --- caps.c ------------------------------------------------------------- */

int cleat_pci_probe_caps(struct cleat_pci *pci, struct cleat_error *reterr);
/* extended.c */
int cleat_pci_probe_extended(struct cleat_pci *pci, struct cleat_error *reterr);
/* messages.c: MSI and MSI-X; *@ret_hide: the guest is not to see it */
int cleat_pci_probe_msi(struct cleat_pci *pci, uint8_t at, bool *ret_hide,
			struct cleat_error *reterr);
int cleat_pci_probe_msix(struct cleat_pci *pci, uint8_t at, bool *ret_hide,
			 struct cleat_error *reterr);
/* After the BARs are known. */
int cleat_pci_check_msix(struct cleat_pci *pci, struct cleat_error *reterr);
unsigned cleat_pci_msi_length(const struct cleat_pci *pci);

/* --- bar.c -------------------------------------------------------------- */

int cleat_pci_probe_bars(struct cleat_pci *pci, struct cleat_error *reterr);
int cleat_pci_bind_bars(struct cleat_pci *pci, struct cleat_error *reterr);
void cleat_pci_unbind_bars(struct cleat_pci *pci);
/* The guest writes bits @mask of register @index; 6 is the ROM's. */
void cleat_pci_bar_write(struct cleat_pci *pci, unsigned index, uint32_t value,
			 uint32_t mask);
unsigned cleat_pci_bar_offset(unsigned index);
void cleat_pci_bars_reset(struct cleat_pci *pci);
/* Place and unplace as the registers say. Under the turn. */
void cleat_pci_bars_apply(struct cleat_pci *pci);

/* --- config.c ----------------------------------------------------------- */

/* Put regs where the guest reads them. lock held. */
void cleat_pci_show_regs(struct cleat_pci *pci);
/* Write to the server's config space, as far as there is one: 0 or as
 * cleat_region_write(). */
int cleat_pci_tell(struct cleat_pci *pci, unsigned offset, uint32_t value,
		   unsigned length);
/* The same, whatever the server says to it. 0 or -EINTR. */
int cleat_pci_forward(struct cleat_pci *pci, unsigned offset, uint32_t value,
		      unsigned length);
/* The server's registers of which we hold the guest's view, as after reset. */
void cleat_pci_quiet(struct cleat_pci *pci);

/* write.c: one write of the guest's. The turn is held. 0 or -EINTR;
 * PCI_TURN_GONE: the turn is the worker's now. */
#define PCI_TURN_GONE 1
int cleat_pci_write(struct cleat_pci *pci, unsigned offset, uint32_t value,
		    unsigned length);

/* --- irq.c -------------------------------------------------------------- */

/*
 * Wire what the registers say, for all vectors or for [first, first + count).
 * Level-based: doing it again does no harm. 0 or -EINTR.
 */
int cleat_pci_irq_apply(struct cleat_pci *pci, unsigned first, unsigned count);
/*
 * The same with irq_turn held. -EAGAIN: the server would have to be told, and
 * @message is false.
 */
int cleat_pci_irq_sync(struct cleat_pci *pci, unsigned first, unsigned count,
		       bool message);
/* The worker's: with messages. */
void cleat_pci_irq_sync_all(struct cleat_pci *pci);
/* The type that registers ask for. lock held. */
int cleat_pci_type_of(const struct cleat_pci *pci, const struct pci_regs *regs);

/* --- vector.c ----------------------------------------------------------- */

/* The guest's table. lock held. */
unsigned cleat_pci_msi_enabled(const struct cleat_pci *pci);
void cleat_pci_vector_plan(struct cleat_pci *pci, unsigned index);
/* Whether an unwired vector of that type is pending. Any thread. */
bool cleat_pci_vector_pending(struct cleat_pci *pci, int type, unsigned index);

/* bind.c: irq_turn held */
int cleat_pci_vectors_sync(struct cleat_pci *pci, unsigned first,
			   unsigned count, bool message);
void cleat_pci_vectors_unbind(struct cleat_pci *pci);
/* The type is off: forget GSIs and eventfds. */
void cleat_pci_vectors_forget(struct cleat_pci *pci);
bool cleat_pci_can_irqfd(const struct cleat_pci *pci);
bool cleat_pci_can_msi(const struct cleat_pci *pci);

/* --- table.c: the emulated windows --------------------------------------- */

int cleat_pci_table_access(void *opaque, uint64_t offset, void *data,
			   unsigned length, bool write);
int cleat_pci_pba_access(void *opaque, uint64_t offset, void *data,
			 unsigned length, bool write);
unsigned cleat_pci_table_length(const struct cleat_pci *pci);
unsigned cleat_pci_pba_length(const struct cleat_pci *pci);
void cleat_pci_table_reset(struct cleat_pci *pci);

/* --- intx.c: irq_turn held if nothing else is said ------------------------ */

bool cleat_pci_can_intx(const struct cleat_pci *pci);
int cleat_pci_intx_init(struct cleat_pci *pci);
void cleat_pci_intx_destroy(struct cleat_pci *pci);
int cleat_pci_intx_sync(struct cleat_pci *pci, bool message);
void cleat_pci_intx_unbind(struct cleat_pci *pci);
void cleat_pci_intx_forget(struct cleat_pci *pci);
/* Nothing has been delivered for a while: the server may wait for an end that
 * the guest cannot tell of any more. */
void cleat_pci_intx_resumed(struct cleat_pci *pci);
/* The worker's; no turn. */
void cleat_pci_intx_unmask(struct cleat_pci *pci);

/* --- worker.c ----------------------------------------------------------- */

int cleat_pci_worker_start(struct cleat_pci *pci);
void cleat_pci_worker_stop(struct cleat_pci *pci);
/* Ask; returns the ticket to wait by. */
uint64_t cleat_pci_worker_ask(struct cleat_pci *pci, unsigned jobs);
/* 0 or -EINTR: called back, the job goes on. */
int cleat_pci_worker_wait(struct cleat_pci *pci, uint64_t ticket);
/* Wait for all that was asked so far; likewise. */
int cleat_pci_worker_settle(struct cleat_pci *pci);
/* If there are jobs and could be no thread, try again. Does not wait. */
void cleat_pci_worker_nudge(struct cleat_pci *pci);

/* --- reset.c ------------------------------------------------------------ */

/* The turn is held, and is the worker's when this returns the ticket. */
uint64_t cleat_pci_reset_begin(struct cleat_pci *pci, enum pci_reset kind);
/* The worker's. */
void cleat_pci_reset_run(struct cleat_pci *pci);

#endif
