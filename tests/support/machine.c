/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "tests/support/support.h"

static int kvm_missing(const atf_tc_t *tc, const char *why)
{
	if (atf_tc_get_config_var_as_bool_wd(tc, "require_kvm", false))
		atf_tc_fail("KVM is required here, but %s", why);
	atf_tc_skip("no KVM: %s", why);
	return -ENODEV;
}

int kvm_open(const atf_tc_t *tc)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm;

	if (kvm < 0)
		return kvm_missing(tc, strerror(errno));
	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return kvm_missing(tc, "its API has another version");
	/* The device node may be there without a processor that can. */
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		return kvm_missing(tc, "it makes no VM");
	close(vm);
	return kvm;
}

static bool cpu_virtualizes(void)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char *line = NULL;
	size_t size = 0;
	bool found = false;

	while (file && !found && getline(&line, &size, file) > 0)
		found = !strncmp(line, "flags", 5) &&
			(strstr(line, " vmx") || strstr(line, " svm"));
	free(line);
	if (file)
		fclose(file);
	return found;
}

int kvm_open_for_linux(const atf_tc_t *tc)
{
	if (!cpu_virtualizes())
		atf_tc_skip("the CPU has no vmx or svm: run in the lab only");
	return kvm_open(tc);
}

int memfd(size_t size, unsigned seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ATF_REQUIRE(fd >= 0);
	ATF_REQUIRE_EQ(0, ftruncate(fd, (off_t)size));
	if (seals)
		ATF_REQUIRE_EQ(0, fcntl(fd, F_ADD_SEALS, seals));
	return fd;
}

void *map_fd(int fd, size_t size, int protection)
{
	void *map = mmap(NULL, size, protection, MAP_SHARED, fd, 0);

	ATF_REQUIRE(map != MAP_FAILED);
	return map;
}
