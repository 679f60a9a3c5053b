/* SPDX-License-Identifier: BSD-2-Clause */
/* Whatever a file's header claims, what is taken from it is inside the file. */
#include "tests/support/support.h"
#include "vmm/vmm.h"

#define SETUP_SECTORS 3
#define FILE_SIZE (64 * 1024)
#define PAYLOAD_SIZE (FILE_SIZE - (SETUP_SECTORS + 1) * 512)

struct file {
	uint8_t head[BZIMAGE_HEAD];
	struct setup_header header;
	uint64_t size;
};

/* A header as a well-made 64-bit kernel has it. */
static void make_file(struct file *file)
{
	memset(file, 0, sizeof(*file));
	file->size = FILE_SIZE;
	file->header = (struct setup_header){
		.setup_sects = SETUP_SECTORS,
		.syssize = PAYLOAD_SIZE / 16,
		.boot_flag = 0xaa55,
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.xloadflags = XLF_KERNEL_64,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 2 * MiB,
		.relocatable_kernel = 1,
		.cmdline_size = 2047,
		.pref_address = 16 * MiB,
		.init_size = 40 * MiB,
	};
}

static int parse(struct file *file, struct bzimage *image)
{
	const char *why = NULL;
	int err;

	memcpy(file->head + BZIMAGE_HEADER, &file->header,
	       sizeof(file->header));
	err = cleat_vmm_bzimage_parse(file->head, sizeof(file->head),
				      file->size, image, &why);
	/* A refusal is explained. */
	ATF_REQUIRE_EQ(err != 0, why != NULL);
	return err;
}

static void require_refused(struct file *file)
{
	struct bzimage image;

	memset(&image, 0x5a, sizeof(image));
	ATF_REQUIRE_EQ(-ENOEXEC, parse(file, &image));
	/* Written on success only. */
	ATF_REQUIRE_EQ(0x5a5a5a5a5a5a5a5aull, image.payload);
}

CLEAT_TC(parse__good)
{
	struct bzimage image;
	struct file file;

	make_file(&file);
	ATF_REQUIRE_EQ(0, parse(&file, &image));
	ATF_REQUIRE_EQ((SETUP_SECTORS + 1) * 512, image.payload);
	ATF_REQUIRE_EQ(PAYLOAD_SIZE, image.length);
	ATF_REQUIRE_EQ(40 * MiB, image.need);
	ATF_REQUIRE_EQ(2047, image.command_line_max);
}

CLEAT_TC(parse__short_file)
{
	struct bzimage image;
	struct file file;
	const char *why;
	size_t size;

	make_file(&file);
	ATF_REQUIRE_EQ(0, parse(&file, &image));
	for (size = 0; size < BZIMAGE_HEADER + sizeof(file.header); size++)
		ATF_REQUIRE_EQ(-ENOEXEC,
			       cleat_vmm_bzimage_parse(file.head, size, size,
						       &image, &why));
	/* More in hand than the file has: the caller's mistake, no reading. */
	ATF_REQUIRE_EQ(-ENOEXEC,
		       cleat_vmm_bzimage_parse(file.head, sizeof(file.head),
					       16, &image, &why));
}

CLEAT_TC(parse__truncated)
{
	struct file file;

	make_file(&file);
	/* Tools append a signature, and pad less than a paragraph. */
	file.size = FILE_SIZE - 16;
	require_refused(&file);
	file.size = FILE_SIZE / 2;
	require_refused(&file);
	file.size = (SETUP_SECTORS + 1) * 512;
	require_refused(&file);
}

CLEAT_TC(parse__no_bzimage)
{
	struct file file;

	make_file(&file);
	file.header.boot_flag = 0;
	require_refused(&file);
	make_file(&file);
	file.header.header ^= 1;
	require_refused(&file);
	make_file(&file);
	file.header.version = 0x020b;
	require_refused(&file);
	make_file(&file);
	file.header.xloadflags = 0;
	require_refused(&file);
	make_file(&file);
	file.header.loadflags = 0;
	require_refused(&file);
}

CLEAT_TC(parse__setup_sects_lie)
{
	struct bzimage image;
	struct file file;

	make_file(&file);
	file.header.setup_sects = 255;
	require_refused(&file); /* the payload is shorter than it says */
	file.header.syssize = 0;
	require_refused(&file); /* the payload begins after the end */
	file.header.setup_sects = 127; /* exactly at the end */
	require_refused(&file);
	file.header.setup_sects = 126; /* too little for an entry point */
	require_refused(&file);
	file.header.setup_sects = 125;
	ATF_REQUIRE_EQ(0, parse(&file, &image));
	ATF_REQUIRE_EQ(FILE_SIZE, image.payload + image.length);

	make_file(&file);
	file.header.setup_sects = 0;
	file.header.syssize = 0;
	ATF_REQUIRE_EQ(0, parse(&file, &image));
	ATF_REQUIRE_EQ(5 * 512, image.payload);
}

CLEAT_TC(parse__sizes_lie)
{
	struct bzimage image;
	struct file file;

	make_file(&file);
	file.header.syssize = 0xffffffff;
	require_refused(&file);
	/* Less than what is loaded: what is loaded counts. */
	make_file(&file);
	file.header.init_size = 1;
	ATF_REQUIRE_EQ(0, parse(&file, &image));
	ATF_REQUIRE_EQ(PAYLOAD_SIZE, image.need);
	/* The command line has a place of its own, and that is all it has. */
	make_file(&file);
	file.header.cmdline_size = 0xffffffff;
	ATF_REQUIRE_EQ(0, parse(&file, &image));
	ATF_REQUIRE(image.command_line_max < COMMAND_LINE_MAX);
}

CLEAT_TC(parse__addresses_lie)
{
	static const uint64_t bad[] = { 0, HIGH_MEMORY - 1, UINT64_MAX,
					1ull << 63, UINT64_MAX - 40 * MiB };
	struct file file;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		make_file(&file);
		file.header.pref_address = bad[i];
		require_refused(&file);
	}
	make_file(&file);
	file.header.kernel_alignment = 3;
	require_refused(&file);
	make_file(&file);
	file.header.kernel_alignment = 1u << 31;
	require_refused(&file);
	make_file(&file);
	file.header.initrd_addr_max = 0;
	require_refused(&file);
}

/* Every header made of random bytes is refused or leads inside the file. */
CLEAT_TC(parse__random)
{
	struct bzimage image;
	struct file file;
	uint64_t address;
	unsigned i, j;

	srand(1);
	for (i = 0; i < 100000; i++) {
		uint8_t *bytes = (uint8_t *)&file.header;

		make_file(&file);
		for (j = 0; j < 4; j++)
			bytes[rand() % sizeof(file.header)] = (uint8_t)rand();
		if (parse(&file, &image))
			continue;
		ATF_REQUIRE(image.payload + image.length == FILE_SIZE);
		if (!cleat_vmm_bzimage_place(&image, 256 * MiB, &address))
			ATF_REQUIRE(address >= HIGH_MEMORY &&
				    address <= 256 * MiB &&
				    image.need <= 256 * MiB - address);
	}
}

CLEAT_TC(place__memory)
{
	struct bzimage image;
	struct file file;
	uint64_t address;

	make_file(&file);
	ATF_REQUIRE_EQ(0, parse(&file, &image));
	ATF_REQUIRE_EQ(0, cleat_vmm_bzimage_place(&image, 56 * MiB, &address));
	ATF_REQUIRE_EQ(16 * MiB, address);
	/* Not enough where it would like to be, but lower. */
	ATF_REQUIRE_EQ(0, cleat_vmm_bzimage_place(&image, 55 * MiB, &address));
	ATF_REQUIRE_EQ(2 * MiB, address);
	ATF_REQUIRE_EQ(0, cleat_vmm_bzimage_place(&image, 42 * MiB, &address));
	ATF_REQUIRE_EQ(-ENOMEM,
		       cleat_vmm_bzimage_place(&image, 41 * MiB, &address));
	ATF_REQUIRE_EQ(-ENOMEM, cleat_vmm_bzimage_place(&image, 0, &address));
	image.align = 0;
	ATF_REQUIRE_EQ(-ENOMEM,
		       cleat_vmm_bzimage_place(&image, 55 * MiB, &address));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, parse__good);
	ATF_TP_ADD_TC(tp, parse__short_file);
	ATF_TP_ADD_TC(tp, parse__truncated);
	ATF_TP_ADD_TC(tp, parse__no_bzimage);
	ATF_TP_ADD_TC(tp, parse__setup_sects_lie);
	ATF_TP_ADD_TC(tp, parse__sizes_lie);
	ATF_TP_ADD_TC(tp, parse__addresses_lie);
	ATF_TP_ADD_TC(tp, parse__random);
	ATF_TP_ADD_TC(tp, place__memory);
	return atf_no_error();
}
