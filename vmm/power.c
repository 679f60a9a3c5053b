/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The few registers of ACPI's fixed hardware that a guest needs to end its
 * run: PM1 event and control, and the reset register. There is no SMI: the
 * machine is in ACPI mode from the start.
 */
#include <string.h>

#include "vmm/vmm.h"

#define PM1_SCI_ENABLED (1u << 0)
#define PM1_SLEEP_TYPE_SHIFT 10
#define PM1_SLEEP_TYPE_MASK 7u
#define PM1_SLEEP_ENABLE (1u << 13)

/* A byte for an old keyboard controller's command port: pulse reset. */
#define PORT_KEYBOARD 0x64
#define KEYBOARD_RESET 0xfe

/* Nothing ever sets a status bit, and none can be cleared. */
static void access_event(void *device, uint64_t offset, void *data,
			 unsigned length, bool is_write)
{
	struct power *power = device;
	uint32_t registers = power->enable << 16;

	if (is_write) {
		memcpy((uint8_t *)&registers + offset, data, length);
		power->enable = registers >> 16;
	} else {
		memcpy(data, (uint8_t *)&registers + offset, length);
	}
}

static void access_control(void *device, uint64_t offset, void *data,
			   unsigned length, bool is_write)
{
	struct power *power = device;
	uint16_t control = (uint16_t)(PM1_SCI_ENABLED |
				      power->sleep_type << PM1_SLEEP_TYPE_SHIFT);

	if (!is_write) {
		memcpy(data, (uint8_t *)&control + offset, length);
		return;
	}
	memcpy((uint8_t *)&control + offset, data, length);
	power->sleep_type = control >> PM1_SLEEP_TYPE_SHIFT & PM1_SLEEP_TYPE_MASK;
	if (!(control & PM1_SLEEP_ENABLE))
		return;
	if (power->sleep_type == ACPI_SLEEP_TYPE_OFF)
		cleat_vmm_stop(power->vm, OUTCOME_POWER_OFF);
}

static void access_reset(void *device, uint64_t offset, void *data,
			 unsigned length, bool is_write)
{
	struct power *power = device;
	uint8_t *value = data;

	if (!is_write)
		*value = 0;
	else if (*value == ACPI_RESET_VALUE)
		cleat_vmm_stop(power->vm, OUTCOME_RESET);
}

static void access_keyboard(void *device, uint64_t offset, void *data,
			    unsigned length, bool is_write)
{
	struct power *power = device;
	uint8_t *value = data;

	if (!is_write)
		*value = 0xff;
	else if (*value == KEYBOARD_RESET)
		cleat_vmm_stop(power->vm, OUTCOME_RESET);
}

void cleat_vmm_power_init(struct power *power, struct vm *vm)
{
	struct bus *bus = &vm->bus;

	*power = (struct power){ .vm = vm };
	cleat_vmm_bus_add(bus, CLEAT_PORTS, PORT_PM1_EVENT, 4, access_event,
			  power);
	cleat_vmm_bus_add(bus, CLEAT_PORTS, PORT_PM1_CONTROL, 2,
			  access_control, power);
	cleat_vmm_bus_add(bus, CLEAT_PORTS, PORT_RESET, 1, access_reset, power);
	cleat_vmm_bus_add(bus, CLEAT_PORTS, PORT_KEYBOARD, 1, access_keyboard,
			  power);
}
