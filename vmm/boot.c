/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The 64-bit boot protocol of Linux (Documentation/arch/x86/boot.rst there):
 * the compressed kernel goes to its preferred address as it is in the file,
 * and is entered in long mode 0x200 bytes in, with RSI at a zero page that
 * describes memory, the initrd and the command line.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/vmm.h"

#define SECTOR 512ull
#define BOOT_FLAG 0xaa55
#define HEADER_MAGIC 0x53726448u /* "HdrS" */
#define PROTOCOL_WITH_XLOADFLAGS 0x020c
#define LOADER_UNDEFINED 0xff
#define ENTRY_64 0x200
#define PAGE 4096ull
/* Nothing sensible is aligned more than this, and sums stay far from 2^64. */
#define ALIGN_MAX GiB
#define ADDRESS_MAX (1ull << 40)

static uint64_t align_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

static int refuse(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -ENOEXEC;
}

static int check_header(const struct setup_header *header, const char **ret_why)
{
	if (header->boot_flag != BOOT_FLAG || header->header != HEADER_MAGIC)
		return refuse(ret_why, "not a Linux bzImage");
	if (header->version < PROTOCOL_WITH_XLOADFLAGS)
		return refuse(ret_why, "the kernel is too old (before 3.8)");
	if (!(header->xloadflags & XLF_KERNEL_64))
		return refuse(ret_why, "not a 64-bit kernel");
	if (!(header->loadflags & LOADED_HIGH))
		return refuse(ret_why, "not a bzImage but an old zImage");
	return 0;
}

static int check_addresses(struct bzimage *image, const char **ret_why)
{
	const struct setup_header *header = &image->header;

	image->preferred = header->pref_address;
	image->align = header->relocatable_kernel ? header->kernel_alignment : 0;
	if (image->align & (image->align - 1) || image->align > ALIGN_MAX)
		return refuse(ret_why, "damaged header (kernel_alignment)");
	if (image->preferred < HIGH_MEMORY || image->preferred > ADDRESS_MAX)
		return refuse(ret_why, "damaged header (pref_address)");
	if (header->initrd_addr_max < HIGH_MEMORY)
		return refuse(ret_why, "damaged header (initrd_addr_max)");
	image->initrd_max = header->initrd_addr_max;
	image->command_line_max = header->cmdline_size;
	if (image->command_line_max >= COMMAND_LINE_MAX)
		image->command_line_max = COMMAND_LINE_MAX - 1;
	return 0;
}

int cleat_vmm_bzimage_parse(const uint8_t *head, size_t head_size,
			    uint64_t file_size, struct bzimage *ret,
			    const char **ret_why)
{
	struct bzimage image = { 0 };
	uint64_t sectors;
	int err;

	if (head_size < BZIMAGE_HEADER + sizeof(image.header) ||
	    file_size < head_size)
		return refuse(ret_why, "not a Linux bzImage (too short)");
	memcpy(&image.header, head + BZIMAGE_HEADER, sizeof(image.header));
	err = check_header(&image.header, ret_why);
	if (err)
		return err;

	/* Zero means four, for the sake of very old kernels. */
	sectors = image.header.setup_sects ? image.header.setup_sects : 4;
	image.payload = (sectors + 1) * SECTOR;
	if (image.payload >= file_size)
		return refuse(ret_why, "truncated (nothing after the setup)");
	image.length = file_size - image.payload;
	if (image.header.syssize * 16ull > align_up(image.length, 16))
		return refuse(ret_why, "truncated");
	if (image.length <= ENTRY_64)
		return refuse(ret_why, "truncated (no 64-bit entry)");
	image.need = image.header.init_size;
	if (image.need < image.length)
		image.need = image.length;

	err = check_addresses(&image, ret_why);
	if (err)
		return err;
	*ret = image;
	return 0;
}

int cleat_vmm_bzimage_place(const struct bzimage *image, uint64_t low,
			    uint64_t *ret_address)
{
	uint64_t address = image->preferred;

	if (address <= low && image->need <= low - address) {
		*ret_address = address;
		return 0;
	}
	if (!image->align)
		return -ENOMEM;
	address = align_up(HIGH_MEMORY, image->align);
	if (address > low || image->need > low - address)
		return -ENOMEM;
	*ret_address = address;
	return 0;
}

/* Opens a regular file that the user named; says why not. */
static int open_file(const char *what, const char *path, uint64_t *ret_size)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return cleat_vmm_fail(-errno, "%s %s: %m", what, path);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return cleat_vmm_fail(-EINVAL, "%s %s: not a regular file",
				      what, path);
	}
	*ret_size = (uint64_t)st.st_size;
	return fd;
}

/* A file may be cut short under us: what was promised is counted. */
static int read_exactly(int fd, void *to, uint64_t length, uint64_t offset)
{
	uint8_t *at = to;

	while (length) {
		ssize_t n = pread(fd, at, length, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		at += n;
		offset += (uint64_t)n;
		length -= (uint64_t)n;
	}
	return 0;
}

static int read_image(int fd, const char *path, uint64_t size,
		      struct bzimage *image)
{
	uint8_t head[BZIMAGE_HEAD];
	uint64_t length = size < sizeof(head) ? size : sizeof(head);
	const char *why;
	int err = read_exactly(fd, head, length, 0);

	if (err)
		return cleat_vmm_fail(err, "--kernel %s: %s", path,
				      strerror(-err));
	err = cleat_vmm_bzimage_parse(head, length, size, image, &why);
	if (err)
		return cleat_vmm_fail(err,
				      "--kernel %s: %s: give the vmlinuz file of a 64-bit kernel",
				      path, why);
	return 0;
}

static int load_kernel(struct bzimage *image, const struct ram *ram,
		       const char *path, uint64_t *ret_address)
{
	uint64_t size, address;
	int fd = open_file("--kernel", path, &size);
	int err;

	if (fd < 0)
		return fd;
	err = read_image(fd, path, size, image);
	if (err)
		goto out;
	err = cleat_vmm_bzimage_place(image, ram->low, &address);
	if (err) {
		cleat_vmm_fail(err,
			       "%" PRIu64 " MiB of memory are too little for %s: give --memory %" PRIu64 " or more",
			       ram->size / MiB, path,
			       (image->preferred + image->need) / MiB + 32);
		goto out;
	}
	err = read_exactly(fd, ram->host + address, image->length,
			   image->payload);
	if (err)
		cleat_vmm_fail(err, "--kernel %s: %s", path, strerror(-err));
	else
		*ret_address = address;
out:
	close(fd);
	return err;
}

/* The initrd goes as high as the kernel can take it, clear of the kernel. */
static int place_initrd(const struct ram *ram, const struct bzimage *image,
			uint64_t kernel_end, uint64_t size, uint64_t *ret)
{
	uint64_t top = ram->low;

	if (top > image->initrd_max + 1)
		top = image->initrd_max + 1;
	if (size > top || ((top - size) & ~(PAGE - 1)) < kernel_end)
		return -ENOMEM;
	*ret = (top - size) & ~(PAGE - 1);
	return 0;
}

static int load_initrd(struct setup_header *header, const struct ram *ram,
		       const struct bzimage *image, uint64_t kernel_end,
		       const char *path)
{
	uint64_t size, address;
	int fd = open_file("--initrd", path, &size);
	int err;

	if (fd < 0)
		return fd;
	err = place_initrd(ram, image, kernel_end, size, &address);
	if (err) {
		cleat_vmm_fail(err,
			       "--initrd %s: %" PRIu64 " MiB do not fit beside the kernel: give more --memory",
			       path, size / MiB + 1);
		goto out;
	}
	err = read_exactly(fd, ram->host + address, size, 0);
	if (err) {
		cleat_vmm_fail(err, "--initrd %s: %s", path, strerror(-err));
		goto out;
	}
	header->ramdisk_image = (uint32_t)address;
	header->ramdisk_size = (uint32_t)size;
out:
	close(fd);
	return err;
}

static int load_command_line(struct setup_header *header,
			     const struct ram *ram, uint64_t max,
			     const char *text)
{
	size_t length = strlen(text);

	if (length > max)
		return cleat_vmm_fail(-E2BIG,
				      "--append: %zu bytes, the kernel takes %" PRIu64,
				      length, max);
	memcpy(ram->host + GUEST_COMMAND_LINE, text, length + 1);
	header->cmd_line_ptr = GUEST_COMMAND_LINE;
	return 0;
}

static void add_e820(struct boot_params *zero, uint64_t start, uint64_t end,
		     uint32_t type)
{
	struct boot_e820_entry *entry = &zero->e820_table[zero->e820_entries];

	if (start >= end)
		return;
	entry->addr = start;
	entry->size = end - start;
	entry->type = type;
	zero->e820_entries++;
}

static void describe_memory(struct boot_params *zero, const struct ram *ram)
{
	enum { RAM = 1, RESERVED = 2 };

	add_e820(zero, 0, EBDA_START, RAM);
	add_e820(zero, EBDA_START, HIGH_MEMORY, RESERVED);
	add_e820(zero, HIGH_MEMORY, ram->low, RAM);
	add_e820(zero, ECAM_START, ECAM_START + ECAM_SIZE, RESERVED);
	add_e820(zero, HIGH_RAM_START, HIGH_RAM_START + ram->high, RAM);
}

int cleat_vmm_boot_load(struct boot *boot, const struct ram *ram,
			const struct options *options)
{
	struct boot_params *zero = (void *)(ram->host + GUEST_ZERO_PAGE);
	struct setup_header *header = &zero->hdr;
	struct bzimage image;
	uint64_t address;
	int err = load_kernel(&image, ram, options->kernel, &address);

	if (err)
		return err;
	memset(zero, 0, sizeof(*zero));
	*header = image.header;
	header->type_of_loader = LOADER_UNDEFINED;
	header->code32_start = (uint32_t)address;
	header->setup_data = 0;
	header->ramdisk_image = 0;
	header->ramdisk_size = 0;
	if (options->initrd)
		err = load_initrd(header, ram, &image, address + image.need,
				  options->initrd);
	if (!err)
		err = load_command_line(header, ram, image.command_line_max,
					options->append);
	if (err)
		return err;
	zero->acpi_rsdp_addr = ACPI_START;
	describe_memory(zero, ram);
	boot->entry = address + ENTRY_64;
	return 0;
}
