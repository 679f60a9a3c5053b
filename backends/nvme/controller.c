/* SPDX-License-Identifier: BSD-2-Clause */
/* Registers, and the controller's life: enable, disable, shutdown, reset. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/nvme/private.h"

uint64_t cleat_nvme_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t hash(const uint64_t identity[2])
{
	const unsigned char *byte = (const unsigned char *)identity;
	uint64_t h = 0xcbf29ce484222325ull;

	for (unsigned i = 0; i < 16; i++)
		h = (h ^ byte[i]) * 0x100000001b3ull;
	return h;
}

static void set_serial(struct cleat_nvme *n, const char *serial)
{
	if (serial)
		snprintf(n->serial, sizeof(n->serial), "%s", serial);
	else
		snprintf(n->serial, sizeof(n->serial), "CLEAT%015llu",
			 (unsigned long long)(hash(n->disk->identity) %
					      1000000000000000ull));
}

/* Version 8: what it is made of is our own business. */
static void set_uuid(struct cleat_nvme *n)
{
	unsigned char *uuid = n->uuid;

	memcpy(uuid, n->disk->identity, sizeof(n->uuid));
	for (unsigned i = 0; n->serial[i]; i++)
		uuid[i % 16] =
			(unsigned char)(uuid[i % 16] * 31 ^ n->serial[i]);
	uuid[6] = (uuid[6] & 0x0f) | 0x80;
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
}

static bool allocate(struct cleat_nvme *n)
{
	n->sqs = calloc(n->queues + 1, sizeof(*n->sqs));
	n->cqs = calloc(n->queues + 1, sizeof(*n->cqs));
	n->features.vectors = calloc(n->queues + 1, sizeof(uint32_t));
	n->bounce = malloc(NVME_MDTS_BYTES);
	return n->sqs && n->cqs && n->features.vectors && n->bounce;
}

struct cleat_nvme *cleat_nvme_new(const struct cleat_nvme_config *config,
				  const struct cleat_nvme_ops *ops,
				  void *opaque)
{
	struct cleat_nvme *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->ops = *ops;
	n->opaque = opaque;
	n->disk = config->disk;
	n->queues = config->queues;
	n->doorbells = config->doorbells;
	n->page = config->page;
	n->pci_vendor = config->pci_vendor;
	n->pci_subvendor = config->pci_subvendor;
	set_serial(n, config->serial);
	set_uuid(n);
	if (!allocate(n)) {
		cleat_nvme_free(n);
		return NULL;
	}
	n->health.power_cycles[0] = 1;
	cleat_nvme_reset(n);
	n->stats.resets = 0;
	return n;
}

void cleat_nvme_free(struct cleat_nvme *n)
{
	if (!n)
		return;
	cleat_nvme_load_end(n);
	free(n->sqs);
	free(n->cqs);
	free(n->features.vectors);
	free(n->bounce);
	free(n);
}

struct cleat_nvme_stats *cleat_nvme_get_stats(struct cleat_nvme *n)
{
	return &n->stats;
}

bool cleat_nvme_running(const struct cleat_nvme *n)
{
	return (n->csts & (NVME_CSTS_RDY | NVME_CSTS_CFS | NVME_CSTS_SHST)) ==
		       NVME_CSTS_RDY &&
	       n->bus_master && !n->cc_waits;
}

/* A guest can bring these about as often as it likes. */
void cleat_nvme_warn(struct cleat_nvme *n, const char *line)
{
	if (n->warned > NVME_WARNINGS_MAX)
		return;
	n->ops.warn(n->opaque, n->warned < NVME_WARNINGS_MAX ?
				       line :
				       "no more such lines are shown");
	n->warned++;
}

void cleat_nvme_fatal(struct cleat_nvme *n, const char *why)
{
	if (!(n->csts & NVME_CSTS_CFS))
		cleat_nvme_warn(n, why);
	n->csts |= NVME_CSTS_CFS;
}

/* What a Controller Reset clears: everything but AQA, ASQ and ACQ. */
static void controller_reset(struct cleat_nvme *n)
{
	for (unsigned i = 0; i <= n->queues; i++) {
		cleat_nvme_sq_stop(n, &n->sqs[i]);
		memset(&n->cqs[i], 0, sizeof(n->cqs[i]));
	}
	if (n->page)
		for (unsigned i = 0; i < NVME_DOORBELL_BYTES / 4; i++)
			cleat_nvme_doorbell_clear(n, i);
	memset(&n->dbbuf, 0, sizeof(n->dbbuf));
	n->value_missing = false;
	memset(&n->events, 0, sizeof(n->events));
	cleat_nvme_features_reset(n);
	n->csts = 0;
	n->intms = 0;
	n->stats.resets++;
	cleat_nvme_irq_update_pin(n);
}

void cleat_nvme_reset(struct cleat_nvme *n)
{
	n->cc_waits = false;
	n->reset_waits = false;
	n->cc = 0;
	n->aqa = 0;
	n->asq = 0;
	n->acq = 0;
	controller_reset(n);
}

static bool can_enable(const struct cleat_nvme *n)
{
	uint64_t offset = (1ull << (12 + NVME_CC_MPS(n->cc))) - 1;

	return NVME_CC_CSS(n->cc) == 0 && NVME_CC_AMS(n->cc) == 0 &&
	       NVME_CC_MPS(n->cc) <= NVME_MPS_MAX &&
	       !((n->asq | n->acq) & offset) && (n->aqa & 0xfff) &&
	       ((n->aqa >> 16) & 0xfff);
}

static void enable(struct cleat_nvme *n)
{
	n->csts = 0;
	if (!can_enable(n)) {
		cleat_nvme_fatal(n, "the guest enabled the controller with "
				    "bad CC, AQA, ASQ or ACQ");
		return;
	}
	if (cleat_nvme_disk_lock(n->disk)) {
		cleat_nvme_fatal(n, "the guest enabled the controller, and "
				    "another process has the disk");
		return;
	}
	n->page_bits = 12 + NVME_CC_MPS(n->cc);
	cleat_nvme_cq_start(n, 0, n->acq, ((n->aqa >> 16) & 0xfff) + 1);
	cleat_nvme_sq_start(n, 0, n->asq, (n->aqa & 0xfff) + 1, &n->cqs[0]);
	n->cqs[0].ien = true;
	n->csts = NVME_CSTS_RDY;
	/* What was wrong before the reset still is. */
	cleat_nvme_check_temperature(n);
}

static void shut_down(struct cleat_nvme *n)
{
	if (cleat_nvme_disk_flush(n->disk))
		cleat_nvme_fatal(n, "shutdown: written data did not reach "
				    "the disk");
	n->csts = (n->csts & ~NVME_CSTS_SHST) | NVME_CSTS_SHST_DONE;
}

static void set_cc(struct cleat_nvme *n, uint32_t value)
{
	uint32_t old = n->cc;

	value &= NVME_CC_FIELDS;
	if (old & value & NVME_CC_EN)
		value = (value & ~NVME_CC_FROZEN) | (old & NVME_CC_FROZEN);
	n->cc = value;
	if (value & ~old & NVME_CC_EN)
		enable(n);
	else if (old & ~value & NVME_CC_EN)
		controller_reset(n);
	if (NVME_CC_SHN(value) && !NVME_CC_SHN(old))
		shut_down(n);
	else if (!NVME_CC_SHN(value))
		n->csts &= ~NVME_CSTS_SHST;
}

void cleat_nvme_apply_cc(struct cleat_nvme *n)
{
	bool reset = n->reset_waits;

	if (!n->cc_waits)
		return;
	n->cc_waits = false;
	n->reset_waits = false;
	if (reset)
		set_cc(n, n->cc & ~NVME_CC_EN);
	set_cc(n, n->cc_next);
}

static void write_cc(struct cleat_nvme *n, uint32_t value)
{
	if (!n->busy) {
		set_cc(n, value);
		return;
	}
	n->cc_waits = true;
	n->cc_next = value;
	if (!(value & NVME_CC_EN))
		n->reset_waits = true;
}

static void write_low(uint64_t *reg, uint32_t value)
{
	*reg = (*reg & ~0xffffffffull) | (value & ~0xfffu);
}

static void write_high(uint64_t *reg, uint32_t value)
{
	*reg = (*reg & 0xffffffffull) | (uint64_t)value << 32;
}

/* Registers that say where the admin queues are hold still while enabled. */
static void write_admin_register(struct cleat_nvme *n, unsigned offset,
				 uint32_t value)
{
	if (n->cc & NVME_CC_EN)
		return;
	switch (offset) {
	case NVME_REG_AQA:
		n->aqa = value & 0x0fff0fff;
		break;
	case NVME_REG_ASQ:
		write_low(&n->asq, value);
		break;
	case NVME_REG_ASQ + 4:
		write_high(&n->asq, value);
		break;
	case NVME_REG_ACQ:
		write_low(&n->acq, value);
		break;
	case NVME_REG_ACQ + 4:
		write_high(&n->acq, value);
		break;
	}
}

static void write_register(struct cleat_nvme *n, unsigned offset,
			   uint32_t value)
{
	switch (offset) {
	case NVME_REG_INTMS:
		cleat_nvme_irq_mask(n, n->intms | value);
		break;
	case NVME_REG_INTMC:
		cleat_nvme_irq_mask(n, n->intms & ~value);
		break;
	case NVME_REG_CC:
		write_cc(n, value);
		break;
	default:
		write_admin_register(n, offset, value);
	}
}

static uint64_t capabilities(void)
{
	return NVME_CAP_MQES(NVME_QUEUE_ENTRIES) | NVME_CAP_CQR |
	       NVME_CAP_TO(20) | NVME_CAP_CSS_NVM |
	       NVME_CAP_MPSMAX(NVME_MPS_MAX);
}

static uint32_t read_register(const struct cleat_nvme *n, unsigned offset)
{
	switch (offset) {
	case NVME_REG_CAP:
		return (uint32_t)capabilities();
	case NVME_REG_CAP + 4:
		return (uint32_t)(capabilities() >> 32);
	case NVME_REG_VS:
		return NVME_VERSION;
	case NVME_REG_INTMS:
	case NVME_REG_INTMC:
		return n->intms;
	case NVME_REG_CC:
		return n->cc_waits ? n->cc_next & NVME_CC_FIELDS : n->cc;
	case NVME_REG_CSTS:
		return n->csts;
	case NVME_REG_AQA:
		return n->aqa;
	case NVME_REG_ASQ:
		return (uint32_t)n->asq;
	case NVME_REG_ASQ + 4:
		return (uint32_t)(n->asq >> 32);
	case NVME_REG_ACQ:
		return (uint32_t)n->acq;
	case NVME_REG_ACQ + 4:
		return (uint32_t)(n->acq >> 32);
	}
	return 0;
}

void cleat_nvme_bar_read(struct cleat_nvme *n, uint64_t offset, void *buf,
			 size_t count)
{
	unsigned char *out = buf;

	for (size_t i = 0; i < count; i++) {
		uint64_t at = offset + i;
		uint32_t word = 0;

		if (at < NVME_DOORBELLS)
			word = read_register(n, (unsigned)at & ~3u);
		out[i] = (unsigned char)(word >> (8 * (at & 3)));
	}
}

void cleat_nvme_bar_write(struct cleat_nvme *n, uint64_t offset,
			  const void *buf, size_t count)
{
	if (offset % 4 || (count != 4 && count != 8))
		return;
	for (size_t i = 0; i < count; i += 4) {
		uint64_t at = offset + i;
		uint32_t value;

		memcpy(&value, (const char *)buf + i, 4);
		if (at < NVME_DOORBELLS)
			write_register(n, (unsigned)at, value);
		else if (at < NVME_BAR0_SIZE)
			cleat_nvme_doorbell_message(
				n, (unsigned)(at - NVME_DOORBELLS) / 4, value);
	}
}

void cleat_nvme_set_bus_master(struct cleat_nvme *n, bool on)
{
	n->bus_master = on;
}
