/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/measure.h"

static void find_cpu(struct bench_host *host)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char line[256];

	snprintf(host->cpu, sizeof(host->cpu), "unknown processor");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "model name : %79[^\n]", host->cpu) == 1)
			break;
	if (file)
		fclose(file);
}

static void find_kvm(struct bench_host *host)
{
	static const struct {
		const char *path;
		const char *what;
	} kinds[] = {
		{ "/sys/module/kvm_intel", "vmx" },
		{ "/sys/module/kvm_amd", "svm" },
		{ "/sys/module/kvm_pvm", "paravirtual" },
	};

	snprintf(host->kvm, sizeof(host->kvm), "unknown");
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!access(kinds[i].path, F_OK))
			snprintf(host->kvm, sizeof(host->kvm), "%s",
				 kinds[i].what);
}

void cleat_bench_host(struct bench_host *host)
{
	struct utsname name = { .release = "unknown" };

	uname(&name);
	snprintf(host->kernel, sizeof(host->kernel), "%.70s", name.release);
	find_cpu(host);
	find_kvm(host);
	host->cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
}
