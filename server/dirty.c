/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which pages the device wrote: DEVICE_FEATURE's DMA logging, a bitmap for
 * each range while it is on. Reporting clears.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/server.h"

#define LEAST_PAGE 4096
/* For all ranges together: 8 TiB of guest in pages of 4 KiB. */
#define MOST_BITMAP (UINT64_C(256) << 20)
#define BITS 64

struct feature {
	uint32_t argsz;
	uint32_t flags;
};

struct logging {
	uint64_t page_size;
	uint32_t n_ranges;
	uint32_t reserved;
};

static uint64_t words_for(uint64_t length, uint64_t page)
{
	uint64_t pages = length / page + !!(length % page);

	return pages / BITS + !!(pages % BITS);
}

/* One page more than its length says: it may not begin on a page. */
static uint64_t range_words(const struct cleat_srv_range *range, uint64_t page)
{
	return words_for(range->length, page) + 1;
}

void cleat_srv_dirty_free(struct cleat_server *srv,
			  struct cleat_srv_range *range)
{
	if (range->dirty)
		srv->dma.log_bytes -= range_words(range, srv->dma.log_page) * 8;
	free(range->dirty);
	range->dirty = NULL;
}

static void stop_logging(struct cleat_server *srv)
{
	for (size_t i = 0; i < srv->dma.count; i++)
		cleat_srv_dirty_free(srv, cleat_srv_range_at(&srv->dma, i));
	srv->dma.log_page = 0;
}

int cleat_srv_dirty_add(struct cleat_server *srv, struct cleat_srv_range *range)
{
	struct cleat_srv_dma *dma = &srv->dma;
	uint64_t words;

	if (!dma->log_page)
		return 0;
	words = range_words(range, dma->log_page);
	if (words > MOST_BITMAP / 8 ||
	    dma->log_bytes + words * 8 > MOST_BITMAP)
		return -ENOMEM;
	range->dirty = calloc(words, sizeof(*range->dirty));
	if (!range->dirty)
		return -ENOMEM;
	dma->log_bytes += words * 8;
	return 0;
}

static uint64_t page_in_range(const struct cleat_srv_range *range,
			      uint64_t address, uint64_t page)
{
	return address / page - range->iova / page;
}

static uint64_t mark(struct cleat_srv_range *range, uint64_t iova,
		     uint64_t length, uint64_t page)
{
	uint64_t left = range->length - (iova - range->iova);
	uint64_t first, last;

	if (length > left)
		length = left;
	first = page_in_range(range, iova, page);
	last = page_in_range(range, iova + length - 1, page);
	for (uint64_t bit = first; bit <= last; bit++)
		range->dirty[bit / BITS] |= UINT64_C(1) << bit % BITS;
	return length;
}

void cleat_server_dma_dirty(struct cleat_server *srv, uint64_t iova,
			    uint64_t length)
{
	struct cleat_srv_range *range;
	uint64_t done;

	while (length && srv->dma.log_page) {
		range = cleat_srv_range(srv, iova);
		if (!range || !range->dirty)
			return;
		done = mark(range, iova, length, srv->dma.log_page);
		iova += done;
		length -= done;
	}
}

static int start_logging(struct cleat_server *srv, uint64_t page)
{
	int err = 0;

	if (srv->dma.log_page)
		return -EINVAL;
	srv->dma.log_page = page;
	for (size_t i = 0; i < srv->dma.count && !err; i++)
		err = cleat_srv_dirty_add(srv, cleat_srv_range_at(&srv->dma, i));
	if (err)
		stop_logging(srv);
	return err;
}

static int start(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct feature feature;
	struct logging logging;
	struct iovec payload[2] = { { &feature, sizeof(feature) },
				    { &logging, sizeof(logging) } };
	int err;

	if (msg->length < sizeof(feature) + sizeof(logging))
		return -EINVAL;
	memcpy(&feature, msg->body, sizeof(feature));
	memcpy(&logging, msg->body + sizeof(feature), sizeof(logging));
	if (!logging.page_size || logging.page_size & (logging.page_size - 1) ||
	    logging.page_size > UINT64_C(1) << 40)
		return -EINVAL;
	if (logging.page_size < LEAST_PAGE)
		logging.page_size = LEAST_PAGE;
	/* Everything is logged, whatever ranges are named. */
	logging.n_ranges = 0;
	err = start_logging(srv, logging.page_size);
	if (err)
		return err;
	feature.argsz = sizeof(feature) + sizeof(logging);
	return cleat_srv_reply_full(srv, msg, payload, NULL, 0);
}

static int stop(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	if (!srv->dma.log_page)
		return -EINVAL;
	stop_logging(srv);
	return cleat_srv_reply(srv, msg, msg->body, msg->length);
}

/*
 * Sets the report's bits that a dirty page, from @at on, overlaps. Its pages
 * are counted from the report's address, which need be no multiple of their
 * size; so there may be two. True if nothing of the page in its range is left
 * to be told.
 */
static bool tell_page(const struct cleat_srv_range *range, uint64_t at,
		      uint64_t page, const struct cleat_srv_report *report,
		      uint64_t *bitmap)
{
	uint64_t first = at > range->iova ? at : range->iova;
	uint64_t last = range->iova + range->length - 1;
	uint64_t end = report->iova + report->length - 1;
	uint64_t told_first, told_last;

	if (last - at >= page)
		last = at + page - 1;
	if (last < report->iova || first > end)
		return false;
	told_first = first > report->iova ? first - report->iova : 0;
	told_last = (last < end ? last : end) - report->iova;
	for (uint64_t i = told_first / report->page_size;
	     i <= told_last / report->page_size; i++)
		bitmap[i / BITS] |= UINT64_C(1) << i % BITS;
	return first >= report->iova && last <= end;
}

void cleat_srv_dirty_move(struct cleat_server *srv,
			  struct cleat_srv_range *range,
			  const struct cleat_srv_report *report,
			  uint64_t *bitmap)
{
	uint64_t page = srv->dma.log_page;
	uint64_t words = range_words(range, page);
	uint64_t base = range->iova / page * page;

	for (uint64_t word = 0; word < words; word++) {
		uint64_t bits = range->dirty[word], kept = 0;

		while (bits) {
			uint64_t bit = (uint64_t)__builtin_ctzll(bits);
			uint64_t at = base + (word * BITS + bit) * page;

			bits &= bits - 1;
			if (!tell_page(range, at, page, report, bitmap))
				kept |= UINT64_C(1) << bit;
		}
		range->dirty[word] = kept;
	}
}

int cleat_srv_dirty_check(const struct cleat_server *srv,
			  const struct cleat_srv_report *report, uint32_t argsz,
			  size_t head, uint64_t *ret_bytes)
{
	uint64_t page = report->page_size, bytes;

	/* Finer than what was logged cannot be told. */
	if (!srv->dma.log_page || page < srv->dma.log_page ||
	    page & (page - 1) || !report->length ||
	    report->iova % LEAST_PAGE ||
	    report->iova + report->length - 1 < report->iova)
		return -EINVAL;
	bytes = words_for(report->length, page) * 8;
	if (bytes > CLEAT_MAX_TRANSFER ||
	    argsz < head + bytes)
		return -E2BIG;
	*ret_bytes = bytes;
	return 0;
}

/* @payload[0] is the reply's head; the bitmap comes after it. */
static int reply_bitmap(struct cleat_server *srv, struct cleat_srv_msg *msg,
			const struct cleat_srv_report *report,
			struct iovec payload[2])
{
	uint64_t *bitmap;
	int err;

	bitmap = calloc(1, payload[1].iov_len);
	if (!bitmap)
		return -ENOMEM;
	for (size_t i = 0; i < srv->dma.count; i++)
		cleat_srv_dirty_move(srv, cleat_srv_range_at(&srv->dma, i),
				     report, bitmap);
	payload[1].iov_base = bitmap;
	err = cleat_srv_reply_full(srv, msg, payload, NULL, 0);
	free(bitmap);
	return err;
}

static int report_dirty(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct { struct feature feature; struct cleat_srv_report report; } head;
	struct iovec payload[2] = { { &head, sizeof(head) } };
	uint64_t bytes;
	int err;

	if (msg->length < sizeof(head))
		return -EINVAL;
	memcpy(&head, msg->body, sizeof(head));
	err = cleat_srv_dirty_check(srv, &head.report, head.feature.argsz,
				    sizeof(head), &bytes);
	if (err)
		return err;
	head.feature.argsz = (uint32_t)(sizeof(head) + bytes);
	payload[1].iov_len = bytes;
	return reply_bitmap(srv, msg, &head.report, payload);
}

/* ---- The first generation's command ------------------------------- */

static int get_bitmap(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct {
		struct cleat_wire_dirty_pages pages;
		struct cleat_wire_dirty_range range;
	} head;
	struct iovec payload[2] = { { &head, sizeof(head) } };
	struct cleat_srv_report report;
	int err;

	if (msg->length < sizeof(head))
		return -EINVAL;
	memcpy(&head, msg->body, sizeof(head));
	report = (struct cleat_srv_report){ head.range.iova, head.range.size,
				  head.range.bitmap.page_size };
	err = cleat_srv_dirty_check(srv, &report, head.pages.argsz,
				    sizeof(head), &head.range.bitmap.size);
	if (err)
		return err;
	payload[1].iov_len = head.range.bitmap.size;
	head.pages.argsz = (uint32_t)(sizeof(head) + head.range.bitmap.size);
	return reply_bitmap(srv, msg, &report, payload);
}

int cleat_srv_dirty_pages(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct cleat_wire_dirty_pages head;
	int err = 0;

	if (!cleat_srv_mig_v1(srv) || msg->length < sizeof(head))
		return -EINVAL;
	memcpy(&head, msg->body, sizeof(head));
	switch (head.flags) {
	case CLEAT_DIRTY_START:
		err = start_logging(srv, LEAST_PAGE);
		break;
	case CLEAT_DIRTY_STOP:
		if (!srv->dma.log_page)
			return -EINVAL;
		stop_logging(srv);
		break;
	case CLEAT_DIRTY_GET_BITMAP:
		return get_bitmap(srv, msg);
	default:
		return -EINVAL;
	}
	return err ? err : cleat_srv_reply(srv, msg, &head, sizeof(head));
}

/* ---- DEVICE_FEATURE ----------------------------------------------- */

int cleat_srv_feature(struct cleat_server *srv, struct cleat_srv_msg *msg)
{
	struct feature feature;
	uint32_t number, way;

	if (msg->length < sizeof(feature))
		return -EINVAL;
	memcpy(&feature, msg->body, sizeof(feature));
	number = feature.flags & VFIO_DEVICE_FEATURE_MASK;
	way = feature.flags & ~(uint32_t)VFIO_DEVICE_FEATURE_MASK;
	if (cleat_srv_mig_v1(srv))
		return -EINVAL;
	if (number == VFIO_DEVICE_FEATURE_MIGRATION ||
	    number == VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE ||
	    number == CLEAT_FEATURE_MIG_DATA_SIZE)
		return cleat_srv_mig_feature(srv, msg, number, way);
	if (number < VFIO_DEVICE_FEATURE_DMA_LOGGING_START ||
	    number > VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT)
		return -EINVAL;
	if (way & VFIO_DEVICE_FEATURE_PROBE)
		return cleat_srv_reply(srv, msg, msg->body, msg->length);
	if (number == VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT)
		return way == VFIO_DEVICE_FEATURE_GET ? report_dirty(srv, msg) :
							-EINVAL;
	if (way != VFIO_DEVICE_FEATURE_SET)
		return -EINVAL;
	return number == VFIO_DEVICE_FEATURE_DMA_LOGGING_START ?
		       start(srv, msg) :
		       stop(srv, msg);
}
