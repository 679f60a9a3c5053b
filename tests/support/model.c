/* SPDX-License-Identifier: BSD-2-Clause */
#include <poll.h>
#include <sys/socket.h>

#include "tests/support/model.h"

static int serve_version(struct model *model, const struct peer_message *m)
{
	struct {
		struct cleat_wire_version version;
		char json[4096];
	} reply = { .version = { 0, 1 } };
	size_t size = sizeof(reply.version);

	if (model->json) {
		strcpy(reply.json, model->json);
		size += strlen(model->json) + 1;
	}
	return peer_reply(model->fd, m, &reply, size, NULL, 0);
}

static int serve_info(struct model *model, const struct peer_message *m)
{
	struct cleat_wire_device_info reply = {
		.argsz = sizeof(reply),
		.flags = 3, /* reset, PCI */
		.num_regions = model->num_regions,
		.num_irqs = MODEL_IRQS,
	};

	return peer_reply(model->fd, m, &reply, sizeof(reply), NULL, 0);
}

static int serve_region_info(struct model *model, const struct peer_message *m)
{
	struct cleat_wire_region_info reply;

	memcpy(&reply, m->body, sizeof(reply));
	reply.argsz = sizeof(reply);
	if (reply.index < MODEL_REGIONS) {
		reply.size = model->regions[reply.index].length;
		reply.flags = model->regions[reply.index].flags;
	}
	return peer_reply(model->fd, m, &reply, sizeof(reply), NULL, 0);
}

static int serve_irq_info(struct model *model, const struct peer_message *m)
{
	struct cleat_wire_irq_info reply;

	memcpy(&reply, m->body, sizeof(reply));
	reply.flags = 1; /* eventfd */
	if (reply.index < MODEL_IRQS)
		reply.count = model->irqs[reply.index];
	return peer_reply(model->fd, m, &reply, sizeof(reply), NULL, 0);
}

/* 0 if the access is inside what the model keeps. */
static int find_memory(struct model *model, const struct peer_message *m,
		       struct cleat_wire_access *access, uint8_t **ret_at)
{
	if (m->length < sizeof(*access))
		return -EINVAL;
	memcpy(access, m->body, sizeof(*access));
	if (access->region >= MODEL_REGIONS || access->offset > MODEL_BYTES ||
	    access->count > MODEL_BYTES - access->offset)
		return -EINVAL;
	*ret_at = model->memory[access->region] + access->offset;
	return 0;
}

static int serve_read(struct model *model, const struct peer_message *m)
{
	static __thread struct {
		struct cleat_wire_access access;
		uint8_t data[MODEL_BYTES];
	} reply;
	uint8_t *at;

	if (find_memory(model, m, &reply.access, &at))
		return peer_reply_error(model->fd, m, EINVAL);
	pthread_mutex_lock(&model->lock);
	memcpy(reply.data, at, reply.access.count);
	pthread_mutex_unlock(&model->lock);
	return peer_reply(model->fd, m, &reply,
			  sizeof(reply.access) + reply.access.count, NULL, 0);
}

static int serve_write(struct model *model, const struct peer_message *m)
{
	struct cleat_wire_access access;
	uint8_t *at;

	if (find_memory(model, m, &access, &at) ||
	    m->length != sizeof(access) + access.count)
		return peer_reply_error(model->fd, m, EINVAL);
	pthread_mutex_lock(&model->lock);
	memcpy(at, (uint8_t *)m->body + sizeof(access), access.count);
	pthread_mutex_unlock(&model->lock);
	if (m->header.flags & PEER_NO_REPLY)
		return 0;
	return peer_reply(model->fd, m, &access, sizeof(access), NULL, 0);
}

int model_answer(struct model *model, const struct peer_message *m)
{
	switch (m->header.command) {
	case VFIO_USER_VERSION:
		return serve_version(model, m);
	case VFIO_USER_DEVICE_GET_INFO:
		return serve_info(model, m);
	case VFIO_USER_DEVICE_GET_REGION_INFO:
		return serve_region_info(model, m);
	case VFIO_USER_DEVICE_GET_IRQ_INFO:
		return serve_irq_info(model, m);
	case VFIO_USER_REGION_READ:
		return serve_read(model, m);
	case VFIO_USER_REGION_WRITE:
		return serve_write(model, m);
	case VFIO_USER_DEVICE_RESET:
	case VFIO_USER_DMA_MAP:
	case VFIO_USER_DMA_UNMAP:
	case VFIO_USER_DEVICE_SET_IRQS:
		return peer_reply(model->fd, m, NULL, 0, NULL, 0);
	default:
		return peer_reply_error(model->fd, m, EINVAL);
	}
}

static int run_model(void *arg)
{
	struct model *model = arg;
	int err = 0;

	while (!err) {
		struct peer_message m;

		if (!wait_fd(model->fd, POLLIN, 60000) ||
		    peer_receive(model->fd, &m))
			break;
		if (m.header.command < 32)
			__atomic_fetch_add(&model->messages[m.header.command],
					   1, __ATOMIC_SEQ_CST);
		err = model->on ? model->on(model, &m) : 0;
		if (err == 0)
			err = model_answer(model, &m);
		else if (err == 1)
			err = 0;
		peer_message_end(&m);
	}
	shutdown(model->fd, SHUT_RDWR);
	return 0;
}

int model_start(struct model *model)
{
	int ends[2];

	peer_pair(ends);
	pthread_mutex_init(&model->lock, NULL);
	model->fd = ends[1];
	for (unsigned i = 0; i < MODEL_REGIONS; i++)
		model->memory[i] = calloc(1, MODEL_BYTES);
	script_start(&model->script, run_model, model);
	return ends[0];
}

void model_end(struct model *model)
{
	script_end(&model->script);
	close(model->fd);
	for (unsigned i = 0; i < MODEL_REGIONS; i++)
		free(model->memory[i]);
}

void model_fill(struct model *model, unsigned region, size_t offset, int byte,
		size_t count)
{
	pthread_mutex_lock(&model->lock);
	memset(model->memory[region] + offset, byte, count);
	pthread_mutex_unlock(&model->lock);
}

unsigned model_count(struct model *model, unsigned command)
{
	return __atomic_load_n(&model->messages[command], __ATOMIC_SEQ_CST);
}

struct cleat_device *model_open(struct model *model,
				struct cleat_device_config *config)
{
	struct cleat_device_config defaults = { .size = sizeof(defaults) };
	struct cleat_device *dev = NULL;
	struct cleat_error why;
	int err;

	if (!config)
		config = &defaults;
	config->fd = model_start(model);
	err = cleat_device_open(config, &dev, &why);
	ATF_REQUIRE_MSG(!err, "open: %s", why.text);
	close(config->fd);
	return dev;
}
