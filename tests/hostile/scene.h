/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hostile server, a good one, and a program that has a device on each. What
 * the hostile one does is a case's own: scene.bad.on sees each message first.
 *
 *	struct scene scene;
 *
 *	scene_begin(&scene);
 *	scene.bad.on = lie;
 *	scene_refused(&scene, -EPROTO, "why");
 *	scene_end(&scene);
 *
 * Every end of a case looks at the good device: it must not have noticed.
 */
#ifndef TESTS_SCENE_H
#define TESTS_SCENE_H

#include <cleat/cleat.h>

#include "client/client.h"
#include "tests/support/model.h"

#define RW (CLEAT_REGION_READ | CLEAT_REGION_WRITE)
/*
 * Time limits of the hostile device, and within what an open or a call has to
 * be over, on a machine that has other things to do.
 */
#define SHORT_MS (on_valgrind() ? 1000u : 300u)
#define SLACK_MS (on_valgrind() ? 10000u : 3000u)

struct scene {
	struct model bad;
	struct model good;
	struct cleat_device *dev;
	struct cleat_device *friend;
	struct cleat_device_config config; /* of @dev */
};

/* The good device is there, the other can be opened. */
void scene_begin(struct scene *scene);
/* It opens. */
void scene_open(struct scene *scene);
/* It does not, with that code and a reason that matches; in time. */
void scene_refused(struct scene *scene, int code, const char *reason);
/* Read 4 bytes at the start of region 0 of the hostile device. */
int scene_read(struct scene *scene);
/* It is lost, or will soon be, for that reason. */
void scene_lost(struct scene *scene, int code, const char *reason);
/* It is not. */
void scene_stands(struct scene *scene);
/* The good device works. */
void scene_check_friend(struct scene *scene);
void scene_end(struct scene *scene);

/*
 * A reply of the hostile server in which nothing is as it should be: @header
 * as it is, then @length bytes of @body, with descriptors.
 */
int scene_say(struct model *model, struct peer_header header, const void *body,
	      size_t length, const int *fds, unsigned n_fds);
/* A good header for a reply with @length bytes of payload. */
struct peer_header scene_header(const struct peer_message *m, size_t length);

/* Whether the message is a region read at offset 0. */
bool scene_is_read(const struct peer_message *m);

/* A hook that keeps silent at one command, whose number is in @arg. */
int scene_silent(struct model *model, const struct peer_message *m);

/**
 * struct bound - region 0 of a device, where a guest reaches it
 * @slots: that the VMM has now
 */
struct bound {
	struct cleat_vm_ops ops;
	unsigned slots;
	struct cleat_mmio *mmio;
	struct cleat_binding *binding;
};

void bound_begin(struct bound *bound, struct cleat_device *dev);
void bound_end(struct bound *bound);
/* An access of the guest's, which has to end in time. */
uint64_t bound_load(struct bound *bound, uint64_t offset, unsigned length);
void bound_store(struct bound *bound, uint64_t offset, uint64_t value,
		 unsigned length);

/**
 * struct ram - guest memory, by message only
 *
 * RAM_BOTH may be read and written, RAM_READ be read; RAM_LENGTH bytes each,
 * with a gap between. All bytes are 0x5a.
 */
#define RAM_BOTH 0x1000u
#define RAM_READ 0x800000u
#define RAM_LENGTH 0x400000u
struct ram {
	struct cleat_memory *memory;
	uint8_t *host;
};

void ram_begin(struct ram *ram);
/* And nobody has written where he may not. */
void ram_end(struct ram *ram);

/* A DMA request of the server's, that says what the case likes. */
int scene_ask(int fd, uint16_t id, uint16_t command, uint64_t address,
	      uint64_t count, size_t data);
/* Its reply: 0, the error number, or -errno; the payload's length. */
int scene_told(int fd, uint16_t id, size_t *length);

#endif
