/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sample servers of libvfio-user, as they are. They are not installed by
 * themselves: CLEAT_LIBVFIO_USER names a prefix in whose bin/ they have been
 * put; otherwise the cases are skipped.
 */
#ifndef TESTS_INTEROP_SAMPLES_H
#define TESTS_INTEROP_SAMPLES_H

#include "client/client.h"
#include "tests/support/support.h"

struct sample {
	struct child server;
	struct cleat_device *dev;
	int terminal; /* the other end of its stdin */
};

/* It listens at @socket; false when it ends at once. */
bool sample_begin(struct sample *sample, const char *name, const char *socket);
/* And we are its client. */
bool sample_open(struct sample *sample, const char *name, const char *socket);
void sample_end(struct sample *sample);

#endif
