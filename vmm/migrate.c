/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine leaves. RAM is copied in rounds while the guest runs; then all
 * stops, what is left is sent, and the other side says that it has everything.
 * Until it has been told to go on, whatever goes wrong makes the machine run on
 * here. docs/vmm.md has the order and why it is so.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vmm/vmm.h"

#define ROUNDS_MAX 30
#define ROUNDS_IN_VAIN 5
/* Stop when what is left takes no longer than this. */
#define LAST_ROUND_MS 50
#define STOP_MS 10000
/* How long whoever says `resume` waits for devices to run again. */
#define RETURN_MS 2000
#define RETURN_TICK_MS 5

uint64_t cleat_vmm_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int failed(struct migration *m, int err, const char *what)
{
	return cleat_vmm_stream_fail(&m->stream, err, "%s: %s", what,
				     strerror(-err));
}

/* ---- While the guest runs ---- */

static int begin(struct migration *m)
{
	struct vm *vm = m->vm;
	int err = cleat_vmm_travel_open(&m->stream, &vm->devices);

	if (!err)
		err = cleat_vmm_shape_save(&m->stream, vm, m->channel.answers);
	if (err)
		return err;
	m->logging = true;
	err = cleat_vmm_pages_start(vm);
	if (err)
		return failed(m, err, "logging what is written");
	return cleat_vmm_travel_start(&m->stream, &vm->devices);
}

/*
 * Bytes in a second since the beginning: a late round is too short to tell, and
 * pages of zeroes, of which the first is full, cost next to nothing.
 */
static uint64_t rate_now(const struct migration *m)
{
	uint64_t ns = cleat_vmm_now_ns() - m->mark;

	return ns ? (uint64_t)((double)m->stream.bytes * 1e9 / (double)ns) : 0;
}

static void report(struct migration *m)
{
	uint64_t left = atomic_load(&m->left), rate = atomic_load(&m->rate);
	uint64_t ms = rate ? left * 1000 / rate : 0;

	cleat_vmm_say("migration: round %u: %lu pages sent, %.1f MiB/s, %.1f MiB left, about %llu ms",
		      atomic_load(&m->rounds), atomic_load(&m->pages),
		      (double)rate / (double)MiB, (double)left / (double)MiB,
		      (unsigned long long)ms);
}

/* Whether what is left may be sent while the guest stands still. */
static bool is_little(const struct migration *m)
{
	uint64_t left = atomic_load(&m->left), rate = atomic_load(&m->rate);

	return left <= rate * LAST_ROUND_MS / 1000;
}

static int copy_round(struct migration *m)
{
	struct vm *vm = m->vm;
	int err;

	err = cleat_vmm_pages_send(&m->stream, vm, &m->pages);
	if (!err)
		err = cleat_vmm_travel_save(&m->stream, &vm->devices);
	if (err)
		return err;
	atomic_store(&m->rate, rate_now(m));
	err = cleat_vmm_pages_collect(vm, false);
	if (err)
		return failed(m, err, "which pages are dirty");
	atomic_store(&m->left, cleat_memory_log_dirty(vm->ram.memory));
	atomic_fetch_add(&m->rounds, 1);
	report(m);
	return 0;
}

/* A guest that writes as fast as we send leaves as much after every round. */
static bool is_in_vain(const struct migration *m, uint64_t *least,
		       unsigned *rounds)
{
	uint64_t left = atomic_load(&m->left);

	*rounds = left < *least ? 0 : *rounds + 1;
	if (left < *least)
		*least = left;
	return *rounds == ROUNDS_IN_VAIN ||
	       atomic_load(&m->rounds) == ROUNDS_MAX;
}

static int copy_rounds(struct migration *m)
{
	uint64_t least = UINT64_MAX;
	unsigned in_vain = 0;
	int err = cleat_vmm_pages_collect(m->vm, false);

	if (err)
		return failed(m, err, "which pages are dirty");
	m->mark = cleat_vmm_now_ns();
	do
		err = copy_round(m);
	while (!err && !is_little(m) && !is_in_vain(m, &least, &in_vain));
	return err;
}

/* ---- While it stands still ---- */

/* The time since the last part ended is this part's. */
static void account(struct migration *m, enum part part)
{
	uint64_t now = cleat_vmm_now_ns();

	atomic_store(&m->parts[part], now - m->mark);
	m->mark = now;
}

static int stop_all(struct migration *m)
{
	struct vm *vm = m->vm;
	int err = cleat_vmm_pause(vm, PAUSE_MIGRATION, STOP_MS);

	if (err)
		return failed(m, err, "stopping the CPUs");
	m->stopped = true;
	account(m, PART_STOP);
	err = cleat_vmm_travel_stop(&m->stream, &vm->devices);
	if (err)
		return err;
	m->functions = true;
	err = cleat_vmm_travel_functions(&m->stream, &vm->devices);
	account(m, PART_DEVICES);
	return err;
}

static int send_cpus(struct migration *m)
{
	struct vm *vm = m->vm;
	unsigned i;
	int err = 0;

	/* An interrupt chip gives what it has to the CPUs' APICs: it is last. */
	for (i = 0; !err && i < vm->vcpu_count; i++)
		err = cleat_vmm_cpu_save(&m->stream, &vm->vcpus[i]);
	if (!err)
		err = cleat_vmm_chips_save(&m->stream, vm);
	if (!err)
		err = cleat_vmm_own_save(&m->stream, vm);
	account(m, PART_CPUS);
	return err;
}

static int send_last_pages(struct migration *m)
{
	int err = cleat_vmm_pages_collect(m->vm, true);

	if (err)
		return failed(m, err, "which pages are dirty");
	err = cleat_vmm_pages_send(&m->stream, m->vm, &m->pages);
	account(m, PART_RAM);
	return err;
}

static int send_end(struct migration *m)
{
	uint32_t paused = atomic_load(&m->vm->pause.wanted) & PAUSE_USER;
	int err = cleat_vmm_travel_save(&m->stream, &m->vm->devices);

	/* Who cannot answer goes on when he has it. */
	if (!err && !m->channel.answers && !m->go_on)
		err = cleat_vmm_migration_decide(m);
	if (err)
		return err;
	cleat_vmm_stream_begin(&m->stream, SECTION_END);
	cleat_vmm_stream_add(&m->stream, &paused, sizeof(paused));
	err = cleat_vmm_stream_send(&m->stream);
	account(m, PART_STATE);
	return err;
}

static int copy_rest(struct migration *m)
{
	int err;

	m->mark = cleat_vmm_now_ns();
	err = stop_all(m);
	if (!err)
		err = send_cpus(m);
	if (!err)
		err = send_last_pages(m);
	return err ? err : send_end(m);
}

/* ---- From one hand to the other ---- */

/* It goes to a terminal and into JSON. */
static int refused(struct migration *m, const struct section *section)
{
	char why[sizeof(m->stream.why)];
	size_t i;

	for (i = 0; i < section->left && i < sizeof(why) - 1; i++)
		why[i] = section->data[i] >= ' ' && section->data[i] <= '~' ?
				 (char)section->data[i] : '.';
	why[i] = 0;
	m->stream.why[0] = 0;
	return cleat_vmm_stream_fail(&m->stream, -ECONNREFUSED,
				     "the other side: %s", why);
}

/* Who hung up on us may have said why. */
static int ask_why(struct migration *m, int err)
{
	char why[sizeof(m->stream.why)];
	struct section section;

	if (!m->channel.answers || (err != -EPIPE && err != -ECONNRESET))
		return err;
	memcpy(why, m->stream.why, sizeof(why));
	if (!cleat_vmm_stream_receive(&m->stream, &section) &&
	    section.type == SECTION_REFUSED)
		return refused(m, &section);
	memcpy(m->stream.why, why, sizeof(why));
	return err;
}

static int expect(struct migration *m, enum section_type type,
		  struct section *ret)
{
	int err = cleat_vmm_stream_receive(&m->stream, ret);

	if (!err && ret->type == SECTION_REFUSED)
		return refused(m, ret);
	if (!err && ret->type != type)
		err = cleat_vmm_stream_fail(&m->stream, -EBADMSG,
					    "the other side says something else");
	return err;
}

/*
 * A command that has all of it may be, or may have started, what runs the guest
 * now, whatever it says: it is left alone. But of a snapshot it is known that
 * the machine goes on here.
 */
static int finish(struct migration *m)
{
	int err = cleat_vmm_channel_finish(&m->channel);

	account(m, PART_ARRIVAL);
	m->doubtful = err && m->channel.is_command && !m->go_on;
	if (m->doubtful)
		m->channel.pid = 0;
	return err;
}

/*
 * Once it has been told to go on, the other side may run the guest at any time;
 * if it ends without a word, only somebody who knows that it is gone can say
 * that the guest may go on here.
 */
static int hand_over(struct migration *m)
{
	struct section section;
	int err;

	if (!m->channel.answers)
		return finish(m);
	err = expect(m, SECTION_READY, &section);
	account(m, PART_ARRIVAL);
	if (!err)
		err = cleat_vmm_migration_decide(m);
	if (err)
		return err;
	cleat_vmm_stream_begin(&m->stream, SECTION_GO);
	err = cleat_vmm_stream_send(&m->stream);
	if (err)
		return err;
	err = expect(m, SECTION_RUNNING, &section);
	account(m, PART_START);
	m->doubtful = err != 0;
	return err;
}

/* ---- All of it ---- */

/* The guest goes on all the same: it sees a device that does not answer. */
static void run_devices(struct migration *m)
{
	char why[sizeof(m->stream.why)];

	memcpy(why, m->stream.why, sizeof(why));
	m->stream.why[0] = 0;
	if (cleat_vmm_travel_run(&m->stream, &m->vm->devices))
		cleat_vmm_say("%s", m->stream.why);
	memcpy(m->stream.why, why, sizeof(why));
}

/* The devices run; the rest of the machine does too. */
static void run_machine(struct migration *m)
{
	struct vm *vm = m->vm;

	if (m->logging)
		cleat_vmm_pages_stop(vm);
	if (m->functions)
		cleat_vmm_travel_resume(&m->stream, &vm->devices);
	if (m->stopped) {
		cleat_vmm_clock_stood(vm);
		cleat_vmm_resume(vm, PAUSE_MIGRATION);
	}
	cleat_vmm_travel_close(&vm->devices);
}

/*
 * Of a machine that may run elsewhere nothing runs here, its devices least of
 * all: they would write to the same disk. All stays as it is for
 * cleat_vmm_migration_return(), or for the end.
 */
static void settle(struct migration *m, int err)
{
	if (m->doubtful)
		return;
	if (err || m->go_on) {
		run_devices(m);
		run_machine(m);
	} else {
		cleat_vmm_travel_close(&m->vm->devices);
	}
}

static uint64_t downtime(const struct migration *m)
{
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < PARTS; i++)
		sum += atomic_load(&m->parts[i]);
	return sum;
}

const char *cleat_vmm_part_name(unsigned part)
{
	static const char *const names[PARTS] = {
		[PART_STOP] = "stop",	    [PART_DEVICES] = "device_stop",
		[PART_CPUS] = "cpus",	    [PART_RAM] = "last_ram",
		[PART_STATE] = "device_state", [PART_ARRIVAL] = "arrival",
		[PART_START] = "start",
	};

	return names[part];
}

static void tell_success(struct migration *m)
{
	char parts[256];
	size_t used = 0;
	unsigned i;

	for (i = 0; i < PARTS && used < sizeof(parts); i++)
		used += (size_t)snprintf(parts + used, sizeof(parts) - used,
					 "%s%s %.3f", i ? ", " : "",
					 cleat_vmm_part_name(i),
					 (double)m->parts[i] / 1e6);
	cleat_vmm_say("migration: done: %u rounds, %lu pages, %.1f MiB; down %.3f ms: %s",
		      atomic_load(&m->rounds), atomic_load(&m->pages),
		      (double)m->stream.bytes / (double)MiB,
		      (double)downtime(m) / 1e6, parts);
}

const char *cleat_vmm_migration_why(const struct migration *m, int err)
{
	if (m->stream.why[0])
		return m->stream.why;
	return m->channel.why[0] ? m->channel.why : strerror(-err);
}

static void tell_failure(struct migration *m, int err)
{
	const char *why = cleat_vmm_migration_why(m, err);

	snprintf(m->why, sizeof(m->why), "%s%s", why,
		 m->doubtful ? ": it had been told to go on: make sure that it does not run there, then resume" :
			       "");
	cleat_vmm_say("migration to %s: %s%s", m->target, m->why,
		      m->doubtful ? "" : ": the machine runs on here");
	atomic_store(&m->phase, m->doubtful ? PHASE_DOUBTFUL :
				err == -ECANCELED ? PHASE_CANCELLED :
						    PHASE_FAILED);
}

static int go(struct migration *m)
{
	int err = cleat_vmm_channel_open(&m->channel, m->target, true,
					 &m->cancelled);

	if (!err)
		err = cleat_vmm_stream_open(&m->stream, m->channel.fd,
					    &m->cancelled);
	if (err)
		return err;
	cleat_vmm_stream_allow(&m->stream, m->vm->devices.count);
	atomic_store(&m->phase, PHASE_COPYING);
	err = begin(m);
	if (!err)
		err = copy_rounds(m);
	if (err)
		return err;
	atomic_store(&m->phase, PHASE_STOPPED);
	err = copy_rest(m);
	return err ? err : hand_over(m);
}

static void *leave(void *opaque)
{
	struct migration *m = opaque;
	int err;

	cleat_cancel_enter(m->waits);
	err = ask_why(m, go(m));
	settle(m, err);
	cleat_vmm_channel_close(&m->channel);
	if (err) {
		tell_failure(m, err);
	} else {
		tell_success(m);
		atomic_store(&m->phase, PHASE_DONE);
		if (!m->go_on)
			cleat_vmm_stop(m->vm, OUTCOME_MOVED);
	}
	cleat_vmm_stream_close(&m->stream);
	cleat_cancel_enter(NULL);
	return NULL;
}

/* ---- Back from where it may have been ---- */

static void *take_back(void *opaque)
{
	struct migration *m = opaque;
	struct vm *vm = m->vm;

	cleat_cancel_enter(m->waits);
	m->stream.why[0] = 0;
	if (cleat_vmm_travel_return(&m->stream, &vm->devices)) {
		snprintf(m->why_not, sizeof(m->why_not), "%s", m->stream.why);
		cleat_vmm_say("resume: %s: the machine stands still", m->why_not);
	} else {
		m->why_not[0] = 0;
		run_machine(m);
		cleat_vmm_say("resume: the machine runs on here");
		atomic_store(&m->phase, PHASE_FAILED);
	}
	cleat_cancel_enter(NULL);
	atomic_store(&m->returned, true);
	return NULL;
}

static int start_thread(struct migration *m, void *(*run)(void *))
{
	int err = cleat_cancel_create(&m->waits);

	if (!err)
		err = -pthread_create(&m->thread, NULL, run, m);
	m->started = !err;
	return err;
}

/* A device may take its time to run, and the main thread has other work. */
static bool await_return(const struct migration *m)
{
	unsigned waited;

	for (waited = 0; waited < RETURN_MS; waited += RETURN_TICK_MS) {
		if (atomic_load(&m->returned))
			return true;
		poll(NULL, 0, RETURN_TICK_MS);
	}
	return false;
}

const char *cleat_vmm_migration_return(struct vm *vm)
{
	struct migration *m = &vm->migration;

	if (atomic_load(&m->phase) != PHASE_DOUBTFUL)
		return NULL;
	if (!m->returning || atomic_load(&m->returned)) {
		cleat_vmm_migration_join(vm);
		atomic_store(&m->returned, false);
		m->returning = !start_thread(m, take_back);
		if (!m->returning)
			return "no memory";
	}
	if (!await_return(m))
		return "a device takes long to run again: the machine goes on when it does";
	return m->why_not[0] ? m->why_not : NULL;
}

/* ---- For the main thread ---- */

bool cleat_vmm_migrating(struct vm *vm)
{
	switch (atomic_load(&vm->migration.phase)) {
	case PHASE_CONNECTING:
	case PHASE_COPYING:
	case PHASE_STOPPED:
	case PHASE_WAITING:
	case PHASE_LOADING:
		return true;
	}
	return false;
}

int cleat_vmm_migration_start(struct vm *vm, const char *target, bool outgoing,
			      bool go_on)
{
	struct migration *m = &vm->migration;
	int err;

	cleat_vmm_migration_join(vm);
	*m = (struct migration){ .vm = vm, .go_on = go_on };
	m->channel.fd = -1;
	snprintf(m->target, sizeof(m->target), "%s", target);
	atomic_store(&m->phase, outgoing ? PHASE_CONNECTING : PHASE_WAITING);
	err = start_thread(m, outgoing ? leave : cleat_vmm_arrive);
	if (err)
		atomic_store(&m->phase, PHASE_FAILED);
	return err;
}

static bool is_first(struct migration *m, enum decision decision)
{
	int first = UNDECIDED;

	return atomic_compare_exchange_strong(&m->decided, &first, decision) ||
	       first == (int)decision;
}

int cleat_vmm_migration_decide(struct migration *m)
{
	if (is_first(m, HANDED_OVER))
		return 0;
	return cleat_vmm_stream_fail(&m->stream, -ECANCELED, "called off");
}

static void end_waits(struct vm *vm)
{
	atomic_store(&vm->migration.cancelled, true);
	cleat_vmm_travel_cancel(&vm->devices);
}

bool cleat_vmm_migration_cancel(struct vm *vm)
{
	if (!is_first(&vm->migration, CALLED_OFF))
		return false;
	end_waits(vm);
	return true;
}

void cleat_vmm_migration_join(struct vm *vm)
{
	struct migration *m = &vm->migration;

	if (m->started)
		pthread_join(m->thread, NULL);
	m->started = false;
	cleat_cancel_destroy(m->waits);
	m->waits = NULL;
}

void cleat_vmm_migration_end(struct vm *vm)
{
	struct migration *m = &vm->migration;

	end_waits(vm);
	if (m->waits)
		cleat_cancel_set(m->waits);
	cleat_vmm_migration_join(vm);
	cleat_vmm_travel_close(&vm->devices);
}
