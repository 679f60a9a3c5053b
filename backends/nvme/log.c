/* SPDX-License-Identifier: BSD-2-Clause */
/* Get Log Page. */
#include <string.h>

#include "backends/nvme/private.h"

#define LOG_RAE (1u << 15)
#define LOG_MAX (sizeof(struct nvme_error_entry) * NVME_ERRORS_MAX)
_Static_assert(LOG_MAX == 4096, "every log page here fits in this");

#define EFFECTS_CSUPP (1u << 0)
#define EFFECTS_LBCC (1u << 1)

void cleat_nvme_log_error(struct cleat_nvme *n, const struct nvme_request *req,
			  unsigned status)
{
	struct nvme_error_entry *entry =
		&n->errors[n->n_errors % NVME_ERRORS_MAX];

	n->n_errors++;
	n->health.error_entries[0]++;
	*entry = (struct nvme_error_entry){
		.count = n->n_errors,
		.sq_id = req->sq_id,
		.cid = req->cmd.cid,
		.status = (uint16_t)(status << 1),
		.parameter = 0xffff,
		.lba = req->lba,
		.nsid = req->cmd.nsid,
	};
}

/* Newest first. */
static void error_page(struct cleat_nvme *n, void *page)
{
	struct nvme_error_entry *entry = page;

	for (uint64_t i = 0; i < NVME_ERRORS_MAX && i < n->n_errors; i++)
		*entry++ =
			n->errors[(n->n_errors - 1 - i) % NVME_ERRORS_MAX];
}

struct nvme_work cleat_nvme_work(const struct cleat_nvme *n)
{
	struct nvme_work work = n->elsewhere;

	work.bytes_read += n->stats.bytes_read;
	work.bytes_written += n->stats.bytes_written;
	work.reads += n->stats.io[NVME_IO_READ] + n->stats.io[NVME_IO_COMPARE];
	work.writes += n->stats.io[NVME_IO_WRITE];
	return work;
}

/*
 * What was done here before it came is in our statistics, but is no part of
 * it, or, when it has come back, is counted in it already.
 */
void cleat_nvme_set_work(struct cleat_nvme *n, const struct nvme_work *work)
{
	struct nvme_work here;

	memset(&n->elsewhere, 0, sizeof(n->elsewhere));
	here = cleat_nvme_work(n);
	n->elsewhere.bytes_read = work->bytes_read - here.bytes_read;
	n->elsewhere.bytes_written = work->bytes_written - here.bytes_written;
	n->elsewhere.reads = work->reads - here.reads;
	n->elsewhere.writes = work->writes - here.writes;
}

static void health_page(struct cleat_nvme *n, void *page)
{
	const struct nvme_work work = cleat_nvme_work(n);
	struct nvme_health *health = page;

	*health = n->health;
	health->warning = n->warnings;
	health->temperature = NVME_TEMPERATURE;
	health->spare = 100;
	health->spare_threshold = 10;
	/* Thousands of 512-byte units, rounded up. */
	health->units_read[0] = (work.bytes_read + 511999) / 512000;
	health->units_written[0] = (work.bytes_written + 511999) / 512000;
	health->reads[0] = work.reads;
	health->writes[0] = work.writes;
}

static void firmware_page(struct cleat_nvme *n, void *page)
{
	char *slots = page;

	slots[0] = 1;
	memset(slots + 8, ' ', 8);
	memcpy(slots + 8, CLEAT_VERSION,
	       strnlen(CLEAT_VERSION, 8));
}

static void nothing_page(struct cleat_nvme *n, void *page)
{
}

static void effects_page(struct cleat_nvme *n, void *page)
{
	uint32_t *admin = page, *io = admin + 256;
	static const uint8_t plain_admin[] = {
		NVME_ADMIN_DELETE_SQ,	 NVME_ADMIN_CREATE_SQ,
		NVME_ADMIN_GET_LOG,	 NVME_ADMIN_DELETE_CQ,
		NVME_ADMIN_CREATE_CQ,	 NVME_ADMIN_IDENTIFY,
		NVME_ADMIN_ABORT,	 NVME_ADMIN_SET_FEATURES,
		NVME_ADMIN_GET_FEATURES, NVME_ADMIN_ASYNC_EVENT,
	};

	for (unsigned i = 0; i < sizeof(plain_admin); i++)
		admin[plain_admin[i]] = EFFECTS_CSUPP;
	if (n->doorbells == NVME_IOEVENTFD)
		admin[NVME_ADMIN_DBBUF] = EFFECTS_CSUPP;
	io[NVME_IO_FLUSH] = EFFECTS_CSUPP;
	io[NVME_IO_READ] = EFFECTS_CSUPP;
	io[NVME_IO_COMPARE] = EFFECTS_CSUPP;
	io[NVME_IO_WRITE] = EFFECTS_CSUPP | EFFECTS_LBCC;
	io[NVME_IO_WRITE_ZEROES] = EFFECTS_CSUPP | EFFECTS_LBCC;
	io[NVME_IO_DSM] = EFFECTS_CSUPP | EFFECTS_LBCC;
}

struct log_page {
	void (*fill)(struct cleat_nvme *n, void *page);
	uint32_t size;
	uint32_t unmasks; /* types of events, as bits */
};

static const struct log_page pages[] = {
	[NVME_LOG_ERROR] = { error_page, 4096, 1u << NVME_EVENT_ERROR },
	[NVME_LOG_HEALTH] = { health_page, 512, 1u << NVME_EVENT_HEALTH },
	[NVME_LOG_FIRMWARE] = { firmware_page, 512, 0 },
	[NVME_LOG_CHANGED_NS] = { nothing_page, 4096, 0 },
	[NVME_LOG_EFFECTS] = { effects_page, 4096, 0 },
};

static const struct log_page *find_page(unsigned id)
{
	if (id >= sizeof(pages) / sizeof(pages[0]) || !pages[id].fill)
		return NULL;
	return &pages[id];
}

static bool known_namespace(const struct log_page *page, uint32_t nsid)
{
	/* Health is the controller's: LPA bit 0 says that we know no other. */
	return nsid == 0 || nsid == 0xffffffff ||
	       (nsid == 1 && page != &pages[NVME_LOG_HEALTH]);
}

unsigned cleat_nvme_get_log(struct cleat_nvme *n, struct nvme_request *req)
{
	const struct nvme_command *cmd = &req->cmd;
	const struct log_page *page = find_page(cmd->cdw10 & 0xff);
	uint64_t dwords = ((uint64_t)(cmd->cdw11 & 0xffff) << 16 |
			   cmd->cdw10 >> 16) + 1;
	uint64_t offset = (uint64_t)cmd->cdw13 << 32 | cmd->cdw12;
	unsigned status;

	if (!page)
		return NVME_INVALID_LOG;
	if (!known_namespace(page, cmd->nsid))
		return NVME_INVALID_NSID;
	if (offset % 4 || offset > page->size || dwords > NVME_MDTS_BYTES / 4)
		return NVME_INVALID_FIELD;
	/* Past the end of the page there are zeroes. */
	memset(n->bounce, 0, LOG_MAX + dwords * 4 > NVME_MDTS_BYTES ?
				     NVME_MDTS_BYTES :
				     LOG_MAX + dwords * 4);
	page->fill(n, n->bounce);
	memmove(n->bounce, (char *)n->bounce + offset, LOG_MAX - offset);
	if (offset)
		memset((char *)n->bounce + LOG_MAX - offset, 0, offset);
	status = cleat_nvme_data_out(n, req, n->bounce, (uint32_t)dwords * 4);
	if (!status && !(cmd->cdw10 & LOG_RAE))
		n->events.masked &= ~page->unmasks;
	return status;
}
