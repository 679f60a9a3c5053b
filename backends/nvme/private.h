/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the controller share. */
#ifndef CLEAT_NVME_PRIVATE_H
#define CLEAT_NVME_PRIVATE_H

#include <cleat/api.h>

#include "backends/nvme/nvme.h"
#include "backends/nvme/spec.h"

/* Maximum data transfer, as a power of two of 4 KiB pages: 512 KiB. */
#define NVME_MDTS 7
#define NVME_MDTS_BYTES (4096u << NVME_MDTS)
#define NVME_PRPS_MAX ((1u << NVME_MDTS) + 1)
/* A page may lie in two ranges of guest memory. */
#define NVME_IOV_MAX (2 * NVME_PRPS_MAX)
#define NVME_MPS_MAX 4
#define NVME_AERS_MAX 4
#define NVME_EVENTS_MAX 8
#define NVME_ERRORS_MAX 64
#define NVME_WARNINGS_MAX 16
/* Commands of one queue in a row, so that no guest starves the socket. */
#define NVME_BURST 32

/* Not a status: the command completes later, or never. */
#define NVME_NO_COMPLETION 0xffffu

struct nvme_cq {
	bool live;
	bool ien;
	bool blocked; /* a submission queue waits for room */
	uint16_t id;
	uint16_t vector;
	uint16_t phase;
	uint32_t size;
	uint32_t head;
	uint32_t tail;
	uint32_t bad; /* doorbell value already complained of */
	uint32_t armed; /* event index the guest was given */
	uint32_t users;
	uint64_t base;
	/* Completions posted and not yet told, for the interrupt. */
	unsigned fresh;
};

/* Commands up to this tail were seen at this time. */
struct nvme_mark {
	uint32_t tail;
	uint64_t ns;
};
#define NVME_MARKS 8

struct nvme_sq {
	bool live;
	uint16_t id;
	uint32_t size;
	uint32_t head;
	uint32_t tail;
	uint32_t bad;
	uint32_t armed;
	uint64_t base;
	struct nvme_mark marks[NVME_MARKS];
	unsigned n_marks;
	struct nvme_cq *cq;
};

struct nvme_features {
	uint32_t arbitration;
	uint32_t power;
	uint32_t over_temperature;
	uint32_t under_temperature;
	uint32_t error_recovery;
	uint32_t write_cache;
	uint32_t coalescing;
	uint32_t atomicity;
	uint32_t events;
	uint32_t *vectors; /* queues + 1, bit 16: not coalesced */
};

struct nvme_event {
	uint8_t type;
	uint8_t info;
	uint8_t log;
};

/* Asynchronous events. */
struct nvme_events {
	uint16_t cids[NVME_AERS_MAX];
	unsigned n_cids;
	struct nvme_event pending[NVME_EVENTS_MAX];
	unsigned n_pending;
	/* Types reported whose log page has not been read since. */
	uint32_t masked;
};

/* Doorbell Buffer Config. */
struct nvme_dbbuf {
	bool on;
	uint64_t doorbells;
	uint64_t eventidx;
};

/* What the health log counts of I/O. */
struct nvme_work {
	uint64_t bytes_read;
	uint64_t bytes_written;
	uint64_t reads;
	uint64_t writes;
};

struct cleat_nvme {
	struct cleat_nvme_ops ops;
	void *opaque;
	struct cleat_nvme_disk *disk;
	unsigned queues;
	enum cleat_nvme_doorbells doorbells;
	uint32_t *page;
	/* The names by which a guest knows the disk; they move with it. */
	char serial[21];
	unsigned char uuid[16];
	uint16_t pci_vendor;
	uint16_t pci_subvendor;

	uint32_t cc;
	uint32_t csts;
	uint32_t aqa;
	uint32_t intms;
	uint64_t asq;
	uint64_t acq;
	unsigned page_bits;
	bool bus_master;
	enum cleat_nvme_irq_mode irq_mode;
	bool pin;

	/*
	 * A command is running, and may be waiting for the client's DMA: what
	 * a write to CC asks for must wait for its end.
	 */
	bool busy;
	/* After a move: a kick that nobody meant is no reason to complain. */
	bool spare_kick;
	struct cleat_nvme_incoming *incoming;
	bool cc_waits;
	bool reset_waits;
	uint32_t cc_next;

	struct nvme_sq *sqs; /* queues + 1, by id */
	struct nvme_cq *cqs;
	struct nvme_dbbuf dbbuf;
	bool value_missing; /* rung without a buffer to look into */
	unsigned scan; /* next unused doorbell to look at */
	unsigned warned; /* lines for the administrator so far */

	struct nvme_features features;
	struct nvme_events events;
	struct nvme_error_entry errors[NVME_ERRORS_MAX];
	uint64_t n_errors;
	uint8_t warnings; /* critical warnings, as the health log has them */
	struct nvme_health health;
	/* Done in other processes, and so not in our statistics. */
	struct nvme_work elsewhere;
	void *bounce; /* NVME_MDTS_BYTES */
	struct cleat_nvme_stats stats;
};

/* A command on its way. */
struct nvme_request {
	struct nvme_command cmd; /* a copy: the guest cannot change it */
	uint16_t sq_id;
	uint32_t result;
	uint64_t lba; /* for the error log */
};

typedef unsigned nvme_handler(struct cleat_nvme *n, struct nvme_request *req);

/* controller.c */
bool cleat_nvme_running(const struct cleat_nvme *n);
void cleat_nvme_warn(struct cleat_nvme *n, const char *line);
/* Nothing works until the guest resets the controller. */
void cleat_nvme_fatal(struct cleat_nvme *n, const char *why);
void cleat_nvme_apply_cc(struct cleat_nvme *n);

/* memory.c: guest memory */
void *cleat_nvme_map_word(struct cleat_nvme *n, uint64_t addr, size_t length,
			  uint32_t rights);
int cleat_nvme_copy_in(struct cleat_nvme *n, uint64_t addr, void *buf,
		       size_t count);
int cleat_nvme_copy_out(struct cleat_nvme *n, uint64_t addr, const void *buf,
			size_t count);
int cleat_nvme_load32(struct cleat_nvme *n, uint64_t addr, uint32_t *ret);
int cleat_nvme_store32(struct cleat_nvme *n, uint64_t addr, uint32_t value);
/* A command's data between @buf and its PRPs: status. */
unsigned cleat_nvme_data_out(struct cleat_nvme *n,
			     const struct nvme_request *req, const void *buf,
			     uint32_t length);
unsigned cleat_nvme_data_in(struct cleat_nvme *n,
			    const struct nvme_request *req, void *buf,
			    uint32_t length);

/* prp.c */
struct nvme_range {
	uint64_t addr;
	uint32_t length;
};

struct nvme_data {
	unsigned n;
	struct nvme_range ranges[NVME_PRPS_MAX];
};

/* Resolves a command's PRPs for @length bytes, at most NVME_MDTS_BYTES. */
unsigned cleat_nvme_prps(struct cleat_nvme *n, const struct nvme_command *cmd,
			 uint32_t length, struct nvme_data *data);

/* queue.c */
void cleat_nvme_cq_start(struct cleat_nvme *n, uint16_t id, uint64_t base,
			 uint32_t size);
void cleat_nvme_sq_start(struct cleat_nvme *n, uint16_t id, uint64_t base,
			 uint32_t size, struct nvme_cq *cq);
void cleat_nvme_sq_stop(struct cleat_nvme *n, struct nvme_sq *sq);
void cleat_nvme_cq_stop(struct cleat_nvme *n, struct nvme_cq *cq);
bool cleat_nvme_cq_room(struct cleat_nvme *n, struct nvme_cq *cq);
void cleat_nvme_complete(struct cleat_nvme *n, struct nvme_sq *sq,
			 uint16_t cid, unsigned status, uint32_t result);

/* doorbell.c */
void cleat_nvme_doorbell_message(struct cleat_nvme *n, unsigned index,
				 uint32_t value);
void cleat_nvme_doorbell_clear(struct cleat_nvme *n, unsigned index);
void cleat_nvme_refresh_sq(struct cleat_nvme *n, struct nvme_sq *sq);
void cleat_nvme_refresh_cq(struct cleat_nvme *n, struct nvme_cq *cq);
/* Before sleeping: have the guest ring. True when something came meanwhile. */
bool cleat_nvme_rearm(struct cleat_nvme *n);
void cleat_nvme_scan_unused(struct cleat_nvme *n, unsigned count);

/* irq.c */
void cleat_nvme_irq_flush(struct cleat_nvme *n, struct nvme_cq *cq);
void cleat_nvme_irq_update_pin(struct cleat_nvme *n);
void cleat_nvme_irq_mask(struct cleat_nvme *n, uint32_t intms);

/* The rest, by command */
unsigned cleat_nvme_admin(struct cleat_nvme *n, struct nvme_request *req);
unsigned cleat_nvme_io(struct cleat_nvme *n, struct nvme_request *req);
nvme_handler cleat_nvme_identify;
nvme_handler cleat_nvme_get_log;
nvme_handler cleat_nvme_set_features;
nvme_handler cleat_nvme_get_features;
nvme_handler cleat_nvme_async_event;
nvme_handler cleat_nvme_delete_sq;
nvme_handler cleat_nvme_create_sq;
nvme_handler cleat_nvme_delete_cq;
nvme_handler cleat_nvme_create_cq;
nvme_handler cleat_nvme_dbbuf_config;
bool cleat_nvme_io_queues_exist(const struct cleat_nvme *n);
void cleat_nvme_features_reset(struct cleat_nvme *n);
void cleat_nvme_check_temperature(struct cleat_nvme *n);
void cleat_nvme_warning(struct cleat_nvme *n, uint8_t bit, unsigned info);

/* aen.c */
void cleat_nvme_event(struct cleat_nvme *n, unsigned type, unsigned info,
		      unsigned log);
void cleat_nvme_events_deliver(struct cleat_nvme *n);
void cleat_nvme_events_unmask(struct cleat_nvme *n, unsigned type);
bool cleat_nvme_event_abort(struct cleat_nvme *n, uint16_t cid);

/* log.c */
void cleat_nvme_log_error(struct cleat_nvme *n, const struct nvme_request *req,
			  unsigned status);
/* All that the disk has done, here and elsewhere. */
struct nvme_work cleat_nvme_work(const struct cleat_nvme *n);
/* And now it is this: the state that it came with says so. */
void cleat_nvme_set_work(struct cleat_nvme *n, const struct nvme_work *work);

/* Constant: there is nothing to get warm. Kelvin. */
#define NVME_TEMPERATURE 308
#define NVME_TEMPERATURE_WARNING 343

uint64_t cleat_nvme_now_ns(void);

#endif
