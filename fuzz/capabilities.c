/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>

#include "fuzz/fuzz.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cleat_capabilities caps, again;
	struct cleat_error why;
	char json[512];
	ssize_t n;

	if (cleat_capabilities_parse((const char *)data, size, &caps, &why))
		return 0;
	if (!caps.max_data_xfer_size || !caps.page_sizes)
		abort();
	/* What was understood can be said, and is understood again. */
	n = cleat_capabilities_print(&caps, false, json, sizeof(json));
	if (n < 0 || cleat_capabilities_parse(json, (size_t)n, &again, NULL) ||
	    again.max_msg_fds != caps.max_msg_fds ||
	    again.page_sizes != caps.page_sizes)
		abort();
	return 0;
}
