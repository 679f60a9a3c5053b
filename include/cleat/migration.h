/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cleat/migration.h: the state of a device moves to another server.
 *
 * The library moves what the server knows; the VMM moves RAM, vCPUs and
 * irqchip, and cleat_pci_save() gives it what the function knows. On the source
 * (docs/migration.md has the whole order and why it is so):
 *
 *	cleat_migration_create()
 *	cleat_memory_log_start(CLEAT_MEMORY_LOG_ALL)
 *	cleat_migration_start()		PRE_COPY where the server has it
 *	  each round:	cleat_memory_log_fetch(), cleat_memory_log_take() and
 *			copy, cleat_migration_save()
 *	(the VMM stops its vCPUs)
 *	cleat_migration_stop()		STOP_COPY: no more DMA, no interrupts
 *	cleat_pci_save()		irqfds away, what they left is kept
 *	(the VMM saves irqchip and LAPICs)
 *	cleat_memory_log_fetch(CLEAT_MEMORY_LOG_FINAL), take and copy
 *	cleat_migration_save()		the rest, and the stream's end
 *	cleat_memory_log_stop()
 *	- if anything fails, or it is called off:
 *	cleat_migration_run(), cleat_memory_log_stop(), cleat_pci_resume()
 *
 * and at the target:
 *
 *	cleat_memory_attach(), cleat_pci_create(), cleat_migration_create()
 *	(the VMM loads RAM and irqchip as it arrives)
 *	cleat_pci_load()		before the first cleat_migration_load():
 *					servers take no SET_IRQS while stopped
 *	cleat_migration_load()		until it says that the stream has ended
 *	cleat_migration_run()
 *	cleat_pci_resume()		config, doorbells and vectors once
 *	(the VMM starts its vCPUs)
 *
 * If the state of the device comes before cleat_pci_save()'s, keep what was
 * read or send the function first: it is small, and the same all the time the
 * device is stopped.
 */
#ifndef CLEAT_MIGRATION_H
#define CLEAT_MIGRATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cleat/api.h>
#include <cleat/device.h>
#include <cleat/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct cleat_migration - the migration of one device, either end
 *
 * Servers speak one of two generations: a device-state feature with messages
 * for the data (the second), or a region with registers and a data window (the
 * first). Nothing here depends on which, but the two cannot read one another's
 * streams.
 */
struct cleat_migration;

/**
 * enum cleat_migration_state - where a device is
 * @CLEAT_MIGRATION_ERROR:     it failed; only a reset leads out
 * @CLEAT_MIGRATION_STOP:      no DMA, no interrupts; its state does not change
 * @CLEAT_MIGRATION_RUNNING:   as usual
 * @CLEAT_MIGRATION_STOP_COPY: stopped, and its state can be read
 * @CLEAT_MIGRATION_RESUMING:  stopped, and its state can be written
 * @CLEAT_MIGRATION_PRE_COPY:  running, and its state can be read
 *
 * The numbers are the second generation's.
 */
enum cleat_migration_state {
	CLEAT_MIGRATION_ERROR = 0,
	CLEAT_MIGRATION_STOP = 1,
	CLEAT_MIGRATION_RUNNING = 2,
	CLEAT_MIGRATION_STOP_COPY = 3,
	CLEAT_MIGRATION_RESUMING = 4,
	CLEAT_MIGRATION_PRE_COPY = 6,
};

/**
 * cleat_migration_state_name() - for messages
 * @state: any number
 *
 * Context: any thread. Does not sleep.
 * Return: such as "STOP_COPY"; "an unknown state" if it is none.
 */
CLEAT_API const char *
cleat_migration_state_name(enum cleat_migration_state state);

/* Flags of cleat_migration_create(). */
#define CLEAT_MIGRATION_ONLY_V1 (1u << 0) /* do not look for the second */
#define CLEAT_MIGRATION_ONLY_V2 (1u << 1) /* do not look for the first */

/**
 * cleat_migration_create() - find out how a device migrates
 * @dev:     an open device; pinned, not referenced
 * @flags:   CLEAT_MIGRATION_*; 0: the second generation, otherwise the first
 * @ret_mig: written on success
 * @reterr:  why it failed; may be NULL
 *
 * Changes nothing at the server. One at a time for a device.
 *
 * Context: control. Sleeps.
 * Return: 0, -EOPNOTSUPP (the server migrates in no way that we know), -EINVAL,
 * -ENOMEM, -EPROTO, -ENOTCONN, -ETIMEDOUT, -ECANCELED.
 * Ownership: the caller's; cleat_migration_unref(), before or after the
 * device's.
 */
CLEAT_API int cleat_migration_create(struct cleat_device *dev, uint32_t flags,
				     struct cleat_migration **ret_mig,
				     struct cleat_error *reterr);

/**
 * cleat_migration_unref() - forget it
 * @mig: may be NULL
 *
 * The device stays in the state it is in.
 *
 * Context: control. Does not sleep.
 * Return: NULL.
 */
CLEAT_API struct cleat_migration *
cleat_migration_unref(struct cleat_migration *mig);

/* Flags of struct cleat_migration_info. */
#define CLEAT_MIGRATION_INFO_PRE_COPY (1u << 0) /* gives state while running */

/**
 * struct cleat_migration_info - what is known without asking
 * @size:       sizeof(struct cleat_migration_info), set by the caller
 * @flags:      CLEAT_MIGRATION_INFO_*
 * @generation: 1 or 2
 * @state:      enum cleat_migration_state as last heard of
 * @bytes:      of device state saved or loaded so far
 * @framing:    bytes that the stream had besides
 */
struct cleat_migration_info {
	uint32_t size;
	uint32_t flags;
	uint32_t generation;
	uint32_t state;
	uint64_t bytes;
	uint64_t framing;
};

/**
 * cleat_migration_info() - what is known without asking
 * @mig:  a migration
 * @info: @info->size set by the caller
 *
 * Context: any thread. Does not sleep.
 * Return: 0 or -EINVAL.
 */
CLEAT_API int cleat_migration_info(struct cleat_migration *mig,
				   struct cleat_migration_info *info);

/**
 * cleat_migration_state() - ask the server where the device is
 * @mig:       a migration
 * @ret_state: written on success
 *
 * Context: control. Sleeps.
 * Return: 0, -EPROTO (a state there is not), or the server's own -errno.
 */
CLEAT_API int cleat_migration_state(struct cleat_migration *mig,
				    enum cleat_migration_state *ret_state);

/**
 * cleat_migration_estimate() - how much state there is left to save
 * @mig:       in RUNNING, PRE_COPY or STOP_COPY
 * @ret_bytes: written on success
 *
 * What the server says where it says it (the first generation in PRE_COPY and
 * STOP_COPY; some of the second); otherwise what the last section held.
 *
 * Context: control. Sleeps.
 * Return: 0, -ENODATA where there is nothing to go by yet, or what the server
 * answered.
 */
CLEAT_API int cleat_migration_estimate(struct cleat_migration *mig,
				       uint64_t *ret_bytes);

/**
 * struct cleat_migration_progress - how far a section has come
 * @bytes: of device state since the migration began
 * @left:  still to come, an estimate; UINT64_MAX: not known
 * @final: it is the last section
 */
struct cleat_migration_progress {
	uint64_t bytes;
	uint64_t left;
	bool final;
};

/**
 * struct cleat_migration_io - where a stream goes to or comes from
 * @size:     sizeof(struct cleat_migration_io)
 * @opaque:   first argument of the members
 * @write:    take @count bytes, all of them, or fail with -errno. For saving
 * @read:     give @count bytes, all of them, or fail with -errno; -ENODATA:
 *            the stream ends here. For loading
 * @progress: told now and then from inside the call; may be NULL. Returning
 *            non-zero calls it off, as cleat_migration_cancel() does
 *
 * Members run in the calling thread, no lock of the library's is held but this
 * migration's: they may call cleat_migration_cancel() and _info() only.
 */
struct cleat_migration_io {
	uint32_t size;
	void *opaque;
	int (*write)(void *opaque, const void *buf, size_t count);
	int (*read)(void *opaque, void *buf, size_t count);
	int (*progress)(void *opaque,
			const struct cleat_migration_progress *progress);
};

/**
 * cleat_migration_io_fd() - a stream over a descriptor
 * @mig:    the migration it is for: cleat_migration_cancel() and the thread's
 *          cancel handle end its waits
 * @fd:     readable or writable, blocking or not; borrowed as long as @ret_io
 *          is used
 * @ret_io: filled; set @progress afterwards if wanted, which gets @mig as its
 *          first argument
 *
 * One migration has one descriptor: a second call changes it for all.
 *
 * Context: any thread. Does not sleep.
 */
CLEAT_API void cleat_migration_io_fd(struct cleat_migration *mig, int fd,
				     struct cleat_migration_io *ret_io);

/**
 * cleat_migration_start() - begin to save while the guest runs
 * @mig:    a device in RUNNING
 * @reterr: why it failed; may be NULL
 *
 * PRE_COPY where the server has it; otherwise nothing but a new stream. Forgets
 * an earlier cancel.
 *
 * Context: control. Sleeps, at most the quiesce limit.
 * Return: 0, -EINVAL (not in RUNNING), or what the server answered; the state
 * the device is in then is in cleat_migration_info().
 */
CLEAT_API int cleat_migration_start(struct cleat_migration *mig,
				    struct cleat_error *reterr);

/**
 * cleat_migration_stop() - stop the device
 * @mig:    after cleat_migration_start(), vCPUs stopped
 * @reterr: why it failed; may be NULL
 *
 * When it returns 0 the device is in STOP_COPY: it makes no DMA and raises no
 * interrupt any more. What it raised before is in the eventfds or in KVM.
 *
 * Context: control. Sleeps, at most the quiesce limit; a cancel does not end
 * it, because what became of the device would not be known.
 * Return: 0, -EINVAL, or what the server answered.
 */
CLEAT_API int cleat_migration_stop(struct cleat_migration *mig,
				   struct cleat_error *reterr);

/**
 * cleat_migration_save() - write one section of the stream
 * @mig:    after cleat_migration_start()
 * @io:     where to; @write is needed
 * @max:    bytes of state at which a section that is not the last one ends;
 *          0: 64 MiB. A device whose state changes faster than it is read
 *          would never come to an end otherwise
 * @reterr: why it failed; may be NULL
 *
 * In STOP_COPY the section is the last one and holds all that is left. Before,
 * it holds what the device has to give now: maybe nothing. Sections describe
 * themselves, so that a VMM can put other things between them. The memory used
 * is bounded, whatever the size of the state.
 *
 * After a failure the stream cannot be gone on with: cleat_migration_run(), and
 * maybe cleat_migration_start() again.
 *
 * Context: control. Sleeps.
 * Return: 0; -ECANCELED; -EINVAL in another state; -EFBIG (the state is larger
 * than 1 TiB); what @write returned; -EPROTO; or what the server answered.
 */
CLEAT_API int cleat_migration_save(struct cleat_migration *mig,
				   const struct cleat_migration_io *io,
				   uint64_t max, struct cleat_error *reterr);

/**
 * cleat_migration_load() - read one section of a stream
 * @mig:      a device in RUNNING that nobody has used, or in RESUMING by an
 *            earlier call
 * @io:       where from; @read is needed
 * @ret_done: written on success: that was the last section. The device is in
 *            STOP with the new state; one of the first generation still in
 *            RESUMING, and takes it over in cleat_migration_run()
 * @reterr:   why it failed; may be NULL
 *
 * A stream of another device (identity, sizes of regions, interrupts), of the
 * other generation, or of a newer format is refused before the device is
 * touched. What turns out to be damaged or cut off later, or is refused by the
 * device itself, ends in a reset: the device is then in RUNNING without any
 * state, or, where the server resets nothing, still in RESUMING or ERROR;
 * cleat_migration_info() says which. No byte reaches the device whose checksum
 * was not right.
 *
 * Context: control. Sleeps.
 * Return: 0; -EBADMSG (damaged, or no stream at all); -ENODATA (cut off);
 * -EPROTONOSUPPORT (newer); -EXDEV (another device or generation); -ECANCELED;
 * -EINVAL; what @read returned; or what the server answered.
 */
CLEAT_API int cleat_migration_load(struct cleat_migration *mig,
				   const struct cleat_migration_io *io,
				   bool *ret_done, struct cleat_error *reterr);

/**
 * cleat_migration_run() - let the device run
 * @mig:    in any state but ERROR
 * @reterr: why it failed; may be NULL
 *
 * At the target after the last section; on the source to call a migration off,
 * wherever it is. From RESUMING with a stream that has not ended this is
 * -EINVAL: half a state would be run with.
 *
 * Context: control. Sleeps, at most the quiesce limit.
 * Return: 0, -EINVAL, -EIO (the device is in ERROR: reset it, its state is
 * lost), or what the server answered.
 */
CLEAT_API int cleat_migration_run(struct cleat_migration *mig,
				  struct cleat_error *reterr);

/**
 * cleat_migration_cancel() - call a section off
 * @mig: a migration
 *
 * cleat_migration_save() and _load() end with -ECANCELED soon, within what one
 * reply takes, and so do later ones until cleat_migration_start(). The owner of
 * the source then calls cleat_migration_run().
 *
 * Context: any thread. Does not sleep.
 */
CLEAT_API void cleat_migration_cancel(struct cleat_migration *mig);

#ifdef __cplusplus
}
#endif

#endif
