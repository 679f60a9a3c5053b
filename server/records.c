/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device's state as a run of records: first what it is called, then the
 * device's own, then ours, then the end. On the wire there are only bytes, cut
 * wherever the client likes.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "server/server.h"

enum {
	HELLO = 0x43535631, /* tells at once what is no state of this library */
	DEVICE = 1,
	OURS = 2,
	END = 3,
	NONE = 4,
};

struct hello {
	char name[32];
	uint32_t version;
};

struct ours {
	uint32_t config_length;
	uint32_t table_length;
	uint32_t level; /* of INTx */
};

void cleat_srv_records_begin(struct cleat_srv_records *records)
{
	records->at = records->length = 0;
	records->number = 0;
	records->next = HELLO;
	records->err = 0;
}

static uint32_t crc_of(const struct cleat_srv_records *records)
{
	uint32_t crc = cleat_crc32c(0, &records->head,
				    offsetof(struct cleat_srv_record, crc));

	return cleat_crc32c(crc, records->body, records->head.length);
}

static uint32_t config_length(const struct cleat_server *srv)
{
	return srv->pci ? srv->pci->length : 0;
}

static uint32_t table_length(const struct cleat_server *srv)
{
	return srv->pci && srv->pci->table ?
		       srv->pci->config.msix_vectors *
			       (uint32_t)PCI_MSIX_ENTRY_SIZE :
		       0;
}

/* ---- Out ---------------------------------------------------------- */

static int make_hello(struct cleat_server *srv, uint8_t *body)
{
	struct cleat_srv_migration *mig = srv->mig;
	struct hello hello = { .version = mig->ops.version };

	memcpy(hello.name, mig->name, sizeof(hello.name));
	memcpy(body, &hello, sizeof(hello));
	mig->out.next = DEVICE;
	return sizeof(hello);
}

static int make_ours(struct cleat_server *srv, uint8_t *body)
{
	struct ours ours = {
		.config_length = config_length(srv),
		.table_length = table_length(srv),
		.level = srv->irqs[CLEAT_IRQ_INTX].count &&
			 srv->irqs[CLEAT_IRQ_INTX].vectors[0].level,
	};

	memcpy(body, &ours, sizeof(ours));
	body += sizeof(ours);
	if (ours.config_length)
		memcpy(body, srv->pci->data, ours.config_length);
	if (ours.table_length)
		memcpy(body + ours.config_length, srv->pci->table,
		       ours.table_length);
	srv->mig->out.next = END;
	return (int)(sizeof(ours) + ours.config_length + ours.table_length);
}

/* The next record, ready to go; 1, 0 when there is none, -errno. */
static int make(struct cleat_server *srv)
{
	struct cleat_srv_migration *mig = srv->mig;
	struct cleat_srv_records *out = &mig->out;
	uint32_t type = out->next;
	int n = 0;

	if (type == HELLO)
		n = make_hello(srv, out->body);
	if (type == DEVICE)
		n = mig->ops.save(srv->opaque, out->body, sizeof(out->body));
	if (type == DEVICE && !n) {
		if (mig->state != CLEAT_SERVER_SAVING)
			return 0;
		out->next = type = OURS;
	}
	if (type == OURS)
		n = make_ours(srv, out->body);
	if (type == NONE || n < 0 || n > (int)sizeof(out->body))
		return n < 0 ? n : type == NONE ? 0 : -EIO;
	if (type == END)
		out->next = NONE;
	out->head = (struct cleat_srv_record){
		.type = type,
		.length = (uint32_t)n,
		.number = out->number++,
	};
	out->head.crc = crc_of(out);
	out->length = sizeof(out->head) + (size_t)n;
	out->at = 0;
	return 1;
}

/* The head and the body lie one behind the other. */
_Static_assert(offsetof(struct cleat_srv_records, body) ==
		       sizeof(struct cleat_srv_record),
	       "a record is sent as it lies in memory");

int64_t cleat_srv_records_out(struct cleat_server *srv, uint8_t *buf,
			      size_t room)
{
	struct cleat_srv_records *out = &srv->mig->out;
	size_t done = 0, part;

	while (done < room) {
		if (out->at == out->length) {
			int more = out->err ? out->err : make(srv);

			if (more < 0)
				out->err = more;
			if (more < 0 && !done)
				return more;
			if (more <= 0)
				break;
		}
		part = out->length - out->at;
		if (part > room - done)
			part = room - done;
		memcpy(buf + done, (uint8_t *)&out->head + out->at, part);
		out->at += part;
		done += part;
	}
	return (int64_t)done;
}

uint64_t cleat_srv_records_left(struct cleat_server *srv)
{
	struct cleat_srv_migration *mig = srv->mig;
	uint64_t left = mig->out.length - mig->out.at;

	if (mig->ops.left)
		left += mig->ops.left(srv->opaque);
	if (mig->out.next != NONE)
		left += config_length(srv) + table_length(srv);
	return left;
}

/* ---- In ----------------------------------------------------------- */

static int check_head(const struct cleat_srv_records *in)
{
	const struct cleat_srv_record *head = &in->head;

	if (head->number != in->number || head->length > sizeof(in->body))
		return -EBADMSG;
	if (head->type == in->next)
		return 0;
	/* After the first comes any number of the device's own. */
	return in->next == DEVICE && head->type == OURS ? 0 : -EBADMSG;
}

static int take_hello(struct cleat_server *srv, struct cleat_srv_records *in)
{
	struct hello hello;

	if (in->head.length != sizeof(hello))
		return -EBADMSG;
	memcpy(&hello, in->body, sizeof(hello));
	if (memcmp(hello.name, srv->mig->name, sizeof(hello.name)))
		return -EXDEV;
	if (hello.version > srv->mig->ops.version)
		return -EPROTONOSUPPORT;
	in->version = hello.version;
	in->next = DEVICE;
	return 0;
}

/* Kept until the whole has come. */
static int take_ours(struct cleat_server *srv, struct cleat_srv_records *in)
{
	struct cleat_srv_migration *mig = srv->mig;
	struct ours ours;

	if (in->head.length < sizeof(ours))
		return -EBADMSG;
	memcpy(&ours, in->body, sizeof(ours));
	if (ours.config_length != config_length(srv) ||
	    ours.table_length != table_length(srv) ||
	    in->head.length != sizeof(ours) + ours.config_length +
				       ours.table_length)
		return -EXDEV;
	if (ours.config_length)
		memcpy(mig->config, in->body + sizeof(ours),
		       ours.config_length);
	if (ours.table_length)
		memcpy(mig->table,
		       in->body + sizeof(ours) + ours.config_length,
		       ours.table_length);
	mig->level = ours.level;
	in->next = END;
	return 0;
}

static int take(struct cleat_server *srv)
{
	struct cleat_srv_records *in = &srv->mig->in;

	if (in->head.crc != crc_of(in))
		return -EBADMSG;
	in->number++;
	in->at = 0;
	switch (in->head.type) {
	case HELLO:
		return take_hello(srv, in);
	case DEVICE:
		return srv->mig->ops.load(srv->opaque, in->version, in->body,
					  in->head.length);
	case OURS:
		return take_ours(srv, in);
	}
	in->next = NONE;
	return in->head.length ? -EBADMSG : 0;
}

static int feed(struct cleat_server *srv, const uint8_t **data, size_t *count)
{
	struct cleat_srv_records *in = &srv->mig->in;
	size_t want = sizeof(in->head), part;

	if (in->at >= want)
		want += in->head.length;
	part = want - in->at < *count ? want - in->at : *count;
	memcpy((uint8_t *)&in->head + in->at, *data, part);
	in->at += part;
	*data += part;
	*count -= part;
	if (in->at < want)
		return 0;
	if (want == sizeof(in->head)) {
		int err = check_head(in);

		if (err || in->head.length)
			return err;
	}
	return take(srv);
}

int cleat_srv_records_in(struct cleat_server *srv, const uint8_t *data,
			 size_t count)
{
	struct cleat_srv_records *in = &srv->mig->in;

	while (count && !in->err) {
		in->err = feed(srv, &data, &count);
		if (in->err > 0)
			in->err = -EIO;
	}
	return in->err;
}

/*
 * The device looks at its configuration space while it takes over, so that has
 * to be there first; and be what it was if the device then refuses.
 */
static int take_over(struct cleat_server *srv)
{
	struct cleat_srv_migration *mig = srv->mig;
	uint32_t length = config_length(srv);
	uint8_t *old;
	int err;

	if (!srv->pci)
		return mig->ops.loaded(srv->opaque);
	old = malloc(length + table_length(srv));
	if (!old)
		return -ENOMEM;
	memcpy(old, srv->pci->data, length);
	memcpy(old + length, srv->pci->table, table_length(srv));
	cleat_srv_pci_restore(srv->pci, mig->config, mig->table);
	err = mig->ops.loaded(srv->opaque);
	if (err)
		cleat_srv_pci_restore(srv->pci, old, old + length);
	free(old);
	return err;
}

int cleat_srv_records_done(struct cleat_server *srv)
{
	struct cleat_srv_migration *mig = srv->mig;
	struct cleat_srv_records *in = &mig->in;

	if (in->err)
		return in->err;
	/* Called off before the first byte: it is what it was. */
	if (!in->number && !in->at)
		return 0;
	if (in->next != NONE || in->at)
		return -EBADMSG;
	in->err = take_over(srv);
	if (!in->err && mig->level)
		cleat_server_irq_raise(srv, CLEAT_IRQ_INTX, 0);
	return in->err;
}
