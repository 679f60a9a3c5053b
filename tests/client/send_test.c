/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests that find no room, or that the server does not take whole: the
 * server here stops reading at a posted write, until the case lets it go on.
 */
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <linux/sockios.h>

#include <cleat/cancel.h>

#include "client/client.h"
#include "tests/support/model.h"

#define RW (CLEAT_REGION_READ | CLEAT_REGION_WRITE)
#define LARGE 300000u
#define PATTERN 0xaa

/**
 * struct scene
 * @stopped: the server reads no more
 * @go:      until this is posted
 * @mute:    nothing is answered
 * @largest: message so far, of the commands that carry stores
 * @bytes:   that came so far
 * @read_id: of the last region read
 * @intact:  the large request came as it was sent
 */
struct scene {
	struct model model;
	struct cleat_device *dev;
	sem_t stopped;
	sem_t go;
	atomic_bool stop;
	atomic_bool mute;
	atomic_uint largest;
	atomic_ulong bytes;
	atomic_bool intact;
	atomic_uint served;
	atomic_uint read_id;
};

static void look_at_large(struct scene *scene, const struct peer_message *m)
{
	const uint8_t *body = m->body;
	size_t head = sizeof(struct cleat_wire_mig_data);
	bool intact = m->length == head + LARGE;

	for (size_t i = head; i < m->length && intact; i++)
		intact = body[i] == PATTERN;
	atomic_store(&scene->intact, intact);
}

static int on_message(struct model *model, const struct peer_message *m)
{
	struct scene *scene = model->arg;
	struct cleat_wire_mig_data echo = { .argsz = sizeof(echo) };

	atomic_fetch_add(&scene->bytes, m->header.size);
	if (m->header.command == VFIO_USER_REGION_READ)
		atomic_store(&scene->read_id, m->header.id);
	if (m->header.size > atomic_load(&scene->largest))
		atomic_store(&scene->largest, m->header.size);
	if (atomic_exchange(&scene->stop, false)) {
		sem_post(&scene->stopped);
		sem_wait(&scene->go);
	}
	if (m->header.flags & PEER_REPLY || scene->mute)
		return 1;
	if (m->header.command == VFIO_USER_MIG_DATA_WRITE) {
		look_at_large(scene, m);
		return peer_reply(model->fd, m, &echo, sizeof(echo), NULL, 0)
			       ? -EPIPE
			       : 1;
	}
	if (m->header.command == VFIO_USER_REGION_WRITE_MULTI &&
	    !(m->header.flags & PEER_NO_REPLY))
		return peer_reply(model->fd, m, m->body, 8, NULL, 0) ? -EPIPE
								     : 1;
	return m->header.command == VFIO_USER_REGION_WRITE_MULTI;
}

static void scene_begin(struct scene *scene, const char *json,
			struct cleat_device_config *config)
{
	*scene = (struct scene){ 0 };
	scene->model.json = json;
	scene->model.num_regions = 1;
	scene->model.regions[0].length = 65536;
	scene->model.regions[0].flags = RW;
	scene->model.on = on_message;
	scene->model.arg = scene;
	sem_init(&scene->stopped, 0, 0);
	sem_init(&scene->go, 0, 0);
	scene->dev = model_open(&scene->model, config);
}

static void scene_stop(struct scene *scene)
{
	uint32_t zero = 0;

	atomic_store(&scene->stop, true);
	ATF_REQUIRE_EQ(0, cleat_region_post(scene->dev, 0, 64, &zero, 4));
	sem_wait(&scene->stopped);
}

static void scene_end(struct scene *scene)
{
	cleat_device_unref(scene->dev);
	model_end(&scene->model);
	sem_destroy(&scene->stopped);
	sem_destroy(&scene->go);
}

static int write_large(void *arg)
{
	struct scene *scene = arg;
	struct cleat_wire_mig_data head = { 8 + LARGE, LARGE }, reply;
	uint8_t *data = malloc(LARGE);
	struct cleat_call call = {
		.command = VFIO_USER_MIG_DATA_WRITE,
		.deadline_class = CLEAT_CALL_QUIESCE,
		.head = &head,
		.head_size = sizeof(head),
		.data = data,
		.data_size = LARGE,
		.reply = &reply,
		.reply_size = sizeof(reply),
	};
	int err;

	memset(data, PATTERN, LARGE);
	err = cleat_call(scene->dev, &call, NULL);
	free(data);
	return err;
}

static int serve_dma(void *opaque, struct cleat_inbound *in)
{
	struct scene *scene = opaque;

	memcpy(in->reply, in->payload, 16);
	memset(in->reply + 16, 0x44, 8);
	in->reply_size = 24;
	atomic_fetch_add(&scene->served, 1);
	return 0;
}

/* So much of the large request lies in the socket that no more finds room. */
static bool is_stuck(struct scene *scene)
{
	int bytes = 0;

	ioctl(scene->model.fd, SIOCINQ, &bytes);
	return bytes > 100000;
}

/*
 * The server asks for guest memory while half of a request is out: the answer
 * waits until the other half is.
 */
CLEAT_TC(large__server_asks_meanwhile)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .flags = CLEAT_DEVICE_NO_TWIN };
	struct cleat_wire_dma dma = { 0x1000, 8 };
	struct cleat_device_stats stats = { .size = sizeof(stats) };
	struct script script;
	struct scene scene;

	scene_begin(&scene, NULL, &config);
	cleat_device_serve(scene.dev, VFIO_USER_DMA_READ, serve_dma, &scene);
	scene_stop(&scene);
	script_start(&script, write_large, &scene);
	REQUIRE_SOON(is_stuck(&scene));
	ATF_REQUIRE_EQ(0, peer_command(scene.model.fd, 7, VFIO_USER_DMA_READ,
				       &dma, sizeof(dma), NULL, 0));
	REQUIRE_SOON(atomic_load(&scene.served) == 1);
	sem_post(&scene.go);
	script_end(&script);
	ATF_CHECK(atomic_load(&scene.intact));
	REQUIRE_SOON(model_count(&scene.model, VFIO_USER_DMA_READ) == 1);
	ATF_REQUIRE_EQ(0, cleat_device_stats(scene.dev, &stats));
	/* (our answer too) */
	ATF_CHECK_EQ(atomic_load(&scene.bytes), stats.bytes_sent);
	cleat_device_serve(scene.dev, VFIO_USER_DMA_READ, NULL, NULL);
	scene_end(&scene);
}

/* What a server says it takes in one message holds for a batch too. */
CLEAT_TC(batch__server_takes_little)
{
	static struct cleat_region_store stores[500];
	struct scene scene;

	scene_begin(&scene,
		    "{\"capabilities\":{\"max_data_xfer_size\":1024,"
		    "\"write_multiple\":true}}",
		    NULL);
	for (unsigned i = 0; i < 500; i++) {
		stores[i].offset = 4 * i;
		stores[i].count = 4;
	}
	atomic_store(&scene.largest, 0);
	ATF_REQUIRE_EQ(0,
		       cleat_region_write_batch(scene.dev, stores, 500, true));
	ATF_CHECK(model_count(&scene.model, VFIO_USER_REGION_WRITE_MULTI));
	ATF_CHECK_EQ(16 + 8 + 1024 / 24 * 24, atomic_load(&scene.largest));
	scene_end(&scene);
}

/* The reply of a call that was given up, and the server's own requests after
 * that, are looked at by somebody, though no call is waiting. */
CLEAT_TC(abandon__server_is_heard)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .flags = CLEAT_DEVICE_NO_TWIN };
	struct cleat_wire_access asked = { 0, 0, 4 };
	struct cleat_wire_dma dma = { 0x1000, 8 };
	struct cleat_call call = {
		.command = VFIO_USER_REGION_READ,
		.head = &asked,
		.head_size = sizeof(asked),
	};
	struct scene scene;

	scene_begin(&scene, NULL, &config);
	cleat_device_serve(scene.dev, VFIO_USER_DMA_READ, serve_dma, &scene);
	ATF_REQUIRE_EQ(0, cleat_call_start(scene.dev, &call));
	cleat_call_abandon(scene.dev, &call);
	ATF_REQUIRE_EQ(0, peer_command(scene.model.fd, 7, VFIO_USER_DMA_READ,
				       &dma, sizeof(dma), NULL, 0));
	REQUIRE_SOON(atomic_load(&scene.served) == 1);
	ATF_CHECK_EQ(0, cleat_device_failure(scene.dev, NULL));
	cleat_device_serve(scene.dev, VFIO_USER_DMA_READ, NULL, NULL);
	scene_end(&scene);
}

static uint64_t requests(struct scene *scene)
{
	struct cleat_device_stats stats = { .size = sizeof(stats) };

	ATF_REQUIRE_EQ(0, cleat_device_stats(scene->dev, &stats));
	return stats.requests;
}

/* --- Calls that end before they are sent ------------------------------------
 */

struct small {
	struct scene *scene;
	struct cleat_wire_access asked, reply;
	uint32_t value;
	struct cleat_call call;
	int expect;
};

static void small_begin(struct small *small, struct scene *scene)
{
	*small = (struct small){ .scene = scene,
				 .asked = { 0, 0, 4 },
				 .expect = -ETIMEDOUT };
	small->call = (struct cleat_call){
		.command = VFIO_USER_REGION_READ,
		.deadline_class = CLEAT_CALL_ACCESS,
		.flags = CLEAT_CALL_KEPT,
		.head = &small->asked,
		.head_size = sizeof(small->asked),
		.reply = &small->reply,
		.reply_min = sizeof(small->reply),
		.reply_size = sizeof(small->reply),
		.reply_data = &small->value,
		.reply_data_size = 4,
	};
}

static int run_small(void *arg)
{
	struct small *small = arg;
	int err = cleat_call(small->scene->dev, &small->call, NULL);

	return err == small->expect ? 0 : err ? err : -EBADMSG;
}

static void expire_small(struct small *small, struct script *script)
{
	struct deadline spent = deadline_in(PATIENCE_MS);

	cleat_call_expire(small->scene->dev, &small->call);
	script_end(script);
	ATF_CHECK(deadline_spent(&spent) < 1000);
}

/* Another's request is half out; this one waits for its end. */
CLEAT_TC(expire__at_the_gate)
{
	struct script large, script;
	struct scene scene;
	struct small small;
	uint64_t begun;

	scene_begin(&scene, NULL, NULL);
	scene_stop(&scene);
	script_start(&large, write_large, &scene);
	REQUIRE_SOON(is_stuck(&scene));
	begun = requests(&scene);
	small_begin(&small, &scene);
	script_start(&script, run_small, &small);
	REQUIRE_SOON(requests(&scene) == begun + 1);
	expire_small(&small, &script);
	sem_post(&scene.go);
	script_end(&large);
	ATF_CHECK(atomic_load(&scene.intact));
	scene_end(&scene);
}

#define MOST 511

/* As many as there can be are unanswered; this one waits for a slot. */
CLEAT_TC(expire__no_slot)
{
	static struct small others[MOST];
	struct script script;
	struct scene scene;
	struct small small;

	scene_begin(&scene, NULL, NULL);
	atomic_store(&scene.mute, true);
	for (unsigned i = 0; i < MOST; i++) {
		small_begin(&others[i], &scene);
		ATF_REQUIRE_EQ(0, cleat_call_start(scene.dev, &others[i].call));
	}
	small_begin(&small, &scene);
	script_start(&script, run_small, &small);
	/* Until it waits, of which nothing tells; before that it ends as well.
	 */
	usleep(50000);
	expire_small(&small, &script);
	for (unsigned i = 0; i < MOST; i++)
		cleat_call_abandon(scene.dev, &others[i].call);
	scene_end(&scene);
}

static void *write_until_cancelled(void *arg)
{
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, NULL);
	write_large(arg);
	pthread_testcancel();
	return NULL;
}

/* A thread that is cancelled with half a request out sends the other half
 * first: nobody else could send or read any more. */
CLEAT_TC(cancel__thread_half_way)
{
	struct scene scene;
	pthread_t thread;
	uint32_t value;
	void *result;

	if (is_slowed() && !on_valgrind())
		atf_tc_skip("built for a sanitizer, with libc's socket calls");
	scene_begin(&scene, NULL, NULL);
	scene_stop(&scene);
	ATF_REQUIRE_EQ(0, pthread_create(&thread, NULL, write_until_cancelled,
					 &scene));
	REQUIRE_SOON(is_stuck(&scene));
	ATF_REQUIRE_EQ(0, pthread_cancel(thread));
	sem_post(&scene.go);
	ATF_REQUIRE_EQ(0, pthread_join(thread, &result));
	ATF_CHECK_EQ(PTHREAD_CANCELED, result);
	ATF_CHECK_EQ(0, cleat_region_read(scene.dev, 0, 0, &value, 4));
	ATF_CHECK(atomic_load(&scene.intact));
	scene_end(&scene);
}

/* --- A reply to what was not sent -------------------------------------------
 *
 * Ids can be guessed. The request waits for room and is given up; by then a
 * part of a reply to it has come. The rest must not reach who has the slot
 * next.
 */

#define GENERATION 512u
#define BEGUN 100u
#define GUESSED 8000u

/* Nothing finds room any more: who would have to wait is called back. */
static void fill_socket(struct scene *scene)
{
	struct cleat_cancel *cancel;
	uint32_t zero = 0;
	int err;

	ATF_REQUIRE_EQ(0, cleat_cancel_create(&cancel));
	cleat_cancel_enter(cancel);
	cleat_cancel_set(cancel);
	do {
		err = cleat_region_post(scene->dev, 0, 64, &zero, 4);
	} while (!err);
	ATF_REQUIRE_EQ(-ECANCELED, err);
	cleat_cancel_enter(NULL);
	cleat_cancel_destroy(cancel);
}

static int never_sent(void *arg)
{
	struct scene *scene = arg;
	char *data = calloc(1, 60000);
	int err = cleat_device_feature(scene->dev, 1, CLEAT_FEATURE_GET, data,
				       0, 60000, NULL);

	free(data);
	return err == -ETIMEDOUT ? 0 : err ? err : -EBADMSG;
}

static int read_guarded(void *arg)
{
	struct scene *scene = arg;
	struct {
		uint32_t value;
		uint8_t guard[2 * GUESSED];
	} room = { 0 };
	int err = cleat_region_read(scene->dev, 0, 0, &room.value, 4);

	for (unsigned i = 0; i < sizeof(room.guard) && !err; i++)
		err = room.guard[i] ? -EBADMSG : 0;
	return err || room.value == 0x33333333 ? err : -EBADMSG;
}

static void begin_guessed(struct scene *scene, const uint8_t *body)
{
	struct cleat_header header = {
		.id = (uint16_t)(atomic_load(&scene->read_id) + GENERATION),
		.command = VFIO_USER_DEVICE_FEATURE,
		.size = sizeof(header) + GUESSED,
		.flags = CLEAT_HEADER_REPLY,
	};
	int fd = scene->model.fd;

	ATF_REQUIRE_EQ(0, peer_send_raw(fd, &header, sizeof(header), NULL, 0));
	ATF_REQUIRE_EQ(0, peer_send_raw(fd, body, BEGUN, NULL, 0));
}

CLEAT_TC(reply__to_what_was_not_sent)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .quiesce_ms = 300 };
	static uint8_t body[GUESSED];
	struct script given_up, next;
	struct scene scene;
	uint32_t value;
	uint64_t begun;

	memset(body, 0x41, sizeof(body));
	scene_begin(&scene, NULL, &config);
	model_fill(&scene.model, 0, 0, 0x33, 4);
	ATF_REQUIRE_EQ(0, cleat_region_read(scene.dev, 0, 0, &value, 4));
	scene_stop(&scene);
	fill_socket(&scene);
	begun = requests(&scene);
	script_start(&given_up, never_sent, &scene);
	REQUIRE_SOON(requests(&scene) == begun + 1);
	begin_guessed(&scene, body);
	script_end(&given_up);
	script_start(&next, read_guarded, &scene);
	REQUIRE_SOON(requests(&scene) == begun + 2);
	ATF_REQUIRE_EQ(0, peer_send_raw(scene.model.fd, body + BEGUN,
					GUESSED - BEGUN, NULL, 0));
	sem_post(&scene.go);
	script_end(&next);
	scene_end(&scene);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, expire__at_the_gate);
	ATF_TP_ADD_TC(tp, expire__no_slot);
	ATF_TP_ADD_TC(tp, cancel__thread_half_way);
	ATF_TP_ADD_TC(tp, reply__to_what_was_not_sent);
	ATF_TP_ADD_TC(tp, large__server_asks_meanwhile);
	ATF_TP_ADD_TC(tp, batch__server_takes_little);
	ATF_TP_ADD_TC(tp, abandon__server_is_heard);
	return atf_no_error();
}
