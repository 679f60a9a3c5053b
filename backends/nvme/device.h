/* SPDX-License-Identifier: BSD-2-Clause */
/* The controller as a PCI device of a vfio-user server. */
#ifndef CLEAT_NVME_DEVICE_H
#define CLEAT_NVME_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include <cleat/error.h>
#include <cleat/server.h>

#include "backends/nvme/nvme.h"
#include "backends/program.h"

/* The command line: options.c */
struct nvme_options {
	const char *socket_path;
	int fd; /* -1: none */
	const char *stats;
	const char *serial;
	unsigned queues;
	enum cleat_nvme_doorbells doorbells;
	enum cleat_program_migration migration;
	uint32_t busy_us;
	uint32_t sleep_us;
	struct cleat_nvme_disk_config disk;
};

/*
 * -1: go on. Otherwise the exit status: 0 after --help and --version, 2 after
 * a line that says what is wrong.
 */
int cleat_nvme_options(struct nvme_options *options, int argc, char **argv);

struct nvme_device {
	struct cleat_server *srv;
	struct cleat_nvme *nvme;
	struct cleat_nvme_disk disk;
	enum cleat_nvme_doorbells doorbells;
	unsigned vectors;
	int stats_fd; /* -1: none */
	/* Doorbells: the page's file, and an eventfd for tails and heads. */
	int page_fd;
	uint32_t *page;
	int tails;
	int heads;
	bool heads_watched;
	int timer; /* for a doorbell buffer to be set */
	bool timing;
	bool msi;
	bool msix;
	enum cleat_nvme_irq_mode irq_mode;
	/* Of its state: the next record to give */
	unsigned saved;
	bool incoming; /* none has come yet */
	enum cleat_server_phase phase;
	/* Fired while the client had no eventfd set: fired again when it has */
	bool pending[NVME_QUEUES_MAX + 1];
};

int cleat_nvme_device_create(struct nvme_device *device,
			     const struct nvme_options *options,
			     struct cleat_error *reterr);
void cleat_nvme_device_destroy(struct nvme_device *device);

/* Gives up system calls that serving needs no more: sandbox.c. 0 or -errno. */
int cleat_nvme_refuse_calls(void);

#endif
