/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine arrives. Its sections are taken as they come; when all of them
 * are there the source is told, and only when it says so does the guest run
 * here. A stream that cannot be answered has its last word with its end.
 */
#include <errno.h>
#include <string.h>

#include "vmm/vmm.h"

/* What must have been there before the machine is one. */
struct arrival {
	struct migration *m;
	bool shape, chips, own;
	uint64_t cpus; /* a bit for each */
	bool paused;
};

static int load_cpu(struct arrival *arrival, struct section *section)
{
	struct migration *m = arrival->m;
	uint32_t id = 0;

	if (section->left >= sizeof(id))
		memcpy(&id, section->data, sizeof(id));
	if (id < CPUS_MAX)
		arrival->cpus |= 1ull << id;
	return cleat_vmm_cpu_load(&m->stream, m->vm, section);
}

static int load_end(struct arrival *arrival, struct section *section)
{
	struct vm *vm = arrival->m->vm;
	uint64_t all = ~0ull >> (64 - vm->vcpu_count);
	uint32_t paused;

	if (cleat_vmm_section_take(section, &paused, sizeof(paused)) ||
	    !arrival->chips || !arrival->own || arrival->cpus != all)
		return -EBADMSG;
	arrival->paused = paused;
	return cleat_vmm_travel_load(&arrival->m->stream, &vm->devices);
}

static int load_shape(struct arrival *arrival, struct section *section)
{
	struct migration *m = arrival->m;
	bool answers = false;
	int err;

	if (arrival->shape)
		return -EBADMSG;
	err = cleat_vmm_shape_load(&m->stream, m->vm, section, &answers);
	/* A file that was written to a socket before expects none. */
	if (!err)
		m->channel.answers = m->channel.answers && answers;
	arrival->shape = true;
	return err;
}

static int load(struct arrival *arrival, struct section *section)
{
	struct migration *m = arrival->m;
	struct vm *vm = m->vm;

	if (!arrival->shape && section->type != SECTION_SHAPE)
		return -EBADMSG;
	switch (section->type) {
	case SECTION_SHAPE:
		return load_shape(arrival, section);
	case SECTION_PAGES:
		atomic_fetch_add(&m->pages, 1);
		return cleat_vmm_pages_receive(vm, section);
	case SECTION_CPU:
		return load_cpu(arrival, section);
	case SECTION_CHIPS:
		arrival->chips = true;
		return cleat_vmm_chips_load(&m->stream, vm, section);
	case SECTION_OWN:
		arrival->own = true;
		return cleat_vmm_own_load(vm, section);
	case SECTION_FUNCTION:
		return cleat_vmm_travel_function(&m->stream, &vm->devices,
						 section);
	case SECTION_DEVICE:
		return cleat_vmm_travel_keep(&m->stream, &vm->devices,
					     section);
	case SECTION_END:
		return load_end(arrival, section);
	}
	return -EBADMSG;
}

static int load_all(struct arrival *arrival)
{
	struct stream *stream = &arrival->m->stream;
	struct section section;
	int err;

	do {
		err = cleat_vmm_stream_receive(stream, &section);
		if (!err)
			err = load(arrival, &section);
	} while (!err && section.type != SECTION_END);
	if (err == -EBADMSG)
		cleat_vmm_stream_fail(stream, err,
				      "a section %u that makes no sense",
				      section.type);
	return err;
}

/* The source waits for our word, and we for its. */
static int shake_hands(struct migration *m)
{
	struct section section;
	int err;

	if (!m->channel.answers)
		return 0;
	cleat_vmm_stream_begin(&m->stream, SECTION_READY);
	err = cleat_vmm_stream_send(&m->stream);
	if (!err)
		err = cleat_vmm_stream_receive(&m->stream, &section);
	if (!err && section.type != SECTION_GO)
		err = -EBADMSG;
	return err;
}

static int start(struct arrival *arrival)
{
	struct migration *m = arrival->m;
	uint64_t from = cleat_vmm_now_ns();
	struct vm *vm = m->vm;
	int err = cleat_vmm_travel_run(&m->stream, &vm->devices);

	if (!err)
		err = cleat_vmm_travel_resume(&m->stream, &vm->devices);
	if (err)
		return err;
	cleat_vmm_clock_start(vm);
	cleat_vmm_clock_stood(vm);
	if (arrival->paused)
		atomic_fetch_or(&vm->pause.wanted, PAUSE_USER);
	cleat_vmm_resume(vm, PAUSE_MIGRATION);
	atomic_store(&m->parts[PART_START], cleat_vmm_now_ns() - from);
	if (!m->channel.answers)
		return 0;
	/* The guest runs, whether the source hears of it or not. */
	cleat_vmm_stream_begin(&m->stream, SECTION_RUNNING);
	cleat_vmm_stream_send(&m->stream);
	return 0;
}

static int take(struct migration *m)
{
	struct arrival arrival = { .m = m };
	int err = cleat_vmm_channel_open(&m->channel, m->target, false,
					 &m->cancelled);

	if (!err)
		err = cleat_vmm_stream_open(&m->stream, m->channel.fd,
					    &m->cancelled);
	if (err)
		return err;
	cleat_vmm_stream_allow(&m->stream, m->vm->devices.count);
	atomic_store(&m->phase, PHASE_LOADING);
	err = cleat_vmm_travel_open(&m->stream, &m->vm->devices);
	if (!err)
		err = load_all(&arrival);
	if (!err)
		err = shake_hands(m);
	if (!err)
		err = cleat_vmm_migration_decide(m);
	return err ? err : start(&arrival);
}

/* The source runs on, and whoever sent it here wants to know why. */
static void refuse(struct migration *m, const char *why)
{
	if (!m->channel.answers || m->channel.fd < 0 || !m->stream.out)
		return;
	cleat_vmm_stream_begin(&m->stream, SECTION_REFUSED);
	cleat_vmm_stream_add(&m->stream, why, strlen(why));
	cleat_vmm_stream_send(&m->stream);
}

static void give_up(struct migration *m, int err)
{
	const char *why = cleat_vmm_migration_why(m, err);

	if (!cleat_vmm_stopping(m->vm))
		cleat_vmm_say("--incoming %s: %s", m->target, why);
	refuse(m, why);
}

void *cleat_vmm_arrive(void *opaque)
{
	struct migration *m = opaque;
	int err;

	cleat_cancel_enter(m->waits);
	err = take(m);
	if (err)
		give_up(m, err);
	cleat_vmm_travel_close(&m->vm->devices);
	cleat_vmm_channel_close(&m->channel);
	if (err) {
		atomic_store(&m->phase, PHASE_FAILED);
		cleat_vmm_stop(m->vm, OUTCOME_ERROR);
	} else {
		atomic_store(&m->phase, PHASE_NONE);
	}
	cleat_vmm_stream_close(&m->stream);
	cleat_cancel_enter(NULL);
	return NULL;
}
