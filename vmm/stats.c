/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * --stats: what the run cost, as JSON. Which way accesses went comes from the
 * library, exits from KVM's own statistics, returns of KVM_RUN from us.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <yajl/yajl_gen.h>

#include "vmm/vmm.h"

#define BARS 7 /* six and the expansion ROM */
#define COUNTERS_MAX 256
#define COUNTER_NAME 128

static const char *const way_names[CLEAT_NUM_WAYS] = {
	[CLEAT_WAY_TRAP] = "message",
	[CLEAT_WAY_MAP] = "mapped",
	[CLEAT_WAY_IOEVENTFD] = "ioeventfd",
	[CLEAT_WAY_SHADOW] = "shadow",
	[CLEAT_WAY_EMULATED] = "emulated",
};

static const char *const exit_names[EXIT_REASONS] = {
	[KVM_EXIT_UNKNOWN] = "unknown",
	[KVM_EXIT_IO] = "io",
	[KVM_EXIT_MMIO] = "mmio",
	[KVM_EXIT_IRQ_WINDOW_OPEN] = "irq_window",
	[KVM_EXIT_SHUTDOWN] = "shutdown",
	[KVM_EXIT_FAIL_ENTRY] = "fail_entry",
	[KVM_EXIT_INTR] = "signal",
	[KVM_EXIT_INTERNAL_ERROR] = "internal_error",
};

static const char *const outcome_names[] = {
	[OUTCOME_POWER_OFF] = "power-off",
	[OUTCOME_ERROR] = "error",
	[OUTCOME_USAGE] = "usage",
	[OUTCOME_RESET] = "reset",
	[OUTCOME_TRIPLE_FAULT] = "triple-fault",
	[OUTCOME_STOPPED] = "stopped",
	[OUTCOME_MOVED] = "moved",
};

/* ---- JSON ---- */

static void put_string(yajl_gen gen, const char *text)
{
	yajl_gen_string(gen, (const unsigned char *)text, strlen(text));
}

static void put_count(yajl_gen gen, const char *key, uint64_t value)
{
	put_string(gen, key);
	yajl_gen_integer(gen, (long long)value);
}

static void put_text(yajl_gen gen, const char *key, const char *text)
{
	put_string(gen, key);
	put_string(gen, text);
}

static void put_flag(yajl_gen gen, const char *key, bool flag)
{
	put_string(gen, key);
	yajl_gen_bool(gen, flag);
}

static void open_map(yajl_gen gen, const char *key)
{
	put_string(gen, key);
	yajl_gen_map_open(gen);
}

static void open_list(yajl_gen gen, const char *key)
{
	put_string(gen, key);
	yajl_gen_array_open(gen);
}

/* ---- the library's ---- */

static void put_ways(yajl_gen gen, const char *key, const uint64_t *counts)
{
	unsigned way;

	open_map(gen, key);
	for (way = 0; way < CLEAT_NUM_WAYS; way++)
		put_count(gen, way_names[way], counts[way]);
	yajl_gen_map_close(gen);
}

/* A rank's place inside its bucket of 2^i to 2^(i+1) is taken as linear. */
static uint64_t quantile(const struct cleat_mmio_stats *stats, uint64_t total,
			 unsigned percent)
{
	uint64_t rank = (total * percent + 99) / 100, value;
	unsigned i;

	for (i = 0; i < CLEAT_MMIO_BUCKETS; i++) {
		uint64_t in = stats->wait_ns[i];

		if (in >= rank && in) {
			value = (1ull << i) +
				(uint64_t)((double)(1ull << i) * (double)rank /
					   (double)in);
			return value < stats->wait_worst_ns ?
				       value : stats->wait_worst_ns;
		}
		rank -= in;
	}
	return stats->wait_worst_ns;
}

static void put_wait(yajl_gen gen, const struct cleat_mmio_stats *stats)
{
	uint64_t total = 0;
	unsigned i;

	for (i = 0; i < CLEAT_MMIO_BUCKETS; i++)
		total += stats->wait_ns[i];
	open_map(gen, "message_wait");
	put_count(gen, "count", total);
	put_count(gen, "median_ns", total ? quantile(stats, total, 50) : 0);
	put_count(gen, "p99_ns", total ? quantile(stats, total, 99) : 0);
	put_count(gen, "worst_ns", stats->wait_worst_ns);
	yajl_gen_map_close(gen);
}

static void put_access_counts(yajl_gen gen,
			      const struct cleat_mmio_stats *stats)
{
	put_ways(gen, "reads", stats->reads);
	put_ways(gen, "writes", stats->writes);
	put_count(gen, "coalesced", stats->coalesced);
	put_count(gen, "failed", stats->failed);
	put_count(gen, "called_back", stats->called_back);
	put_wait(gen, stats);
}

static void put_segments(yajl_gen gen, struct cleat_binding *binding)
{
	struct cleat_segment segment;
	unsigned i;

	open_list(gen, "segments");
	for (i = 0; !cleat_binding_segment(binding, i, &segment); i++) {
		yajl_gen_map_open(gen);
		put_count(gen, "offset", segment.offset);
		put_count(gen, "length", segment.length);
		put_text(gen, "read", way_names[segment.read_way]);
		put_text(gen, "write", way_names[segment.write_way]);
		put_count(gen, "kicks", segment.num_kicks);
		put_flag(gen, "installed", segment.installed);
		if (segment.why)
			put_text(gen, "why", segment.why);
		yajl_gen_map_close(gen);
	}
	yajl_gen_array_close(gen);
}

static void add_stats(struct cleat_mmio_stats *sum,
		      const struct cleat_mmio_stats *one)
{
	unsigned i;

	for (i = 0; i < CLEAT_NUM_WAYS; i++) {
		sum->reads[i] += one->reads[i];
		sum->writes[i] += one->writes[i];
	}
	for (i = 0; i < CLEAT_MMIO_BUCKETS; i++)
		sum->wait_ns[i] += one->wait_ns[i];
	sum->coalesced += one->coalesced;
	sum->failed += one->failed;
	sum->called_back += one->called_back;
	if (sum->wait_worst_ns < one->wait_worst_ns)
		sum->wait_worst_ns = one->wait_worst_ns;
}

static void put_bars(yajl_gen gen, struct cleat_pci *pci,
		     struct cleat_mmio_stats *sum)
{
	unsigned bar;

	open_list(gen, "bars");
	for (bar = 0; bar < BARS; bar++) {
		struct cleat_binding *binding = cleat_pci_binding(pci, bar);
		struct cleat_mmio_stats stats = { .size = sizeof(stats) };

		if (!binding || cleat_binding_stats(binding, &stats))
			continue;
		yajl_gen_map_open(gen);
		put_count(gen, "bar", bar);
		put_access_counts(gen, &stats);
		put_segments(gen, binding);
		yajl_gen_map_close(gen);
		add_stats(sum, &stats);
	}
	yajl_gen_array_close(gen);
}

static void put_connection(yajl_gen gen, struct cleat_device *device)
{
	struct cleat_device_stats stats = { .size = sizeof(stats) };

	if (cleat_device_stats(device, &stats))
		return;
	open_map(gen, "connection");
	put_count(gen, "requests", stats.requests);
	put_count(gen, "posted", stats.posted);
	put_count(gen, "replies", stats.replies);
	put_count(gen, "server_requests", stats.server_requests);
	put_count(gen, "timeouts", stats.timeouts);
	put_count(gen, "bytes_sent", stats.bytes_sent);
	put_count(gen, "bytes_received", stats.bytes_received);
	yajl_gen_map_close(gen);
}

static void put_interrupts(yajl_gen gen, struct cleat_pci *pci)
{
	static const char *const types[] = { "none", "INTx", "MSI", "MSI-X" };
	struct cleat_pci_stats stats = { .size = sizeof(stats) };

	if (cleat_pci_stats(pci, &stats))
		return;
	open_map(gen, "interrupts");
	put_text(gen, "type", stats.type < 4 ? types[stats.type] : "?");
	put_count(gen, "vectors", stats.vectors);
	put_count(gen, "irqfds", stats.irqfds);
	put_count(gen, "injected", stats.injected);
	put_count(gen, "bars_placed", stats.placed);
	yajl_gen_map_close(gen);
}

static void put_devices(yajl_gen gen, const struct devices *devices)
{
	unsigned i;

	open_list(gen, "devices");
	for (i = 0; i < devices->count; i++) {
		const struct device *device = &devices->device[i];
		struct cleat_mmio_stats sum = { 0 };

		yajl_gen_map_open(gen);
		put_text(gen, "socket", device->path);
		put_count(gen, "slot", i + 1);
		put_flag(gen, "lost", device->lost);
		put_bars(gen, device->pci, &sum);
		put_access_counts(gen, &sum);
		put_interrupts(gen, device->pci);
		put_connection(gen, device->device);
		yajl_gen_map_close(gen);
	}
	yajl_gen_array_close(gen);
}

/* ---- KVM's ---- */

struct counters {
	struct {
		char name[COUNTER_NAME];
		uint64_t value;
	} counter[COUNTERS_MAX];
	unsigned count;
};

static void add_counter(struct counters *counters, const char *name,
			uint64_t value)
{
	unsigned i;

	for (i = 0; i < counters->count; i++)
		if (!strcmp(counters->counter[i].name, name))
			break;
	if (i == COUNTERS_MAX)
		return;
	if (i == counters->count) {
		snprintf(counters->counter[i].name,
			 sizeof(counters->counter[i].name), "%s", name);
		counters->count++;
	}
	counters->counter[i].value += value;
}

/* One descriptor and its value; histograms and rates are left out. */
static int read_counter(int fd, const struct kvm_stats_header *header,
			unsigned index, struct counters *counters)
{
	/* The name follows its descriptor, and its size is the header's. */
	union {
		struct kvm_stats_desc desc;
		char bytes[sizeof(struct kvm_stats_desc) + COUNTER_NAME];
	} entry = { .bytes = "" };
	size_t size = sizeof(entry.desc) + header->name_size;
	uint64_t value;

	if (size >= sizeof(entry) ||
	    pread(fd, &entry, size, header->desc_offset + size * index) !=
		    (ssize_t)size)
		return -EIO;
	if (entry.desc.size != 1)
		return 0;
	if (pread(fd, &value, sizeof(value),
		  header->data_offset + entry.desc.offset) != sizeof(value))
		return -EIO;
	add_counter(counters, entry.bytes + sizeof(entry.desc), value);
	return 0;
}

static void read_counters(int owner, struct counters *counters)
{
	struct kvm_stats_header header;
	int fd = ioctl(owner, KVM_GET_STATS_FD, NULL);
	unsigned i;

	if (fd < 0)
		return; /* kernels before 5.14 */
	if (pread(fd, &header, sizeof(header), 0) == sizeof(header))
		for (i = 0; i < header.num_desc; i++)
			if (read_counter(fd, &header, i, counters))
				break;
	close(fd);
}

static void put_kvm(yajl_gen gen, const struct vm *vm)
{
	struct counters *counters = calloc(1, sizeof(*counters));
	unsigned i;

	if (!counters)
		return;
	for (i = 0; i < vm->vcpu_count; i++)
		read_counters(vm->vcpus[i].fd, counters);
	open_map(gen, "kvm");
	for (i = 0; i < counters->count; i++)
		put_count(gen, counters->counter[i].name,
			  counters->counter[i].value);
	yajl_gen_map_close(gen);
	free(counters);
}

static void put_returns(yajl_gen gen, const struct vm *vm)
{
	uint64_t interrupted = 0, faults = 0;
	unsigned reason, i;

	open_map(gen, "returns");
	for (reason = 0; reason < EXIT_REASONS; reason++) {
		uint64_t sum = 0;

		for (i = 0; i < vm->vcpu_count; i++)
			sum += vm->vcpus[i].returns[reason];
		if (exit_names[reason])
			put_count(gen, exit_names[reason], sum);
	}
	for (i = 0; i < vm->vcpu_count; i++) {
		interrupted += vm->vcpus[i].interrupted;
		faults += vm->vcpus[i].faults;
	}
	put_count(gen, "interrupted", interrupted);
	put_count(gen, "faults", faults);
	yajl_gen_map_close(gen);
}

static void put_all(yajl_gen gen, struct vm *vm)
{
	yajl_gen_map_open(gen);
	put_text(gen, "outcome", outcome_names[atomic_load(&vm->outcome)]);
	put_count(gen, "cpus", vm->vcpu_count);
	put_count(gen, "memory", vm->ram.size);
	put_devices(gen, &vm->devices);
	put_returns(gen, vm);
	put_kvm(gen, vm);
	yajl_gen_map_close(gen);
}

static int write_file(const char *path, const unsigned char *text,
		      size_t length)
{
	FILE *file = fopen(path, "we");
	int err = 0;

	if (!file)
		return -errno;
	if (fwrite(text, 1, length, file) != length)
		err = -EIO;
	if (fclose(file) && !err)
		err = -errno;
	return err;
}

int cleat_vmm_stats_write(struct vm *vm, const char *path)
{
	yajl_gen gen = yajl_gen_alloc(NULL);
	const unsigned char *text;
	size_t length;
	int err;

	if (!gen)
		return cleat_vmm_fail(-ENOMEM, "--stats: no memory");
	yajl_gen_config(gen, yajl_gen_beautify, 1);
	put_all(gen, vm);
	if (yajl_gen_get_buf(gen, &text, &length) != yajl_gen_status_ok)
		err = -EIO;
	else
		err = write_file(path, text, length);
	yajl_gen_free(gen);
	if (!err)
		return 0;
	errno = -err;
	return cleat_vmm_fail(err, "--stats %s: %m", path);
}
