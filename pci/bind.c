/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where vectors lead. Each round first plans from the guest's registers, then
 * takes away, arms, routes (one commit for all) and binds; what is right
 * already is not touched.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "pci/function.h"

bool cleat_pci_can_irqfd(const struct cleat_pci *pci)
{
	const struct cleat_vm_ops *ops = &pci->ops;

	return ops->gsi_alloc && ops->gsi_free && ops->msi_route &&
	       ops->routes_begin && ops->routes_commit && ops->irqfd_add &&
	       ops->irqfd_remove;
}

bool cleat_pci_can_msi(const struct cleat_pci *pci)
{
	return pci->ops.msi_signal || cleat_pci_can_irqfd(pci);
}

static bool same_msi(const struct cleat_msi *a, const struct cleat_msi *b)
{
	return a->address == b->address && a->data == b->data;
}

static unsigned index_of(const struct pci_vector *vector)
{
	return (unsigned)(vector - vector->pci->vectors);
}

static void set_how(struct pci_vector *vector, enum pci_bound how)
{
	pthread_mutex_lock(&vector->pci->lock);
	vector->how = how;
	pthread_mutex_unlock(&vector->pci->lock);
}

static void set_msi(struct pci_vector *vector)
{
	pthread_mutex_lock(&vector->pci->lock);
	vector->msi = vector->plan;
	pthread_mutex_unlock(&vector->pci->lock);
}

/* What the server fires from now on stays in the eventfd. */
static void unbind(struct pci_vector *vector)
{
	struct cleat_pci *pci = vector->pci;

	if (vector->how == PCI_IRQFD)
		pci->ops.irqfd_remove(pci->ops.opaque, vector->gsi, vector->fd);
	else if (vector->how == PCI_WATCH)
		cleat_watch_remove(vector->watch);
	else
		return;
	vector->watch = NULL;
	set_how(vector, PCI_UNBOUND);
}

void cleat_pci_vectors_unbind(struct cleat_pci *pci)
{
	for (unsigned i = 0; i < pci->num_vectors; i++)
		unbind(&pci->vectors[i]);
}

void cleat_pci_vectors_forget(struct cleat_pci *pci)
{
	bool begun = false;

	for (unsigned i = 0; i < pci->num_vectors; i++) {
		struct pci_vector *vector = &pci->vectors[i];

		if (vector->has_gsi) {
			if (!begun)
				pci->ops.routes_begin(pci->ops.opaque);
			begun = true;
			pci->ops.gsi_free(pci->ops.opaque, vector->gsi);
		}
		pthread_mutex_lock(&pci->lock);
		*vector = (struct pci_vector){ .pci = pci, .fd = -1 };
		pthread_mutex_unlock(&pci->lock);
	}
	if (begun)
		pci->ops.routes_commit(pci->ops.opaque);
}

static void plan(struct cleat_pci *pci, unsigned first, unsigned count)
{
	pthread_mutex_lock(&pci->lock);
	for (unsigned i = first; i < first + count; i++)
		cleat_pci_vector_plan(pci, i);
	pthread_mutex_unlock(&pci->lock);
}

static bool is_to_arm(const struct pci_vector *vector)
{
	return vector->used && !vector->armed && !vector->refused;
}

/* Of a run that failed, the first part may have gone over. */
static void note_armed(struct pci_vector *vector)
{
	struct cleat_pci *pci = vector->pci;
	int fd =
		cleat_irqs_fd(pci->irqs, (unsigned)pci->type, index_of(vector));

	pthread_mutex_lock(&pci->lock);
	vector->fd = fd;
	vector->armed = fd >= 0;
	/* Not asked again before the type is enabled anew. */
	vector->refused = fd < 0;
	pthread_mutex_unlock(&pci->lock);
}

static void arm_run(struct cleat_pci *pci, unsigned first, unsigned count)
{
	int err = cleat_irqs_arm(pci->irqs, (unsigned)pci->type, first, count);

	if (err)
		cleat_pci_log(pci, "vectors %u to %u stay silent: %s", first,
			      first + count - 1, strerror(-err));
	for (unsigned i = first; i < first + count; i++)
		note_armed(&pci->vectors[i]);
}

static void arm(struct cleat_pci *pci)
{
	unsigned first = 0, end;

	while (first < pci->num_vectors) {
		for (end = first; end < pci->num_vectors; end++)
			if (!is_to_arm(&pci->vectors[end]))
				break;
		if (end > first)
			arm_run(pci, first, end - first);
		first = end + 1;
	}
}

static bool has_to_arm(const struct cleat_pci *pci, unsigned first,
		       unsigned count)
{
	for (unsigned i = first; i < first + count; i++)
		if (is_to_arm(&pci->vectors[i]))
			return true;
	return false;
}

/* A GSI stays with its vector, masked or not, until the type goes off. */
static bool take_gsi(struct pci_vector *vector)
{
	struct cleat_pci *pci = vector->pci;

	if (!vector->has_gsi && cleat_pci_can_irqfd(pci))
		vector->has_gsi =
			!pci->ops.gsi_alloc(pci->ops.opaque, &vector->gsi);
	return vector->has_gsi;
}

static bool is_to_route(const struct pci_vector *vector)
{
	if (!vector->wanted || !vector->armed)
		return false;
	return !vector->routed || !same_msi(&vector->msi, &vector->plan);
}

static void route_one(struct pci_vector *vector, bool *begun)
{
	struct cleat_pci *pci = vector->pci;

	if (vector->how == PCI_WATCH || !take_gsi(vector)) {
		/* If it has a GSI, that still sends what was before. */
		vector->routed = false;
		set_msi(vector);
		return;
	}
	if (!*begun)
		pci->ops.routes_begin(pci->ops.opaque);
	*begun = true;
	vector->fresh = true;
	vector->routed = !pci->ops.msi_route(pci->ops.opaque, vector->gsi,
					     &vector->plan);
	set_msi(vector);
}

/*
 * Which of this round's routes were refused is not told. A GSI that sends what
 * it should not is worse than none.
 */
static void drop_routes(struct cleat_pci *pci, unsigned first, unsigned count,
			bool all)
{
	for (unsigned i = first; i < first + count; i++) {
		struct pci_vector *vector = &pci->vectors[i];

		if (all && vector->fresh)
			vector->routed = false;
		vector->fresh = false;
		if (vector->how == PCI_IRQFD && !vector->routed)
			unbind(vector);
	}
}

static void route(struct cleat_pci *pci, unsigned first, unsigned count)
{
	bool begun = false;
	int err = 0;

	for (unsigned i = first; i < first + count; i++)
		if (is_to_route(&pci->vectors[i]))
			route_one(&pci->vectors[i], &begun);
	if (!begun)
		return;
	err = pci->ops.routes_commit(pci->ops.opaque);
	if (err)
		cleat_pci_log(pci, "interrupt routes: %s", strerror(-err));
	drop_routes(pci, first, count, err);
}

/* Events thread. */
static void inject(void *opaque, uint32_t events)
{
	struct pci_vector *vector = opaque;
	struct cleat_pci *pci = vector->pci;
	struct cleat_msi msi;
	int type;

	pthread_mutex_lock(&pci->lock);
	msi = vector->msi;
	type = pci->type;
	pthread_mutex_unlock(&pci->lock);
	if (!cleat_irqs_take(pci->irqs, (unsigned)type, index_of(vector)))
		return;
	pci->ops.msi_signal(pci->ops.opaque, &msi);
	atomic_fetch_add(&pci->injected, 1);
}

static void bind_one(struct pci_vector *vector)
{
	struct cleat_pci *pci = vector->pci;

	if (!vector->wanted || !vector->armed || vector->how != PCI_UNBOUND)
		return;
	if (vector->routed &&
	    !pci->ops.irqfd_add(pci->ops.opaque, vector->gsi, vector->fd, -1)) {
		set_how(vector, PCI_IRQFD);
		return;
	}
	if (!pci->ops.msi_signal || cleat_watch_add(vector->fd, EPOLLIN, inject,
						    vector, &vector->watch)) {
		cleat_pci_log(pci, "vector %u cannot be delivered",
			      index_of(vector));
		return;
	}
	set_how(vector, PCI_WATCH);
}

int cleat_pci_vectors_sync(struct cleat_pci *pci, unsigned first,
			   unsigned count, bool message)
{
	plan(pci, first, count);
	for (unsigned i = first; i < first + count; i++)
		if (!pci->vectors[i].wanted)
			unbind(&pci->vectors[i]);
	if (has_to_arm(pci, first, count)) {
		if (!message)
			return -EAGAIN;
		arm(pci);
	}
	route(pci, first, count);
	for (unsigned i = first; i < first + count; i++)
		bind_one(&pci->vectors[i]);
	return 0;
}
