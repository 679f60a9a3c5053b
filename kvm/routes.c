/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The library's part of the VM's GSI table. KVM takes the table as a whole and
 * refuses it as a whole, so a guest's one bad message must not keep the others
 * from changing: what is refused is found out and left as it was.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/private.h"

static bool is_same(const struct cleat_msi *a, const struct cleat_msi *b)
{
	return a->address == b->address && a->data == b->data &&
	       a->requester == b->requester;
}

static bool differs(const struct cleat_kvm_route *route)
{
	return route->is_wanted != route->is_live ||
	       (route->is_wanted && !is_same(&route->wanted, &route->live));
}

static struct cleat_kvm_route *find(struct cleat_kvm *kvm, uint32_t gsi)
{
	uint32_t index = gsi - kvm->config.first_gsi;

	return kvm->routes && index < kvm->config.gsis ? &kvm->routes[index]
						       : NULL;
}

/* --- Writing the table --------------------------------------------------- */

static void append(struct cleat_kvm *kvm, uint32_t index,
		   const struct cleat_msi *msi)
{
	struct kvm_irq_routing_entry *entry;

	entry = &kvm->table->entries[kvm->table->nr++];
	*entry = (struct kvm_irq_routing_entry){
		.gsi = kvm->config.first_gsi + index,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi =
			{
				.address_lo = (uint32_t)msi->address,
				.address_hi = (uint32_t)(msi->address >> 32),
				.data = msi->data,
			},
	};
}

/*
 * Write the table with what is wanted, or with what is in effect and the one
 * change @only. A route that is to go is left out in any case: that is never
 * what KVM refuses, and it makes room.
 */
static int write_table(struct cleat_kvm *kvm, bool everything,
		       const struct cleat_kvm_route *only)
{
	struct kvm_irq_routing *table = kvm->table;

	table->nr = 0;
	table->flags = 0;
	if (kvm->base) {
		table->nr = kvm->base->nr;
		memcpy(table->entries, kvm->base->entries,
		       table->nr * sizeof(*table->entries));
	}
	for (uint32_t i = 0; i < kvm->config.gsis; i++) {
		const struct cleat_kvm_route *route = &kvm->routes[i];

		if (!route->is_wanted)
			continue;
		if (everything || route == only)
			append(kvm, i, &route->wanted);
		else if (route->is_live)
			append(kvm, i, &route->live);
	}
	if (kvm->config.commit_routes)
		return kvm->config.commit_routes(kvm->config.opaque, table);
	return cleat_kvm_ioctl(kvm, KVM_SET_GSI_ROUTING, table);
}

static void accept_route(struct cleat_kvm_route *route)
{
	route->is_live = route->is_wanted;
	route->live = route->wanted;
}

static void accept_all(struct cleat_kvm *kvm)
{
	for (uint32_t i = 0; i < kvm->config.gsis; i++)
		accept_route(&kvm->routes[i]);
	kvm->changed = false;
}

static void refuse_route(struct cleat_kvm_route *route)
{
	route->is_wanted = route->is_live;
	route->wanted = route->live;
}

/* The whole was refused: let each change stand alone. */
static void salvage(struct cleat_kvm *kvm)
{
	bool pending = false;

	for (uint32_t i = 0; i < kvm->config.gsis; i++) {
		struct cleat_kvm_route *route = &kvm->routes[i];

		if (!differs(route) || !route->is_wanted)
			continue;
		if (write_table(kvm, false, route))
			refuse_route(route);
		else
			accept_route(route);
	}
	/* Those that are to go have gone with any table that was taken. */
	for (uint32_t i = 0; i < kvm->config.gsis; i++)
		pending |= differs(&kvm->routes[i]);
	if (pending && !write_table(kvm, true, NULL))
		accept_all(kvm);
	else
		kvm->changed = pending;
}

static int commit_locked(struct cleat_kvm *kvm)
{
	int err;

	if (!kvm->changed)
		return 0;
	err = write_table(kvm, true, NULL);
	if (err)
		salvage(kvm);
	else
		accept_all(kvm);
	return err;
}

/* --- Operations ---------------------------------------------------------- */

static int gsi_alloc(void *opaque, uint32_t *ret_gsi)
{
	struct cleat_kvm *kvm = opaque;
	uint32_t gsis = kvm->config.gsis;
	int err = -ENOSPC;

	pthread_mutex_lock(&kvm->routes_lock);
	for (uint32_t i = 0; kvm->free_gsis && i < gsis; i++) {
		uint32_t index = (kvm->next_gsi + i) % gsis;

		if (kvm->routes[index].used)
			continue;
		kvm->routes[index].used = true;
		kvm->next_gsi = index + 1;
		kvm->free_gsis--;
		*ret_gsi = kvm->config.first_gsi + index;
		err = 0;
		break;
	}
	pthread_mutex_unlock(&kvm->routes_lock);
	return err;
}

static void gsi_free(void *opaque, uint32_t gsi)
{
	struct cleat_kvm *kvm = opaque;
	struct cleat_kvm_route *route = find(kvm, gsi);

	pthread_mutex_lock(&kvm->routes_lock);
	if (route && route->used) {
		route->used = route->is_wanted = false;
		kvm->changed |= route->is_live;
		kvm->free_gsis++;
	}
	pthread_mutex_unlock(&kvm->routes_lock);
}

static int msi_route(void *opaque, uint32_t gsi, const struct cleat_msi *msi)
{
	struct cleat_kvm *kvm = opaque;
	struct cleat_kvm_route *route = find(kvm, gsi);
	int err = -EINVAL;

	pthread_mutex_lock(&kvm->routes_lock);
	if (route && route->used) {
		route->is_wanted = true;
		route->wanted = *msi;
		kvm->changed |= differs(route);
		err = 0;
	}
	pthread_mutex_unlock(&kvm->routes_lock);
	return err;
}

/*
 * The depth is the thread's own: a commit that left its changes to some other
 * thread's batch would return before they are in effect.
 */
static uintptr_t depth_add(struct cleat_kvm *kvm, intptr_t change)
{
	uintptr_t depth = (uintptr_t)pthread_getspecific(kvm->depth);

	if (!depth && change < 0)
		return 0;
	depth += (uintptr_t)change;
	/* Where there is no memory for it, each commit writes. */
	if (pthread_setspecific(kvm->depth, (void *)depth))
		return 0;
	return depth;
}

static void routes_begin(void *opaque)
{
	depth_add(opaque, 1);
}

static int routes_commit(void *opaque)
{
	struct cleat_kvm *kvm = opaque;
	int err;

	if (depth_add(kvm, -1))
		return 0;
	pthread_mutex_lock(&kvm->routes_lock);
	err = commit_locked(kvm);
	pthread_mutex_unlock(&kvm->routes_lock);
	return err;
}

int cleat_kvm_route_ready(struct cleat_kvm *kvm, uint32_t gsi)
{
	struct cleat_kvm_route *route = find(kvm, gsi);
	int err = 0;

	if (!route)
		return 0;
	pthread_mutex_lock(&kvm->routes_lock);
	if (!route->used || !route->is_wanted) {
		err = -EINVAL;
	} else if (differs(route)) {
		struct cleat_msi wanted = route->wanted;

		err = commit_locked(kvm);
		/* Somebody else's route may be what was refused. */
		if (err && route->is_live && is_same(&route->live, &wanted))
			err = 0;
	}
	pthread_mutex_unlock(&kvm->routes_lock);
	return err;
}

/* --- Set up -------------------------------------------------------------- */

static bool is_ours(struct cleat_kvm *kvm, uint32_t gsi)
{
	return gsi >= kvm->config.first_gsi &&
	       gsi - kvm->config.first_gsi < kvm->config.gsis;
}

static int check_base(struct cleat_kvm *kvm, unsigned max,
		      struct cleat_error *reterr)
{
	const struct kvm_irq_routing *base = kvm->config.base_routes;

	if (base->nr > max)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "%u base routes: KVM takes %u", base->nr,
				  max);
	for (uint32_t i = 0; i < base->nr; i++)
		if (is_ours(kvm, base->entries[i].gsi))
			return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
					  "base route of GSI %u, which is to "
					  "be the library's",
					  base->entries[i].gsi);
	return 0;
}

static struct kvm_irq_routing *new_table(size_t entries)
{
	struct kvm_irq_routing *table;

	return calloc(1, sizeof(*table) + entries * sizeof(*table->entries));
}

static int copy_base(struct cleat_kvm *kvm)
{
	const struct kvm_irq_routing *base = kvm->config.base_routes;

	kvm->base = new_table(base->nr);
	if (!kvm->base)
		return -ENOMEM;
	kvm->base->nr = base->nr;
	memcpy(kvm->base->entries, base->entries,
	       base->nr * sizeof(*base->entries));
	return 0;
}

static int make_tables(struct cleat_kvm *kvm, unsigned max)
{
	uint32_t gsis = kvm->config.gsis, base = 0;

	if (!kvm->config.commit_routes) {
		if (copy_base(kvm))
			return -ENOMEM;
		base = kvm->base->nr;
	}
	/* Made once, so that a commit cannot fail for want of memory of ours.
	 */
	kvm->table = new_table((size_t)base + gsis);
	kvm->routes = calloc(gsis, sizeof(*kvm->routes));
	kvm->free_gsis = gsis < max - base ? gsis : max - base;
	return kvm->table && kvm->routes ? 0 : -ENOMEM;
}

static void offer(struct cleat_kvm *kvm)
{
	kvm->ops.gsi_alloc = gsi_alloc;
	kvm->ops.gsi_free = gsi_free;
	kvm->ops.msi_route = msi_route;
	kvm->ops.routes_begin = routes_begin;
	kvm->ops.routes_commit = routes_commit;
}

int cleat_kvm_routes_init(struct cleat_kvm *kvm, struct cleat_error *reterr)
{
	unsigned max = cleat_kvm_extension(kvm, KVM_CAP_IRQ_ROUTING);
	uint32_t first = kvm->config.first_gsi, gsis = kvm->config.gsis;
	int err = 0;

	if (!kvm->ops.irqfd_add || !max || !gsis ||
	    (!kvm->config.base_routes && !kvm->config.commit_routes))
		return 0;
	if (gsis > max || first > max - gsis)
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -EINVAL,
				  "GSIs %u to %llu: KVM has %u", first,
				  (unsigned long long)first + gsis - 1, max);
	if (!kvm->config.commit_routes)
		err = check_base(kvm, max, reterr);
	if (err)
		return err;
	if (make_tables(kvm, max))
		return cleat_fail(reterr, CLEAT_ORIGIN_LOCAL, -ENOMEM,
				  "no memory for %u routes", gsis);
	offer(kvm);
	return 0;
}

void cleat_kvm_routes_end(struct cleat_kvm *kvm)
{
	if (kvm->routes && kvm->table) {
		for (uint32_t i = 0; i < kvm->config.gsis; i++)
			gsi_free(kvm, kvm->config.first_gsi + i);
		if (kvm->changed)
			write_table(kvm, true, NULL);
	}
	free(kvm->routes);
	free(kvm->table);
	free(kvm->base);
}
