/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The devices of other processes, when the machine moves: their state and what
 * the guest sees of them. At the target what comes of a state is kept in a
 * memory file until it is a whole section; the last one until all the rest is
 * there too, because it stops the server, which takes no interrupts from then
 * on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/vmm.h"

#define STATE_MAX (1ull << 40)

static int failed(struct stream *stream, const struct device *device, int err,
		  const struct cleat_error *why)
{
	return cleat_vmm_stream_fail(stream, err, "--device %s: %s",
				     device->path, why->text);
}

static int open_one(struct stream *stream, struct devices *devices,
		    struct device *device)
{
	struct cleat_migration *migration;
	struct cleat_error why = { 0 };
	int err = cleat_migration_create(device->device, 0, &migration, &why);

	if (err)
		return failed(stream, device, err, &why);
	pthread_mutex_lock(&devices->lock);
	device->migration = migration;
	pthread_mutex_unlock(&devices->lock);
	device->state = -1;
	device->loaded = false;
	return 0;
}

int cleat_vmm_travel_open(struct stream *stream, struct devices *devices)
{
	unsigned i;
	int err = 0;

	for (i = 0; !err && i < devices->count; i++)
		err = open_one(stream, devices, &devices->device[i]);
	return err;
}

void cleat_vmm_travel_close(struct devices *devices)
{
	unsigned i;

	for (i = 0; i < devices->count; i++) {
		struct device *device = &devices->device[i];
		struct cleat_migration *migration = device->migration;

		if (!migration)
			continue;
		pthread_mutex_lock(&devices->lock);
		device->migration = NULL;
		pthread_mutex_unlock(&devices->lock);
		cleat_migration_unref(migration);
		if (device->state >= 0)
			close(device->state);
		device->state = -1;
	}
}

void cleat_vmm_travel_cancel(struct devices *devices)
{
	unsigned i;

	pthread_mutex_lock(&devices->lock);
	for (i = 0; i < devices->count; i++)
		if (devices->device[i].migration)
			cleat_migration_cancel(devices->device[i].migration);
	pthread_mutex_unlock(&devices->lock);
}

/* ---- The source ---- */

int cleat_vmm_travel_start(struct stream *stream, struct devices *devices)
{
	struct cleat_error why = { 0 };
	unsigned i;
	int err;

	for (i = 0; i < devices->count; i++) {
		err = cleat_migration_start(devices->device[i].migration, &why);
		if (err)
			return failed(stream, &devices->device[i], err, &why);
	}
	return 0;
}

int cleat_vmm_travel_stop(struct stream *stream, struct devices *devices)
{
	struct cleat_error why = { 0 };
	unsigned i;
	int err;

	for (i = 0; i < devices->count; i++) {
		err = cleat_migration_stop(devices->device[i].migration, &why);
		if (err)
			return failed(stream, &devices->device[i], err, &why);
	}
	return 0;
}

/* Eight bytes: the function's state behind it has to be aligned. */
static int save_function(struct stream *stream, struct device *device,
			 uint64_t slot)
{
	size_t room = cleat_pci_save_size(device->pci);
	struct cleat_error why = { 0 };
	void *buffer = malloc(room);
	ssize_t n;

	if (!buffer)
		return -ENOMEM;
	n = cleat_pci_save(device->pci, buffer, room, &why);
	if (n >= 0) {
		cleat_vmm_stream_begin(stream, SECTION_FUNCTION);
		cleat_vmm_stream_add(stream, &slot, sizeof(slot));
		cleat_vmm_stream_add(stream, buffer, (size_t)n);
	}
	free(buffer);
	return n < 0 ? failed(stream, device, (int)n, &why) :
		       cleat_vmm_stream_send(stream);
}

int cleat_vmm_travel_functions(struct stream *stream, struct devices *devices)
{
	unsigned i;
	int err = 0;

	for (i = 0; !err && i < devices->count; i++)
		err = save_function(stream, &devices->device[i], i + 1);
	return err;
}

struct outlet {
	struct stream *stream;
	uint64_t slot;
};

static int put(void *opaque, const void *buf, size_t count)
{
	struct outlet *outlet = opaque;
	const uint8_t *bytes = buf;
	int err = 0;

	while (!err && count) {
		size_t n = SECTION_MAX - sizeof(outlet->slot);

		if (n > count)
			n = count;
		cleat_vmm_stream_begin(outlet->stream, SECTION_DEVICE);
		cleat_vmm_stream_add(outlet->stream, &outlet->slot,
				     sizeof(outlet->slot));
		cleat_vmm_stream_add(outlet->stream, bytes, n);
		err = cleat_vmm_stream_send(outlet->stream);
		bytes += n;
		count -= n;
	}
	return err;
}

/* A piece without anything: the section is whole. */
static int put_end(struct outlet *outlet)
{
	cleat_vmm_stream_begin(outlet->stream, SECTION_DEVICE);
	cleat_vmm_stream_add(outlet->stream, &outlet->slot,
			     sizeof(outlet->slot));
	return cleat_vmm_stream_send(outlet->stream);
}

int cleat_vmm_travel_save(struct stream *stream, struct devices *devices)
{
	struct cleat_error why = { 0 };
	unsigned i;
	int err = 0;

	for (i = 0; i < devices->count; i++) {
		struct device *device = &devices->device[i];
		struct outlet outlet = { .stream = stream, .slot = i + 1 };
		struct cleat_migration_io io = {
			.size = sizeof(io),
			.opaque = &outlet,
			.write = put,
		};

		err = cleat_migration_save(device->migration, &io, 0, &why);
		if (err)
			return failed(stream, device, err, &why);
		err = put_end(&outlet);
		if (err)
			return err;
	}
	return 0;
}

/* Either end: the device runs with what state it has now. */
int cleat_vmm_travel_run(struct stream *stream, struct devices *devices)
{
	struct cleat_error why = { 0 };
	unsigned i;
	int err, worst = 0;

	for (i = 0; i < devices->count; i++) {
		struct device *device = &devices->device[i];

		if (!device->migration)
			continue;
		err = cleat_migration_run(device->migration, &why);
		if (err)
			worst = failed(stream, device, err, &why);
	}
	return worst;
}

/* Asking it again would bring nothing. */
static bool is_gone(const struct device *device)
{
	struct cleat_migration_info info = { .size = sizeof(info) };

	return cleat_device_failure(device->device, NULL) ||
	       (!cleat_migration_info(device->migration, &info) &&
		info.state == CLEAT_MIGRATION_ERROR);
}

int cleat_vmm_travel_return(struct stream *stream, struct devices *devices)
{
	struct cleat_error why = { 0 };
	unsigned i;
	int err, worst = 0;

	for (i = 0; i < devices->count; i++) {
		struct device *device = &devices->device[i];

		err = cleat_migration_run(device->migration, &why);
		if (err && is_gone(device))
			cleat_vmm_say("--device %s: %s: the guest goes on without it",
				      device->path, why.text);
		else if (err)
			worst = failed(stream, device, err, &why);
	}
	return worst;
}

/* The guest's side of it: interrupts come, doorbells go. */
int cleat_vmm_travel_resume(struct stream *stream, struct devices *devices)
{
	unsigned i;
	int err, worst = 0;

	for (i = 0; i < devices->count; i++) {
		struct device *device = &devices->device[i];

		err = cleat_pci_resume(device->pci);
		if (err)
			worst = cleat_vmm_stream_fail(stream, err,
						      "--device %s: %s",
						      device->path,
						      strerror(-err));
	}
	return worst;
}

/* ---- The target ---- */

static struct device *find(struct devices *devices, struct section *section)
{
	uint64_t slot;

	if (cleat_vmm_section_take(section, &slot, sizeof(slot)) || !slot ||
	    slot > devices->count)
		return NULL;
	return &devices->device[slot - 1];
}

int cleat_vmm_travel_function(struct stream *stream, struct devices *devices,
			      struct section *section)
{
	struct device *device = find(devices, section);
	struct cleat_error why = { 0 };
	int err;

	if (!device || device->loaded)
		return -EBADMSG;
	err = cleat_pci_load(device->pci, section->data, section->left, &why);
	if (err)
		return failed(stream, device, err, &why);
	device->loaded = true;
	return 0;
}

static int get(void *opaque, void *buf, size_t count)
{
	struct device *device = opaque;
	uint8_t *bytes = buf;

	while (count) {
		ssize_t n = read(device->state, bytes, count);

		if (n < 0)
			return -errno;
		if (!n)
			return -ENODATA;
		bytes += n;
		count -= (size_t)n;
	}
	return 0;
}

/* What is kept goes to the device. */
static int load_one(struct stream *stream, struct device *device,
		    bool *ret_done)
{
	struct cleat_migration_io io = {
		.size = sizeof(io),
		.opaque = device,
		.read = get,
	};
	struct cleat_error why = { 0 };
	int err;

	if (device->state < 0)
		return -EBADMSG;
	if (lseek(device->state, 0, SEEK_SET) < 0)
		return -errno;
	err = cleat_migration_load(device->migration, &io, ret_done, &why);
	return err ? failed(stream, device, err, &why) : 0;
}

static int load_early(struct stream *stream, struct device *device)
{
	bool done = false;
	int err;

	/* A device that gives nothing while it runs. */
	if (device->state < 0 || lseek(device->state, 0, SEEK_CUR) == 0)
		return 0;
	err = load_one(stream, device, &done);
	if (!err && done)
		err = -EBADMSG;
	if (!err && (ftruncate(device->state, 0) ||
		     lseek(device->state, 0, SEEK_SET) < 0))
		err = -errno;
	return err;
}

static int keep(struct device *device, struct section *section)
{
	ssize_t n;

	if (device->state < 0)
		device->state = memfd_create("device", MFD_CLOEXEC);
	if (device->state < 0)
		return -errno;
	if (lseek(device->state, 0, SEEK_CUR) > (off_t)STATE_MAX)
		return -EFBIG;
	while (section->left) {
		n = write(device->state, section->data, section->left);
		if (n < 0)
			return -errno;
		section->data += n;
		section->left -= (size_t)n;
	}
	return 0;
}

int cleat_vmm_travel_keep(struct stream *stream, struct devices *devices,
			  struct section *section)
{
	struct device *device = find(devices, section);

	if (!device)
		return -EBADMSG;
	if (section->left)
		return keep(device, section);
	return device->loaded ? 0 : load_early(stream, device);
}

static int load_last(struct stream *stream, struct device *device)
{
	bool done = false;
	int err = device->loaded ? load_one(stream, device, &done) : -EBADMSG;

	return !err && !done ? -EBADMSG : err;
}

int cleat_vmm_travel_load(struct stream *stream, struct devices *devices)
{
	unsigned i;
	int err = 0;

	for (i = 0; !err && i < devices->count; i++)
		err = load_last(stream, &devices->device[i]);
	return err;
}
