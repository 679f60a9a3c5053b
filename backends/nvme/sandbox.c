/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rights. Guests and their VMMs are not trusted, so nothing is kept that they
 * could make use of through us: once the disk is open no capability is needed,
 * and no program is ever executed.
 */
#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backends/nvme/device.h"

int cleat_nvme_drop_rights(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	/* Fails where there are none to begin with, in some containers. */
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &header, none))
		return -errno;
	return 0;
}
