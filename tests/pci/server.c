/* SPDX-License-Identifier: BSD-2-Clause */
/* The rig's server: no device, only bytes and a log. */
#include <sys/socket.h>

#include "tests/pci/rig.h"
#include "wire/wire.h"

static void put16(struct rig *rig, unsigned at, uint16_t value)
{
	memcpy(rig->server.config + at, &value, 2);
}

static void put32(struct rig *rig, unsigned at, uint32_t value)
{
	memcpy(rig->server.config + at, &value, 4);
}

static void put_caps(struct rig *rig)
{
	put16(rig, RIG_PM, PCI_CAP_ID_PM | RIG_MSI << 8);
	put16(rig, RIG_PM + PCI_PM_PMC, 3);
	put16(rig, RIG_MSI, PCI_CAP_ID_MSI | RIG_MSIX << 8);
	put16(rig, RIG_MSI + PCI_MSI_FLAGS,
	      PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 3 << 1);
	put16(rig, RIG_MSIX, PCI_CAP_ID_MSIX | RIG_EXPRESS << 8);
	put16(rig, RIG_MSIX + PCI_MSIX_FLAGS, 8 - 1);
	put32(rig, RIG_MSIX + PCI_MSIX_TABLE, 0x2000);
	put32(rig, RIG_MSIX + PCI_MSIX_PBA, 0x3000);
	put16(rig, RIG_EXPRESS, PCI_CAP_ID_EXP);
	put16(rig, RIG_EXPRESS + PCI_EXP_FLAGS, 2);
	put32(rig, RIG_EXPRESS + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_FLR);
}

void rig_device(struct rig *rig)
{
	struct rig_server *server = &rig->server;

	pthread_mutex_init(&server->lock, NULL);
	pthread_cond_init(&server->cond, NULL);
	server->fd = -1;
	server->unmask_fd = -1;
	memset(server->vector_fd, -1, sizeof(server->vector_fd));
	server->config_length = 4096;
	server->mark = 0x10;
	put16(rig, PCI_VENDOR_ID, 0x1b36);
	put16(rig, PCI_DEVICE_ID, 0x0010);
	put16(rig, PCI_STATUS, PCI_STATUS_CAP_LIST);
	put32(rig, PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_MEM_TYPE_64);
	put32(rig, PCI_BASE_ADDRESS_2, PCI_BASE_ADDRESS_MEM_PREFETCH);
	put32(rig, PCI_BASE_ADDRESS_3, PCI_BASE_ADDRESS_SPACE_IO);
	server->config[PCI_CAPABILITY_LIST] = RIG_PM;
	server->config[PCI_INTERRUPT_PIN] = 1;
	server->bar_length[0] = 0x4000;
	server->bar_length[2] = 0x1000;
	server->bar_length[3] = 32;
	server->bar_length[6] = 0x10000;
	server->irq_count[VFIO_PCI_INTX_IRQ_INDEX] = 1;
	server->irq_count[VFIO_PCI_MSI_IRQ_INDEX] = 8;
	server->irq_count[VFIO_PCI_MSIX_IRQ_INDEX] = 8;
	for (unsigned i = 0; i < 5; i++)
		server->irq_flags[i] = VFIO_IRQ_INFO_EVENTFD;
	server->irq_flags[VFIO_PCI_INTX_IRQ_INDEX] |=
		VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
	put_caps(rig);
}

static void close_vectors(struct rig_server *server, unsigned index)
{
	for (unsigned i = 0; i < RIG_VECTORS; i++) {
		if (server->vector_fd[index][i] >= 0)
			close(server->vector_fd[index][i]);
		server->vector_fd[index][i] = -1;
	}
	if (index == VFIO_PCI_INTX_IRQ_INDEX && server->unmask_fd >= 0) {
		close(server->unmask_fd);
		server->unmask_fd = -1;
	}
}

/* SET_IRQS: argsz, flags, index, start, count. */
struct irq_set {
	uint32_t argsz, flags, index, start, count;
};

static int take_vectors(struct rig *rig, const struct irq_set *set,
			struct peer_message *message)
{
	struct rig_server *server = &rig->server;

	rig_say(rig, "arm %u %u+%u", set->index, set->start, set->count);
	for (unsigned i = 0; i < message->nr_fds && i < set->count; i++) {
		int *fd = &server->vector_fd[set->index][set->start + i];

		if (*fd >= 0)
			close(*fd);
		*fd = message->fds[i];
	}
	message->nr_fds = 0;
	return 0;
}

static int set_irqs(struct rig *rig, struct peer_message *message)
{
	struct rig_server *server = &rig->server;
	struct irq_set set;
	int err = 0;

	if (message->length < sizeof(set))
		return EINVAL;
	memcpy(&set, message->body, sizeof(set));
	if (set.index > 4 || set.start + set.count > RIG_VECTORS)
		return EINVAL;
	pthread_mutex_lock(&server->lock);
	if (set.flags & VFIO_IRQ_SET_ACTION_UNMASK) {
		rig_say(rig, message->nr_fds ? "unmask-fd %u" : "unmask %u",
			set.index);
		if (message->nr_fds == 1) {
			server->unmask_fd = message->fds[0];
			message->nr_fds = 0;
		}
	} else if ((set.flags & VFIO_IRQ_SET_ACTION_TRIGGER) && !set.count) {
		rig_say(rig, "off %u", set.index);
		close_vectors(server, set.index);
	} else if (set.flags & VFIO_IRQ_SET_DATA_EVENTFD) {
		err = take_vectors(rig, &set, message);
	}
	pthread_mutex_unlock(&server->lock);
	return err;
}

/* Replies of fixed shape; @body is answered back with what is known. */
static void describe(struct rig_server *server, struct peer_message *message)
{
	struct cleat_wire_device_info *info = message->body;
	struct cleat_wire_region_info *region = message->body;
	struct cleat_wire_irq_info *irq = message->body;

	switch (message->header.command) {
	case VFIO_USER_DEVICE_GET_INFO:
		info->flags = (server->no_reset ? 0 : 1) | 2;
		info->num_regions = 9;
		info->num_irqs = 5;
		break;
	case VFIO_USER_DEVICE_GET_REGION_INFO:
		region->argsz = sizeof(*region);
		region->flags = 3;
		region->cap_offset = 0;
		region->offset = 0;
		region->size = region->index < 7
				       ? server->bar_length[region->index]
			       : region->index == 7 ? server->config_length
						    : 0;
		break;
	default:
		irq->flags = irq->index < 5 ? server->irq_flags[irq->index] : 0;
		irq->count = irq->index < 5 ? server->irq_count[irq->index] : 0;
	}
	peer_reply(server->fd, message, message->body, message->length, NULL,
		   0);
}

static void read_region(struct rig *rig, struct peer_message *message)
{
	struct {
		struct cleat_wire_access access;
		uint8_t data[4096];
	} reply = { 0 };

	memcpy(&reply.access, message->body, sizeof(reply.access));
	if (reply.access.region == 7)
		memcpy(reply.data, rig->server.config + reply.access.offset,
		       reply.access.count);
	else
		memset(reply.data,
		       (int)(rig->server.mark + reply.access.region),
		       reply.access.count);
	peer_reply(rig->server.fd, message, &reply,
		   sizeof(reply.access) + reply.access.count, NULL, 0);
}

static void write_region(struct rig *rig, struct peer_message *message)
{
	struct cleat_wire_access access;
	uint32_t value = 0;

	memcpy(&access, message->body, sizeof(access));
	memcpy(&value, (uint8_t *)message->body + sizeof(access),
	       access.count > 4 ? 4 : access.count);
	if (access.region == 7) {
		rig_say(rig, "config %llx %x",
			(unsigned long long)access.offset, value);
		memcpy(rig->server.config + access.offset,
		       (uint8_t *)message->body + sizeof(access), access.count);
	} else {
		rig_say(rig, "write %u %llx %x", access.region,
			(unsigned long long)access.offset, value);
	}
	peer_reply(rig->server.fd, message, &access, sizeof(access), NULL, 0);
}

static void wait_while_held(struct rig_server *server, unsigned command)
{
	pthread_mutex_lock(&server->lock);
	while (atomic_load(&server->held) & 1u << command) {
		atomic_store(&server->waiting, command);
		pthread_cond_wait(&server->cond, &server->lock);
	}
	atomic_store(&server->waiting, 0);
	pthread_mutex_unlock(&server->lock);
}

static int serve_other(struct rig *rig, struct peer_message *message)
{
	switch (message->header.command) {
	case VFIO_USER_DEVICE_SET_IRQS:
		return set_irqs(rig, message);
	case VFIO_USER_DEVICE_RESET:
		rig_say(rig, "reset");
		return 0;
	default:
		return EINVAL;
	}
}

/* Refused at once, whatever else is held. */
static bool is_too_long(struct rig *rig, struct peer_message *message)
{
	struct cleat_wire_access access;

	if (!rig->server.words_only ||
	    message->header.command != VFIO_USER_REGION_READ)
		return false;
	memcpy(&access, message->body, sizeof(access));
	return access.count > 4;
}

static void serve(struct rig *rig, struct peer_message *message)
{
	unsigned command = message->header.command;
	int err;

	if (message->header.flags & PEER_REPLY) {
		rig_say(rig, "reply %u", message->header.error);
		return;
	}
	if (is_too_long(rig, message)) {
		peer_reply_error(rig->server.fd, message, EINVAL);
		return;
	}
	wait_while_held(&rig->server, command);
	if (atomic_load(&rig->server.refused) & 1u << command) {
		peer_reply_error(rig->server.fd, message, EINVAL);
	} else if (command == VFIO_USER_REGION_READ) {
		read_region(rig, message);
	} else if (command == VFIO_USER_REGION_WRITE) {
		write_region(rig, message);
	} else if (command == VFIO_USER_DEVICE_GET_INFO ||
		   command == VFIO_USER_DEVICE_GET_REGION_INFO ||
		   command == VFIO_USER_DEVICE_GET_IRQ_INFO) {
		describe(&rig->server, message);
	} else {
		err = serve_other(rig, message);
		if (err)
			peer_reply_error(rig->server.fd, message, err);
		else
			peer_reply(rig->server.fd, message, NULL, 0, NULL, 0);
	}
}

static bool wait_for_more(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	return poll(&pollfd, 1, -1) == 1;
}

static void *run(void *arg)
{
	struct rig *rig = arg;
	struct peer_message message;

	if (peer_serve_version(rig->server.fd, 0, 1,
			       "{\"capabilities\":{\"max_msg_fds\":16}}"))
		return NULL;
	while (wait_for_more(rig->server.fd) &&
	       !peer_receive(rig->server.fd, &message)) {
		serve(rig, &message);
		peer_message_end(&message);
	}
	return NULL;
}

void rig_serve(struct rig *rig)
{
	ATF_REQUIRE_EQ(0, pthread_create(&rig->server.thread, NULL, run, rig));
}

void rig_unserve(struct rig *rig)
{
	rig_release(rig);
	shutdown(rig->server.fd, SHUT_RDWR);
	pthread_join(rig->server.thread, NULL);
	close(rig->server.fd);
	for (unsigned i = 0; i < 5; i++)
		close_vectors(&rig->server, i);
}

void rig_fire(struct rig *rig, unsigned index, unsigned vector)
{
	uint64_t one = 1;
	int fd;

	pthread_mutex_lock(&rig->server.lock);
	fd = rig->server.vector_fd[index][vector];
	ATF_CHECK_MSG(fd >= 0, "vector %u is not armed", vector);
	if (fd >= 0)
		ATF_CHECK_EQ(8, write(fd, &one, 8));
	pthread_mutex_unlock(&rig->server.lock);
}

void rig_hold(struct rig *rig, unsigned command)
{
	atomic_fetch_or(&rig->server.held, 1u << command);
}

void rig_release(struct rig *rig)
{
	pthread_mutex_lock(&rig->server.lock);
	atomic_store(&rig->server.held, 0);
	pthread_cond_broadcast(&rig->server.cond);
	pthread_mutex_unlock(&rig->server.lock);
}
