/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A scripted server for the room irq: a device with interrupts and nothing
 * else. It writes down every SET_IRQS, keeps the eventfds in one array for all
 * types, as real servers do, counts what such a server would do wrong with, and
 * misbehaves on demand.
 */
#ifndef TESTS_IRQ_SERVER_H
#define TESTS_IRQ_SERVER_H

#include <linux/vfio.h>

#include <cleat/device.h>

#include "irq/irq.h"
#include "tests/support/support.h"

#define INTX VFIO_PCI_INTX_IRQ_INDEX
#define MSI VFIO_PCI_MSI_IRQ_INDEX
#define MSIX VFIO_PCI_MSIX_IRQ_INDEX
#define ERR VFIO_PCI_ERR_IRQ_INDEX
#define REQ VFIO_PCI_REQ_IRQ_INDEX
#define NUM_TYPES 5
#define VECTORS 300
#define SETS 4096

#define ARM (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)
#define DISABLE (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER)

struct set {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t start;
	uint32_t count;
	unsigned num_fds;
};

/**
 * struct server - one scripted server, our device on it, and its interrupts
 * @json:       its capabilities, NULL for none
 * @flags:      GET_IRQ_INFO's of each type
 * @control_ms: our device's limit
 * @refuse:     answer this SET_IRQS (from 1) with -EPERM
 * @die:        close the connection instead of answering that one
 * @mute:       do not answer that one
 * @echo:       answer with the request's payload
 * @sets, @num_sets: what came
 * @faults:     what a real server would have stumbled over
 * @on:         the type that is enabled, or -1
 * @fds, @unmask_fd: eventfds it has
 */
struct server {
	const char *json;
	uint32_t flags[NUM_TYPES];
	uint32_t control_ms;
	unsigned refuse;
	unsigned die;
	unsigned mute;
	bool echo;

	int fd;
	struct script script;
	struct cleat_device *dev;
	struct cleat_irqs *irqs;
	pthread_mutex_t lock;
	struct set sets[SETS];
	unsigned num_sets;
	unsigned faults;
	int on;
	int fds[VECTORS];
	int unmask_fd;
	int err_fd;
};

/*
 * INTx has 1 vector, MSI 32, MSI-X VECTORS, ERR 1, REQ none. The first seven
 * members are the case's, set before; the rest is filled in. Fails the case at
 * the end if there were faults.
 */
void server_open(struct server *server);
void server_close(struct server *server);
/* The server raises a vector: false if it has no eventfd for it. */
bool server_fire(struct server *server, unsigned vector);
unsigned server_sets(struct server *server);
/* Fails the case unless SET_IRQS number @n (from 0) was this one. */
void server_check(struct server *server, unsigned n, uint32_t flags,
		  uint32_t index, uint32_t start, uint32_t count);

#endif
