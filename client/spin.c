/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A reply that comes within microseconds is had sooner by a thread that does
 * not go to sleep for it: two context switches are saved, at the price of a
 * core meanwhile. Whether it is sooner is measured, not guessed: on one core,
 * or on a busy machine, the one who looks keeps the server from running. The
 * way that is worse is tried again ever more rarely.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/engine.h"

/* Several times what a reply takes from a server that is awake on a core of its
 * own. */
#define USUAL_NS 50000
/* Who looks sees neither its deadline nor its cancel handle: for a tick. */
#define MOST_US (CLEAT_TICK_MS * 1000u)

#define TRIAL 4 /* rounds: one alone would be chance */
#define IN_VAIN 2 /* looks to the limit without a reply: enough is known */
#define CROWDED 16 /* rounds */
#define LEAST_INTERVAL 64
#define MOST_INTERVAL 16384

void cleat_spin_init(struct cleat_spin *spin, uint32_t us)
{
	if (us == CLEAT_SPIN_NEVER || sysconf(_SC_NPROCESSORS_ONLN) < 2)
		spin->limit_ns = 0;
	else if (us == 0)
		spin->limit_ns = USUAL_NS;
	else
		spin->limit_ns = us > MOST_US ? MOST_US * 1000 : us * 1000;
	spin->next_trial = LEAST_INTERVAL;
	spin->interval = LEAST_INTERVAL;
}

/* Looking has to be a good deal sooner: it costs more. */
static bool looking_is_better(const struct cleat_spin *spin)
{
	return spin->wait_ns[1] < spin->wait_ns[0] - spin->wait_ns[0] / 8;
}

static void end_trial(struct cleat_spin *spin)
{
	bool better = looking_is_better(spin);

	if (better != spin->on)
		spin->interval = LEAST_INTERVAL;
	else if (spin->interval < MOST_INTERVAL)
		spin->interval *= 2;
	spin->on = better;
	spin->trial = 0;
	spin->next_trial = spin->interval;
}

/* The rounds before a trial are what it is compared with; the rest is not
 * worth reading a clock for. */
static bool is_measured(const struct cleat_spin *spin)
{
	return spin->trial || spin->next_trial <= 2 * TRIAL;
}

static void learn(struct cleat_spin *spin, bool looked, uint64_t ns)
{
	uint32_t *wait_ns = &spin->wait_ns[looked];
	uint32_t took = ns > UINT32_MAX / 8 ? UINT32_MAX / 8 : (uint32_t)ns;

	*wait_ns = *wait_ns ? *wait_ns - *wait_ns / 4 + took / 4 : took;
}

/*
 * A server that takes longer asleep than the limit and its wake-up together is
 * not tried: looking for it to the limit, and then sleeping, would be all.
 */
static bool is_hopeless(const struct cleat_spin *spin)
{
	return !spin->on && spin->wait_ns[0] / 2 > spin->limit_ns;
}

static void count_round(struct cleat_spin *spin, bool in_vain)
{
	if (spin->trial) {
		spin->in_vain += in_vain;
		if (--spin->trial == 0 || spin->in_vain == IN_VAIN)
			end_trial(spin);
	} else if (--spin->next_trial == 0) {
		spin->in_vain = 0;
		if (is_hopeless(spin)) {
			spin->wait_ns[1] = spin->wait_ns[0];
			end_trial(spin);
			return;
		}
		spin->trial = TRIAL;
		spin->wait_ns[!spin->on] = 0;
	}
}

static bool are_others_waiting(struct cleat_device *dev)
{
	return __atomic_load_n(&dev->sleepers, __ATOMIC_RELAXED);
}

static int look_often(struct cleat_device *dev, struct cleat_slot *self,
		      uint64_t until_ns)
{
	int err;

	do {
		err = cleat_stream_receive(dev, &dev->main, self, MSG_DONTWAIT);
	} while (err == -EAGAIN && !are_others_waiting(dev) &&
		 cleat_now_ns() < until_ns);
	return err;
}

/*
 * Others had been waiting lately. On a core that this thread keeps from them
 * they cannot come to wait again, so it is not forgotten at once.
 */
static bool is_crowded(struct cleat_device *dev)
{
	struct cleat_spin *spin = &dev->spin;

	if (are_others_waiting(dev))
		spin->crowded = CROWDED;
	else if (spin->crowded)
		spin->crowded--;
	return spin->crowded;
}

int cleat_spin_receive(struct cleat_device *dev, struct cleat_slot *self)
{
	struct cleat_spin *spin = &dev->spin;
	bool look = spin->trial ? !spin->on : spin->on;
	bool measured = is_measured(spin), in_vain;
	uint64_t begin_ns = 0;
	int err = -EAGAIN;

	if (!spin->limit_ns || is_crowded(dev))
		return cleat_stream_receive(dev, &dev->main, self, 0);
	if (look || measured)
		begin_ns = cleat_now_ns();
	if (look)
		err = look_often(dev, self, begin_ns + spin->limit_ns);
	in_vain = look && err == -EAGAIN;
	if (err == -EAGAIN)
		err = cleat_stream_receive(dev, &dev->main, self, 0);
	if (measured)
		learn(spin, look, cleat_now_ns() - begin_ns);
	count_round(spin, in_vain);
	return err;
}
