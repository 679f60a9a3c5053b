/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/hostile/scene.h"

#define WORD 0x600df00du

/* What we answer to its own requests is not for the model to answer. */
static int swallow_replies(struct model *model, const struct peer_message *m)
{
	return m->header.flags & PEER_REPLY ? 1 : 0;
}

void scene_begin(struct scene *scene)
{
	uint32_t word = WORD;

	memset(scene, 0, sizeof(*scene));
	scene->good.num_regions = scene->bad.num_regions = 1;
	scene->good.regions[0].length = scene->bad.regions[0].length = 65536;
	scene->good.regions[0].flags = scene->bad.regions[0].flags = RW;
	scene->config.size = sizeof(scene->config);
	scene->config.access_ms = SHORT_MS;
	scene->config.control_ms = SHORT_MS;
	scene->config.quiesce_ms = SHORT_MS;
	scene->good.on = swallow_replies;
	scene->friend = model_open(&scene->good, NULL);
	ATF_REQUIRE_EQ(0, cleat_region_write(scene->friend, 0, 16, &word, 4));
}

static int open_it(struct scene *scene, struct cleat_error *why)
{
	int err;

	scene->config.fd = model_start(&scene->bad);
	err = cleat_device_open(&scene->config, &scene->dev, why);
	close(scene->config.fd);
	return err;
}

void scene_open(struct scene *scene)
{
	struct cleat_error why;
	int err = open_it(scene, &why);

	ATF_REQUIRE_MSG(!err, "open: %s", why.text);
}

void scene_refused(struct scene *scene, int code, const char *reason)
{
	struct deadline spent = deadline_in(PATIENCE_MS);
	struct cleat_error why;
	int err = open_it(scene, &why);

	ATF_REQUIRE_MSG(err, "it was taken on");
	ATF_CHECK_EQ_MSG(code, err, "%d (%s)", err, why.text);
	ATF_CHECK_EQ(err, why.code);
	ATF_CHECK_MATCH(reason, why.text);
	ATF_CHECK(deadline_spent(&spent) < SHORT_MS + SLACK_MS);
	scene->dev = NULL;
	model_end(&scene->bad);
	scene->bad.fd = -1;
	scene_check_friend(scene);
}

int scene_read(struct scene *scene)
{
	struct deadline spent = deadline_in(PATIENCE_MS);
	uint32_t value;
	int err = cleat_region_read(scene->dev, 0, 0, &value, 4);

	ATF_CHECK(deadline_spent(&spent) < SHORT_MS + SLACK_MS);
	return err;
}

void scene_lost(struct scene *scene, int code, const char *reason)
{
	struct cleat_error why;

	REQUIRE_SOON(cleat_device_failure(scene->dev, &why));
	ATF_CHECK_EQ_MSG(code, why.code, "%d (%s)", why.code, why.text);
	ATF_CHECK_MATCH(reason, why.text);
	ATF_CHECK_EQ(-ENOTCONN, scene_read(scene));
}

void scene_stands(struct scene *scene)
{
	struct cleat_error why = { .text = "" };

	ATF_CHECK_MSG(!cleat_device_failure(scene->dev, &why), "%s", why.text);
}

void scene_check_friend(struct scene *scene)
{
	struct deadline spent = deadline_in(PATIENCE_MS);
	uint32_t word = 0;

	ATF_CHECK_EQ(0, cleat_region_read(scene->friend, 0, 16, &word, 4));
	ATF_CHECK_EQ(WORD, word);
	ATF_CHECK_EQ(0, cleat_device_failure(scene->friend, NULL));
	ATF_CHECK(deadline_spent(&spent) < SLACK_MS);
}

void scene_end(struct scene *scene)
{
	struct deadline spent = deadline_in(PATIENCE_MS);

	scene_check_friend(scene);
	if (scene->dev) {
		cleat_device_unref(scene->dev);
		ATF_CHECK(deadline_spent(&spent) < SHORT_MS + SLACK_MS);
		model_end(&scene->bad);
	}
	scene_check_friend(scene);
	cleat_device_unref(scene->friend);
	model_end(&scene->good);
}

int scene_say(struct model *model, struct peer_header header, const void *body,
	      size_t length, const int *fds, unsigned n_fds)
{
	size_t size = sizeof(header) + length;
	char *message = malloc(size);
	int err;

	memcpy(message, &header, sizeof(header));
	if (length)
		memcpy(message + sizeof(header), body, length);
	err = peer_send_raw(model->fd, message, size, fds, n_fds);
	free(message);
	return err ? err : 1;
}

struct peer_header scene_header(const struct peer_message *m, size_t length)
{
	return (struct peer_header){
		.id = m->header.id,
		.command = m->header.command,
		.size = (uint32_t)(sizeof(struct peer_header) + length),
		.flags = PEER_REPLY,
	};
}

bool scene_is_read(const struct peer_message *m)
{
	struct cleat_wire_access access;

	if (m->header.command != VFIO_USER_REGION_READ)
		return false;
	memcpy(&access, m->body, sizeof(access));
	return access.offset == 0;
}

int scene_silent(struct model *model, const struct peer_message *m)
{
	return m->header.command == *(uint16_t *)model->arg;
}

/* --- A guest --------------------------------------------------------------- */

#define BOUND_AT 0x100000

static int add_slot(void *opaque, uint64_t guest, uint64_t length, void *host,
		    uint32_t flags, uint32_t *ret_slot)
{
	struct bound *bound = opaque;

	*ret_slot = bound->slots++;
	return 0;
}

static int remove_slot(void *opaque, uint32_t slot)
{
	struct bound *bound = opaque;

	bound->slots--;
	return 0;
}

void bound_begin(struct bound *bound, struct cleat_device *dev)
{
	struct cleat_binding_config config = { .size = sizeof(config),
					       .device = dev,
					       .ops = &bound->ops };

	*bound = (struct bound){
		.ops = { .size = sizeof(bound->ops), .opaque = bound,
			 .slot_add = add_slot, .slot_remove = remove_slot },
	};
	ATF_REQUIRE_EQ(0, cleat_mmio_create(&bound->mmio));
	ATF_REQUIRE_EQ(0, cleat_mmio_bind(bound->mmio, &config,
					  &bound->binding, NULL));
	ATF_REQUIRE_EQ(0, cleat_binding_place(bound->binding, BOUND_AT));
}

void bound_end(struct bound *bound)
{
	cleat_mmio_unbind(bound->binding);
	cleat_mmio_unref(bound->mmio);
	ATF_CHECK_EQ(0, bound->slots);
}

static void access_bound(struct bound *bound, uint64_t offset, void *value,
			 unsigned length, bool write)
{
	struct deadline spent = deadline_in(PATIENCE_MS);

	ATF_CHECK_EQ(0, cleat_mmio_access(bound->mmio, CLEAT_MEMORY,
					  BOUND_AT + offset, value, length,
					  write));
	ATF_CHECK(deadline_spent(&spent) < SHORT_MS + SLACK_MS);
}

uint64_t bound_load(struct bound *bound, uint64_t offset, unsigned length)
{
	uint64_t value = 0;

	access_bound(bound, offset, &value, length, false);
	return value;
}

void bound_store(struct bound *bound, uint64_t offset, uint64_t value,
		 unsigned length)
{
	access_bound(bound, offset, &value, length, true);
}

/* --- Guest memory ------------------------------------------------------------ */

static void add_range(struct ram *ram, uint64_t guest, void *host,
		      uint32_t rights)
{
	struct cleat_memory_range range = {
		.size = sizeof(range),
		.rights = rights,
		.guest = guest,
		.length = RAM_LENGTH,
		.host = host,
		.fd = -1,
	};

	ATF_REQUIRE_EQ(0, cleat_memory_add(ram->memory, &range));
}

void ram_begin(struct ram *ram)
{
	ram->host = aligned_alloc(4096, 2 * RAM_LENGTH);
	ATF_REQUIRE(ram->host);
	memset(ram->host, 0x5a, 2 * RAM_LENGTH);
	ATF_REQUIRE_EQ(0, cleat_memory_create(&ram->memory));
	add_range(ram, RAM_BOTH, ram->host, CLEAT_READ | CLEAT_WRITE);
	add_range(ram, RAM_READ, ram->host + RAM_LENGTH, CLEAT_READ);
}

void ram_end(struct ram *ram)
{
	cleat_memory_unref(ram->memory);
	for (size_t i = RAM_LENGTH; i < 2 * RAM_LENGTH; i++)
		ATF_REQUIRE_EQ(0x5a, ram->host[i]);
	free(ram->host);
}

int scene_ask(int fd, uint16_t id, uint16_t command, uint64_t address,
	      uint64_t count, size_t data)
{
	struct cleat_wire_dma dma = { address, count };
	size_t length = sizeof(dma) + data;
	uint8_t *body = calloc(1, length);
	int err;

	memcpy(body, &dma, sizeof(dma));
	err = peer_command(fd, id, command, body, length, NULL, 0);
	free(body);
	return err;
}

int scene_told(int fd, uint16_t id, size_t *length)
{
	struct peer_message m;
	int err = peer_receive(fd, &m);

	if (err)
		return err;
	*length = m.length;
	err = m.header.id == id && m.header.flags & PEER_REPLY ?
		      (int)m.header.error : -EBADMSG;
	if (!err && m.header.flags & PEER_ERROR)
		err = -EBADMSG;
	peer_message_end(&m);
	return err;
}
