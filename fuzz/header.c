/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cleat_header header;

	if (size < sizeof(header))
		return 0;
	memcpy(&header, data, sizeof(header));
	if (!cleat_header_check(&header) &&
	    (header.size < sizeof(header) || header.size > CLEAT_MAX_MESSAGE))
		abort();
	if (cleat_header_error(&header) > 0 ||
	    cleat_header_error(&header) < -4095)
		abort();
	cleat_command_name(header.command);
	return 0;
}
