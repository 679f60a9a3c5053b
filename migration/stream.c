/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>

#include "migration/migration.h"

static uint32_t head_crc(const struct cleat_stream_head *head)
{
	struct cleat_stream_head copy = *head;

	copy.crc = 0;
	return cleat_crc32c(0, &copy, sizeof(copy));
}

void cleat_stream_make_head(struct cleat_stream_head *head,
			    unsigned generation,
			    const struct cleat_stream_identity *identity)
{
	*head = (struct cleat_stream_head){
		.magic = CLEAT_STREAM_MAGIC,
		.version = CLEAT_STREAM_VERSION,
		.size = sizeof(*head),
		.generation = generation,
		.identity = *identity,
	};
	head->crc = head_crc(head);
}

static int refuse(struct cleat_error *reterr, int code, const char *why)
{
	return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, code, "device state: %s",
			  why);
}

int cleat_stream_check_prefix(const struct cleat_stream_head *head,
			      struct cleat_error *reterr)
{
	if (memcmp(head->magic, CLEAT_STREAM_MAGIC, sizeof(head->magic)))
		return refuse(reterr, -EBADMSG, "this is no stream of it");
	if (!head->version)
		return refuse(reterr, -EBADMSG, "its head is damaged");
	if (head->version > CLEAT_STREAM_VERSION)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EPROTONOSUPPORT,
				  "device state: format %u is newer than %u, "
				  "which is what this program reads",
				  head->version, CLEAT_STREAM_VERSION);
	if (head->size != sizeof(*head))
		return refuse(reterr, -EBADMSG, "its head is damaged");
	return 0;
}

int cleat_stream_check_head(const struct cleat_stream_head *head,
			    unsigned generation,
			    const struct cleat_stream_identity *identity,
			    struct cleat_error *reterr)
{
	const char *differs;
	int err = cleat_stream_check_prefix(head, reterr);

	if (err)
		return err;
	if (head->crc != head_crc(head))
		return refuse(reterr, -EBADMSG, "its head is damaged");
	differs = cleat_migration_differs(&head->identity, identity);
	if (differs)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EXDEV,
				  "device state: of another device: %s differ",
				  differs);
	if (head->generation != generation)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EXDEV,
				  "device state: saved by generation %u of the "
				  "protocol, and this server speaks %u",
				  head->generation, generation);
	return 0;
}

static uint32_t frame_crc(const struct cleat_stream_frame *frame,
			  const void *payload)
{
	uint32_t crc = cleat_crc32c(
		0, frame, offsetof(struct cleat_stream_frame, crc));

	return cleat_crc32c(crc, payload, frame->length);
}

void cleat_stream_make_frame(struct cleat_stream_frame *frame, uint32_t type,
			     uint32_t number, const void *payload,
			     uint32_t length)
{
	*frame = (struct cleat_stream_frame){
		.type = type,
		.length = length,
		.number = number,
	};
	frame->crc = frame_crc(frame, payload);
}

int cleat_stream_check_frame(const struct cleat_stream_frame *frame,
			     uint32_t number, struct cleat_error *reterr)
{
	uint32_t length = frame->length;
	bool fits = false;

	switch (frame->type) {
	case CLEAT_STREAM_DATA:
	case CLEAT_STREAM_LAST:
		fits = length && length <= CLEAT_STREAM_FRAME;
		break;
	case CLEAT_STREAM_SECTION:
		fits = !length;
		break;
	case CLEAT_STREAM_END:
		fits = length == sizeof(struct cleat_stream_end);
		break;
	}
	if (!fits || frame->number != number)
		return refuse(reterr, -EBADMSG, "a frame's head is damaged");
	return 0;
}

int cleat_stream_check_payload(const struct cleat_stream_frame *frame,
			       const void *payload, struct cleat_error *reterr)
{
	if (frame->crc != frame_crc(frame, payload))
		return refuse(reterr, -EBADMSG, "a frame's checksum is wrong");
	return 0;
}
