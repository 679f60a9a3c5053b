/* SPDX-License-Identifier: BSD-2-Clause */
/* The tables as a kernel walks them: from the RSDP, by length and checksum. */
#include "tests/support/support.h"
#include "vmm/vmm.h"

#define HEADER 36

static uint8_t area[ACPI_SIZE];
static const struct acpi_config config = {
	.cpus = 3,
	.window64_start = 1ull << 39,
	.window64_size = 1ull << 38,
};

static uint64_t number(const uint8_t *at, unsigned bytes)
{
	uint64_t value = 0;

	memcpy(&value, at, bytes);
	return value;
}

static uint8_t sum(const uint8_t *at, size_t length)
{
	uint8_t total = 0;

	while (length--)
		total += *at++;
	return total;
}

static const uint8_t *at_guest(uint64_t address)
{
	ATF_REQUIRE(address >= ACPI_START && address < ACPI_START + ACPI_SIZE);
	return area + (address - ACPI_START);
}

/* A table that is whole: inside the area, with a checksum that is right. */
static const uint8_t *table_at(uint64_t address, const char *signature)
{
	const uint8_t *table = at_guest(address);
	size_t length = number(table + 4, 4);

	ATF_REQUIRE_EQ(0, memcmp(table, signature, 4));
	ATF_REQUIRE(length >= HEADER);
	ATF_REQUIRE(length <= (size_t)(area + sizeof(area) - table));
	ATF_REQUIRE_EQ_MSG(0, sum(table, length), "checksum of %s", signature);
	return table;
}

static const uint8_t *find_table(const char *signature)
{
	const uint8_t *xsdt = table_at(number(area + 24, 8), "XSDT");
	size_t i, length = number(xsdt + 4, 4);

	for (i = HEADER; i + 8 <= length; i += 8) {
		uint64_t address = number(xsdt + i, 8);

		if (!memcmp(at_guest(address), signature, 4))
			return table_at(address, signature);
	}
	atf_tc_fail("no %s in the XSDT", signature);
}

static void build(void)
{
	memset(area, 0xaa, sizeof(area));
	ATF_REQUIRE(cleat_vmm_acpi_build(area, sizeof(area), &config) > 0);
}

CLEAT_TC(build__rsdp)
{
	build();
	ATF_REQUIRE_EQ(0, memcmp(area, "RSD PTR ", 8));
	ATF_REQUIRE_EQ(0, sum(area, 20));
	ATF_REQUIRE_EQ(36, number(area + 20, 4));
	ATF_REQUIRE_EQ(0, sum(area, 36));
	ATF_REQUIRE_EQ(2, area[15]);
}

CLEAT_TC(build__fadt)
{
	const uint8_t *fadt;

	build();
	fadt = find_table("FACP");
	ATF_REQUIRE_EQ(276, number(fadt + 4, 4));
	table_at(number(fadt + 40, 4), "DSDT");
	ATF_REQUIRE_EQ(number(fadt + 40, 4), number(fadt + 140, 8));
	ATF_REQUIRE_EQ(0, memcmp(at_guest(number(fadt + 36, 4)), "FACS", 4));
	ATF_REQUIRE_EQ(0, number(fadt + 36, 4) % 64);
	ATF_REQUIRE_EQ(PORT_PM1_CONTROL, number(fadt + 64, 4));
	/* The reset register: supported, a port, one byte wide. */
	ATF_REQUIRE(number(fadt + 112, 4) & 1u << 10);
	ATF_REQUIRE_EQ(1, fadt[116]);
	ATF_REQUIRE_EQ(8, fadt[117]);
	ATF_REQUIRE_EQ(PORT_RESET, number(fadt + 120, 8));
	ATF_REQUIRE_EQ(ACPI_RESET_VALUE, fadt[128]);
}

/* The entries fill the table exactly, and every CPU has one. */
CLEAT_TC(build__madt)
{
	unsigned counts[256] = { 0 };
	const uint8_t *madt;
	size_t length, at;

	build();
	madt = find_table("APIC");
	length = number(madt + 4, 4);
	for (at = HEADER + 8; at + 2 <= length; at += madt[at + 1]) {
		ATF_REQUIRE(madt[at + 1] >= 2);
		if (madt[at] == 0)
			ATF_REQUIRE_EQ(counts[0], madt[at + 3]);
		counts[madt[at]]++;
	}
	ATF_REQUIRE_EQ(length, at);
	ATF_REQUIRE_EQ(config.cpus, counts[0]);
	ATF_REQUIRE_EQ(1, counts[1]);
	ATF_REQUIRE_EQ(2, counts[2]);
}

CLEAT_TC(build__mcfg)
{
	const uint8_t *mcfg;

	build();
	mcfg = find_table("MCFG");
	ATF_REQUIRE_EQ(60, number(mcfg + 4, 4));
	ATF_REQUIRE_EQ(ECAM_START, number(mcfg + 44, 8));
	/* The area holds the buses it names. */
	ATF_REQUIRE_EQ(ECAM_SIZE,
		       (uint64_t)(mcfg[55] - mcfg[54] + 1) << 20);
}

/* Bytes of an AML package length, and what it says. */
static size_t package_length(const uint8_t *at, size_t *ret)
{
	size_t follow = at[0] >> 6, i;

	if (!follow) {
		*ret = at[0] & 0x3f;
		return 1;
	}
	*ret = at[0] & 0xf;
	for (i = 0; i < follow; i++)
		*ret |= (size_t)at[1 + i] << (4 + 8 * i);
	return 1 + follow;
}

static const uint8_t *find_bytes(const uint8_t *table, const char *name)
{
	const uint8_t *at = memmem(table, number(table + 4, 4), name, 4);

	ATF_REQUIRE_MSG(at, "no %s in the DSDT", name);
	return at + 4;
}

/* Packages nest without a gap: a kernel loses its way over the first one. */
CLEAT_TC(build__dsdt)
{
	const uint8_t *fadt, *dsdt, *scope, *at;
	size_t length, package, i;

	build();
	fadt = find_table("FACP");
	dsdt = table_at(number(fadt + 140, 8), "DSDT");
	length = number(dsdt + 4, 4);
	scope = find_bytes(dsdt, "_S5_") - 4;
	ATF_REQUIRE_EQ('\\', scope[-1]);
	at = find_bytes(dsdt, "_SB_") - 5 - 3; /* root, length */
	ATF_REQUIRE_EQ(0x10, at[-1]);
	package_length(at, &package);
	ATF_REQUIRE_EQ_MSG(dsdt + length, at + package,
			   "the scope does not end with the table");

	/* Four pins of every slot, each a package of its own. */
	at = find_bytes(dsdt, "_PRT");
	ATF_REQUIRE_EQ(0x12, *at++);
	at += package_length(at, &package);
	ATF_REQUIRE_EQ(DEVICES_MAX * 4, *at++);
	for (i = 0; i < DEVICES_MAX * 4; i++) {
		ATF_REQUIRE_EQ(0x12, *at++);
		package_length(at, &package);
		at += package;
	}
	/* What comes next is a device or a name, not half a package. */
	ATF_REQUIRE(*at == 0x5b || *at == 0x08);
}

/* Resource descriptors end with their end tag, where the buffer ends. */
CLEAT_TC(build__windows)
{
	const uint8_t *fadt, *at, *end;
	uint64_t start = 0, size = 0;
	size_t package;

	build();
	fadt = find_table("FACP");
	at = find_bytes(table_at(number(fadt + 140, 8), "DSDT"), "_CRS");
	ATF_REQUIRE_EQ(0x11, *at++);
	end = at;
	at += package_length(at, &package);
	end += package;
	ATF_REQUIRE_EQ(0x0b, *at);
	ATF_REQUIRE_EQ((size_t)(end - at - 3), number(at + 1, 2));
	at += 3;
	while (at < end && *at != 0x79) {
		if (*at == 0x8a) {
			start = number(at + 14, 8);
			size = number(at + 38, 8);
		}
		at += *at & 0x80 ? 3 + number(at + 1, 2) : 1u + (*at & 7);
	}
	ATF_REQUIRE_EQ(end - 2, at);
	ATF_REQUIRE_EQ(config.window64_start, start);
	ATF_REQUIRE_EQ(config.window64_size, size);
}

/* However little room there is, nothing is written outside it. */
CLEAT_TC(build__no_room)
{
	int need;
	int size;

	need = cleat_vmm_acpi_build(area, sizeof(area), &config);
	for (size = 0; size < need; size += size < 64 ? 1 : 13) {
		uint8_t *exact = malloc((size_t)size);

		ATF_REQUIRE_EQ(-ENOSPC, cleat_vmm_acpi_build(exact, (size_t)size,
							     &config));
		free(exact);
	}
	ATF_REQUIRE_EQ(need, cleat_vmm_acpi_build(area, (size_t)need,
						  &config));
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, build__rsdp);
	ATF_TP_ADD_TC(tp, build__fadt);
	ATF_TP_ADD_TC(tp, build__madt);
	ATF_TP_ADD_TC(tp, build__mcfg);
	ATF_TP_ADD_TC(tp, build__dsdt);
	ATF_TP_ADD_TC(tp, build__windows);
	ATF_TP_ADD_TC(tp, build__no_room);
	return atf_no_error();
}
