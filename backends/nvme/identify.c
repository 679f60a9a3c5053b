/* SPDX-License-Identifier: BSD-2-Clause */
/* Identify. */
#include <stdio.h>
#include <string.h>

#include "backends/nvme/private.h"

#define CNS_NAMESPACE 0x00
#define CNS_CONTROLLER 0x01
#define CNS_ACTIVE_LIST 0x02
#define CNS_DESCRIPTORS 0x03

#define NIDT_UUID 3

/* Text in Identify is padded with blanks and has no terminator. */
static void pad(char *field, size_t size, const char *text)
{
	size_t length = strnlen(text, size);

	memset(field, ' ', size);
	memcpy(field, text, length);
}

static void make_nqn(const struct cleat_nvme *n, char *nqn, size_t size)
{
	const unsigned char *u = n->uuid;

	snprintf(nqn, size,
		 "nqn.2014-08.org.nvmexpress:uuid:%02x%02x%02x%02x-"
		 "%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9],
		 u[10], u[11], u[12], u[13], u[14], u[15]);
}

static void fill_limits(const struct cleat_nvme *n,
			struct nvme_id_controller *id)
{
	id->rab = 4;
	id->mdts = NVME_MDTS;
	id->acl = 3;
	id->aerl = NVME_AERS_MAX - 1;
	id->elpe = NVME_ERRORS_MAX - 1;
	/* One firmware slot, read-only; effects and extended log pages. */
	id->frmw = 0x03;
	id->lpa = 0x06;
	id->wctemp = NVME_TEMPERATURE_WARNING;
	id->cctemp = NVME_TEMPERATURE_WARNING + 10;
	id->sqes = 0x66;
	id->cqes = 0x44;
	id->nn = 1;
	id->oacs = n->doorbells == NVME_IOEVENTFD ? NVME_OACS_DBBUF : 0;
	id->oncs = NVME_ONCS_COMPARE | NVME_ONCS_DSM | NVME_ONCS_WRITE_ZEROES |
		   NVME_ONCS_SELECT;
	/* A volatile write cache; Flush takes the broadcast NSID. */
	id->vwc = 0x07;
	id->psd[0].max_power = 2500;
}

static unsigned controller(struct cleat_nvme *n, struct nvme_request *req)
{
	struct nvme_id_controller id = {
		.vid = n->pci_vendor,
		.ssvid = n->pci_subvendor,
		.cntlid = 1,
		.cntrltype = 1,
		.ver = NVME_VERSION,
	};

	pad(id.sn, sizeof(id.sn), n->serial);
	pad(id.mn, sizeof(id.mn), "cleat-nvme");
	pad(id.fr, sizeof(id.fr), CLEAT_VERSION);
	make_nqn(n, id.subnqn, sizeof(id.subnqn));
	fill_limits(n, &id);
	return cleat_nvme_data_out(n, req, &id, sizeof(id));
}

static unsigned namespace(struct cleat_nvme *n, struct nvme_request *req)
{
	struct nvme_id_namespace id = { 0 };

	if (req->cmd.nsid != 1)
		return NVME_INVALID_NSID;
	id.nsze = n->disk->size / n->disk->block_size;
	id.ncap = id.nsze;
	id.nuse = id.nsze;
	/* Deallocated blocks read as zeroes; Write Zeroes may deallocate. */
	id.dlfeat = 0x09;
	id.nsattr = n->disk->read_only;
	id.lbaf[0].lbads = n->disk->block_size == 4096 ? 12 : 9;
	return cleat_nvme_data_out(n, req, &id, sizeof(id));
}

static unsigned active_list(struct cleat_nvme *n, struct nvme_request *req)
{
	uint32_t list[1024] = { 0 };

	if (req->cmd.nsid >= 0xfffffffe)
		return NVME_INVALID_NSID;
	if (req->cmd.nsid < 1)
		list[0] = 1;
	return cleat_nvme_data_out(n, req, list, sizeof(list));
}

static unsigned descriptors(struct cleat_nvme *n, struct nvme_request *req)
{
	unsigned char list[4096] = { NIDT_UUID, 16 };

	if (req->cmd.nsid != 1)
		return NVME_INVALID_NSID;
	memcpy(list + 4, n->uuid, sizeof(n->uuid));
	return cleat_nvme_data_out(n, req, list, sizeof(list));
}

unsigned cleat_nvme_identify(struct cleat_nvme *n, struct nvme_request *req)
{
	switch (req->cmd.cdw10 & 0xff) {
	case CNS_NAMESPACE:
		return namespace(n, req);
	case CNS_CONTROLLER:
		return controller(n, req);
	case CNS_ACTIVE_LIST:
		return active_list(n, req);
	case CNS_DESCRIPTORS:
		return descriptors(n, req);
	}
	return NVME_INVALID_FIELD;
}
