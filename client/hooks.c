/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>

#include "client/engine.h"

void cleat_hooks_init(struct cleat_device *dev)
{
	pthread_mutex_init(&dev->hook_lock, NULL);
	pthread_cond_init(&dev->hook_done, NULL);
}

/* Hook lock held, but not while the hook runs. */
static void run_hook(struct cleat_device *dev, struct cleat_device_hook *hook,
		     void (*what)(struct cleat_device_hook *hook))
{
	if (!what)
		return;
	dev->running_hook = hook;
	dev->hook_thread = pthread_self();
	pthread_mutex_unlock(&dev->hook_lock);
	what(hook);
	pthread_mutex_lock(&dev->hook_lock);
	dev->running_hook = NULL;
	pthread_cond_broadcast(&dev->hook_done);
}

int cleat_device_hook_add(struct cleat_device *dev,
			  struct cleat_device_hook *hook)
{
	int err = 0;

	pthread_mutex_lock(&dev->hook_lock);
	if (dev->shutting) {
		err = -ESHUTDOWN;
	} else {
		hook->next = dev->hooks[hook->rank];
		hook->told = false;
		dev->hooks[hook->rank] = hook;
	}
	pthread_mutex_unlock(&dev->hook_lock);
	if (!err && cleat_device_is_lost(dev))
		cleat_events_poke(dev);
	return err;
}

/* Hook lock held. */
static void take_out(struct cleat_device *dev, struct cleat_device_hook *hook)
{
	struct cleat_device_hook **at = &dev->hooks[hook->rank];

	while (*at && *at != hook)
		at = &(*at)->next;
	if (*at)
		*at = hook->next;
}

void cleat_device_hook_remove(struct cleat_device *dev,
			      struct cleat_device_hook *hook)
{
	pthread_mutex_lock(&dev->hook_lock);
	take_out(dev, hook);
	while (dev->running_hook == hook &&
	       !pthread_equal(dev->hook_thread, pthread_self()))
		pthread_cond_wait(&dev->hook_done, &dev->hook_lock);
	pthread_mutex_unlock(&dev->hook_lock);
}

static struct cleat_device_hook *next_untold(struct cleat_device *dev)
{
	for (unsigned rank = 0; rank < CLEAT_NUM_HOOK_RANKS; rank++)
		for (struct cleat_device_hook *hook = dev->hooks[rank]; hook;
		     hook = hook->next)
			if (!hook->told)
				return hook;
	return NULL;
}

void cleat_hooks_lost(struct cleat_device *dev)
{
	struct cleat_device_hook *hook;

	pthread_mutex_lock(&dev->hook_lock);
	while (!dev->shutting && (hook = next_untold(dev))) {
		hook->told = true;
		run_hook(dev, hook, hook->lost);
	}
	pthread_mutex_unlock(&dev->hook_lock);
}

static struct cleat_device_hook *first_hook(struct cleat_device *dev)
{
	for (unsigned rank = 0; rank < CLEAT_NUM_HOOK_RANKS; rank++)
		if (dev->hooks[rank])
			return dev->hooks[rank];
	return NULL;
}

void cleat_hooks_close(struct cleat_device *dev)
{
	pthread_mutex_lock(&dev->hook_lock);
	dev->shutting = true;
	while (dev->running_hook)
		pthread_cond_wait(&dev->hook_done, &dev->hook_lock);
	pthread_mutex_unlock(&dev->hook_lock);
}

void cleat_hooks_shutdown(struct cleat_device *dev)
{
	struct cleat_device_hook *hook;

	pthread_mutex_lock(&dev->hook_lock);
	while ((hook = first_hook(dev))) {
		take_out(dev, hook);
		run_hook(dev, hook, hook->shutdown);
	}
	pthread_mutex_unlock(&dev->hook_lock);
}
