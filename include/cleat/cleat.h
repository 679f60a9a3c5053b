/* SPDX-License-Identifier: BSD-2-Clause */
/* Everything a VMM needs of libcleat. */
#ifndef CLEAT_CLEAT_H
#define CLEAT_CLEAT_H

#include <cleat/api.h>
#include <cleat/cancel.h>
#include <cleat/device.h>
#include <cleat/error.h>
#include <cleat/irq.h>
#include <cleat/kvm.h>
#include <cleat/memory.h>
#include <cleat/migration.h>
#include <cleat/mmio.h>
#include <cleat/pci.h>
#include <cleat/rcu.h>
#include <cleat/vm.h>

#endif
