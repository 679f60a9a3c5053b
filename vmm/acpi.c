/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tables a kernel expects from firmware (ACPI 6.0): RSDP, XSDT, FADT with
 * FACS and DSDT, MADT, MCFG. The fixed hardware they speak of is power.c's.
 */
#include <errno.h>
#include <string.h>

#include "vmm/vmm.h"

#define PACKED __attribute__((packed))

struct rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} PACKED;

struct table_header {
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem[6];
	char oem_table[8];
	uint32_t oem_revision;
	char creator[4];
	uint32_t creator_revision;
} PACKED;

struct generic_address {
	uint8_t space;
	uint8_t bits;
	uint8_t shift;
	uint8_t access;
	uint64_t address;
} PACKED;

struct facs {
	char signature[4];
	uint32_t length;
	uint8_t zero[24];
	uint8_t version;
	uint8_t reserved[31];
} PACKED;

struct fadt {
	struct table_header header;
	uint32_t facs;
	uint32_t dsdt;
	uint8_t reserved;
	uint8_t profile;
	uint16_t sci;
	uint32_t smi_command;
	uint8_t smi_values[4];
	uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control;
	uint32_t pm2_control, pm_timer, gpe0, gpe1;
	uint8_t pm1_event_length, pm1_control_length, pm2_control_length;
	uint8_t pm_timer_length, gpe0_length, gpe1_length, gpe1_base;
	uint8_t cst_control;
	uint16_t c2_latency, c3_latency;
	uint16_t flush_size, flush_stride;
	uint8_t duty_offset, duty_width;
	uint8_t day_alarm, month_alarm, century;
	uint16_t boot_flags;
	uint8_t reserved2;
	uint32_t flags;
	struct generic_address reset;
	uint8_t reset_value;
	uint16_t arm_flags;
	uint8_t minor;
	uint64_t x_facs, x_dsdt;
	struct generic_address x_pm1a_event, x_pm1b_event;
	struct generic_address x_pm1a_control, x_pm1b_control;
	struct generic_address x_pm2_control, x_pm_timer, x_gpe0, x_gpe1;
	struct generic_address sleep_control, sleep_status;
	uint64_t hypervisor;
} PACKED;

struct madt {
	struct table_header header;
	uint32_t lapic;
	uint32_t flags;
} PACKED;

struct madt_lapic {
	uint8_t type, length;
	uint8_t uid, id;
	uint32_t flags;
} PACKED;

struct madt_ioapic {
	uint8_t type, length;
	uint8_t id, reserved;
	uint32_t address;
	uint32_t gsi_base;
} PACKED;

struct madt_override {
	uint8_t type, length;
	uint8_t bus, source;
	uint32_t gsi;
	uint16_t flags;
} PACKED;

struct mcfg {
	struct table_header header;
	uint8_t reserved[8];
	uint64_t base;
	uint16_t segment;
	uint8_t first_bus, last_bus;
	uint32_t reserved2;
} PACKED;

_Static_assert(sizeof(struct rsdp) == 36, "ACPI 6.0, 5.2.5.3");
_Static_assert(sizeof(struct table_header) == 36, "ACPI 6.0, 5.2.6");
_Static_assert(sizeof(struct facs) == 64, "ACPI 6.0, 5.2.10");
_Static_assert(sizeof(struct fadt) == 268 + 8, "ACPI 6.0, 5.2.9");
_Static_assert(sizeof(struct mcfg) == 60, "PCI firmware 3.0, 4.1.2");

#define FADT_BOOT_NO_VGA (1u << 2)
#define FADT_BOOT_NO_ASPM (1u << 4)
#define FADT_BOOT_NO_RTC (1u << 5)
#define FADT_WBINVD (1u << 0)
#define FADT_C1 (1u << 2)
#define FADT_NO_POWER_BUTTON (1u << 4)
#define FADT_NO_SLEEP_BUTTON (1u << 5)
#define FADT_NO_RTC_WAKE (1u << 6)
#define FADT_RESET (1u << 10)
#define NO_C2 101 /* more than 100 us says there is none */
#define NO_C3 1001

#define MADT_PC_COMPATIBLE 1
#define MADT_LAPIC 0
#define MADT_IOAPIC 1
#define MADT_OVERRIDE 2
#define INTERRUPT_LEVEL_HIGH 0x0d
#define INTERRUPT_AS_BUS 0

/* Tables are written one after the other, each aligned to 16 bytes. */
struct writer {
	uint8_t *area;
	size_t size;
	size_t used;
};

static void *reserve(struct writer *writer, size_t size)
{
	size_t at = (writer->used + 15) & ~(size_t)15;

	if (at > writer->size || writer->size - at < size)
		return NULL;
	writer->used = at + size;
	memset(writer->area + at, 0, size);
	return writer->area + at;
}

static uint64_t guest_address(const struct writer *writer, const void *table)
{
	return ACPI_START + (uint64_t)((const uint8_t *)table - writer->area);
}

static uint8_t checksum(const void *data, size_t length)
{
	const uint8_t *byte = data;
	uint8_t sum = 0;

	while (length--)
		sum += *byte++;
	return (uint8_t)-sum;
}

static void finish(struct table_header *header, const char *signature,
		   uint8_t revision, size_t length)
{
	memcpy(header->signature, signature, 4);
	header->length = (uint32_t)length;
	header->revision = revision;
	memcpy(header->oem, "CLEAT ", 6);
	memcpy(header->oem_table, "CLEATVMM", 8);
	header->oem_revision = 1;
	memcpy(header->creator, "CLT ", 4);
	header->creator_revision = 1;
	header->checksum = 0;
	header->checksum = checksum(header, length);
}

static uint64_t write_dsdt(struct writer *writer,
			   const struct acpi_config *config)
{
	struct table_header *header = reserve(writer, sizeof(*header));
	struct aml aml;

	if (!header)
		return 0;
	aml = (struct aml){
		.data = writer->area + writer->used,
		.size = writer->size - writer->used,
	};
	cleat_vmm_aml_dsdt(&aml, config);
	if (aml.overflow)
		return 0;
	writer->used += aml.used;
	finish(header, "DSDT", 2, sizeof(*header) + aml.used);
	return guest_address(writer, header);
}

static uint64_t write_facs(struct writer *writer)
{
	struct facs *facs;

	/* The only table that must be aligned to 64. */
	writer->used = (writer->used + 63) & ~(size_t)63;
	facs = reserve(writer, sizeof(*facs));
	if (!facs)
		return 0;
	memcpy(facs->signature, "FACS", 4);
	facs->length = sizeof(*facs);
	facs->version = 2;
	return guest_address(writer, facs);
}

static struct generic_address port(uint16_t address, uint8_t bytes)
{
	return (struct generic_address){
		.space = 1,
		.bits = bytes * 8,
		.access = bytes == 1 ? 1 : 2,
		.address = address,
	};
}

static void fill_power(struct fadt *fadt)
{
	fadt->sci = IRQ_SCI;
	fadt->pm1a_event = PORT_PM1_EVENT;
	fadt->pm1_event_length = 4;
	fadt->x_pm1a_event = port(PORT_PM1_EVENT, 4);
	fadt->pm1a_control = PORT_PM1_CONTROL;
	fadt->pm1_control_length = 2;
	fadt->x_pm1a_control = port(PORT_PM1_CONTROL, 2);
	fadt->c2_latency = NO_C2;
	fadt->c3_latency = NO_C3;
	fadt->reset = port(PORT_RESET, 1);
	fadt->reset_value = ACPI_RESET_VALUE;
}

static uint64_t write_fadt(struct writer *writer, uint64_t facs, uint64_t dsdt)
{
	struct fadt *fadt = reserve(writer, sizeof(*fadt));

	if (!fadt)
		return 0;
	fadt->facs = (uint32_t)facs;
	fadt->dsdt = (uint32_t)dsdt;
	fadt->x_dsdt = dsdt;
	fadt->boot_flags = FADT_BOOT_NO_VGA | FADT_BOOT_NO_ASPM |
			   FADT_BOOT_NO_RTC;
	fadt->flags = FADT_WBINVD | FADT_C1 | FADT_NO_POWER_BUTTON |
		      FADT_NO_SLEEP_BUTTON | FADT_NO_RTC_WAKE | FADT_RESET;
	fill_power(fadt);
	finish(&fadt->header, "FACP", 6, sizeof(*fadt));
	return guest_address(writer, fadt);
}

static void fill_overrides(struct madt_override *override)
{
	/* The PIT's line goes to pin 2; pin 0 was the PIC's on a PC. */
	override[0] = (struct madt_override){
		.type = MADT_OVERRIDE, .length = sizeof(*override),
		.source = 0, .gsi = 2, .flags = INTERRUPT_AS_BUS,
	};
	override[1] = (struct madt_override){
		.type = MADT_OVERRIDE, .length = sizeof(*override),
		.source = IRQ_SCI, .gsi = IRQ_SCI,
		.flags = INTERRUPT_LEVEL_HIGH,
	};
}

static uint64_t write_madt(struct writer *writer, unsigned cpus)
{
	size_t size = sizeof(struct madt) + cpus * sizeof(struct madt_lapic) +
		      sizeof(struct madt_ioapic) +
		      2 * sizeof(struct madt_override);
	struct madt *madt = reserve(writer, size);
	struct madt_lapic *lapic;
	struct madt_ioapic *ioapic;
	unsigned i;

	if (!madt)
		return 0;
	madt->lapic = LAPIC_START;
	madt->flags = MADT_PC_COMPATIBLE;
	lapic = (void *)(madt + 1);
	for (i = 0; i < cpus; i++)
		lapic[i] = (struct madt_lapic){
			.type = MADT_LAPIC, .length = sizeof(*lapic),
			.uid = (uint8_t)i, .id = (uint8_t)i, .flags = 1,
		};
	ioapic = (void *)(lapic + cpus);
	*ioapic = (struct madt_ioapic){
		.type = MADT_IOAPIC, .length = sizeof(*ioapic),
		.id = (uint8_t)cpus, .address = IOAPIC_START,
	};
	fill_overrides((void *)(ioapic + 1));
	finish(&madt->header, "APIC", 4, size);
	return guest_address(writer, madt);
}

static uint64_t write_mcfg(struct writer *writer)
{
	struct mcfg *mcfg = reserve(writer, sizeof(*mcfg));

	if (!mcfg)
		return 0;
	mcfg->base = ECAM_START;
	finish(&mcfg->header, "MCFG", 1, sizeof(*mcfg));
	return guest_address(writer, mcfg);
}

static uint64_t write_xsdt(struct writer *writer, const uint64_t *tables,
			   unsigned count)
{
	size_t size = sizeof(struct table_header) + count * sizeof(*tables);
	struct table_header *xsdt = reserve(writer, size);

	if (!xsdt)
		return 0;
	memcpy(xsdt + 1, tables, count * sizeof(*tables));
	finish(xsdt, "XSDT", 1, size);
	return guest_address(writer, xsdt);
}

static void fill_rsdp(struct rsdp *rsdp, uint64_t xsdt)
{
	memcpy(rsdp->signature, "RSD PTR ", 8);
	memcpy(rsdp->oem, "CLEAT ", 6);
	rsdp->revision = 2;
	rsdp->length = sizeof(*rsdp);
	rsdp->xsdt = xsdt;
	rsdp->checksum = checksum(rsdp, 20);
	rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
}

int cleat_vmm_acpi_build(uint8_t *area, size_t size,
			 const struct acpi_config *config)
{
	struct writer writer = { .area = area, .size = size };
	struct rsdp *rsdp = reserve(&writer, sizeof(*rsdp));
	uint64_t dsdt = write_dsdt(&writer, config);
	uint64_t facs = write_facs(&writer);
	uint64_t tables[] = {
		write_fadt(&writer, facs, dsdt),
		write_madt(&writer, config->cpus),
		write_mcfg(&writer),
	};
	uint64_t xsdt = write_xsdt(&writer, tables, 3);

	if (!rsdp || !dsdt || !facs || !tables[0] || !tables[1] ||
	    !tables[2] || !xsdt)
		return -ENOSPC;
	fill_rsdp(rsdp, xsdt);
	return (int)writer.used;
}
