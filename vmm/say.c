/* SPDX-License-Identifier: BSD-2-Clause */
/* What cleat-vmm tells its user: one line each, on standard error. */
#include <stdarg.h>
#include <stdio.h>

#include "vmm/vmm.h"

static atomic_bool raw_terminal;

void cleat_vmm_say_raw(bool raw)
{
	raw_terminal = raw;
}

static void say(const char *format, va_list args)
{
	char text[1024];

	vsnprintf(text, sizeof(text), format, args);
	/* One call, so that lines of several threads stay whole. */
	fprintf(stderr, "cleat-vmm: %s%s\n", text, raw_terminal ? "\r" : "");
}

void cleat_vmm_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
}

int cleat_vmm_fail(int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
	return code;
}
