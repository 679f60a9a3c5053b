/* SPDX-License-Identifier: BSD-2-Clause */
/* What goes wrong, in one line each: what, why, and what to do. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tools/ctl/ctl.h"

int cleat_ctl_say(int status, const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fputs("cleatctl: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return status;
}

static const char *advice(int err)
{
	switch (err) {
	case -ETIMEDOUT:
		return "; --timeout gives it more time";
	case -ERANGE:
		return "; see cleatctl regions";
	case -EACCES:
		return "; the region's flags say what it takes";
	case -EOPNOTSUPP:
		return "; the device does not have this";
	}
	return "";
}

int cleat_ctl_failed(struct ctl *ctl, const char *what, int err)
{
	struct cleat_error why;

	if (err == -ENOMEM)
		return cleat_ctl_say(CTL_LOCAL, "%s: out of memory", what);
	if (cleat_device_failure(ctl->dev, &why))
		return cleat_ctl_say(CTL_DEVICE, "%s: %s", what, why.text);
	if (err == -ERANGE)
		return cleat_ctl_say(CTL_DEVICE,
				     "%s: not inside the region%s", what,
				     advice(err));
	return cleat_ctl_say(CTL_DEVICE, "%s: %s%s", what, strerror(-err),
			     advice(err));
}

int cleat_ctl_no_connection(const struct cleat_error *why)
{
	const char *hint = "";

	if (why->code == -ENOENT || why->code == -ECONNREFUSED)
		hint = "; start the server first";
	else if (why->code == -ETIMEDOUT)
		hint = "; most servers take one client at a time, and "
		       "--timeout gives them longer";
	else if (why->code == -EACCES || why->code == -EPERM)
		hint = "; run as who may write to the socket";
	else if (why->code == -ECONNRESET)
		hint = "; it may not speak vfio-user, or has a client "
		       "already";
	return cleat_ctl_say(CTL_CONNECT, "%s%s", why->text, hint);
}
