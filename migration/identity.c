/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which device it is: what a guest has seen of it and cannot be told anew. A
 * server that offers another BAR size is another device to it.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>

#include "migration/migration.h"

static int read_ids(struct cleat_device *dev,
		    struct cleat_stream_identity *identity)
{
	uint16_t ids[2];
	int err = cleat_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX,
				    PCI_VENDOR_ID, ids, sizeof(ids));

	identity->vendor = ids[0];
	identity->device = ids[1];
	if (!err)
		err = cleat_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX,
					PCI_CLASS_REVISION,
					&identity->class_revision,
					sizeof(identity->class_revision));
	if (!err)
		err = cleat_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX,
					PCI_SUBSYSTEM_VENDOR_ID, ids,
					sizeof(ids));
	identity->subvendor = ids[0];
	identity->subdevice = ids[1];
	return err;
}

int cleat_migration_identify(struct cleat_device *dev,
			     struct cleat_stream_identity *ret,
			     struct cleat_error *reterr)
{
	struct cleat_stream_identity identity = { 0 };
	struct cleat_irq_info irq;
	int err = 0;

	for (unsigned i = 0; i < CLEAT_STREAM_REGIONS; i++) {
		const struct cleat_region *region = cleat_device_region(dev, i);

		identity.regions[i] = region ? region->length : 0;
	}
	for (unsigned i = 0; i < CLEAT_STREAM_IRQS; i++)
		if (!cleat_device_irq_info(dev, i, &irq))
			identity.irqs[i] = irq.count;
	if (identity.regions[VFIO_PCI_CONFIG_REGION_INDEX])
		err = read_ids(dev, &identity);
	if (err)
		return cleat_fail(reterr, CLEAT_ORIGIN_DEVICE, err,
				  "config space cannot be read: %s",
				  strerror(-err));
	*ret = identity;
	return 0;
}

const char *cleat_migration_differs(const struct cleat_stream_identity *a,
				    const struct cleat_stream_identity *b)
{
	if (a->vendor != b->vendor || a->device != b->device)
		return "vendor and device numbers";
	if (a->subvendor != b->subvendor || a->subdevice != b->subdevice)
		return "subsystem numbers";
	if (a->class_revision != b->class_revision)
		return "class or revision";
	if (memcmp(a->regions, b->regions, sizeof(a->regions)))
		return "the lengths of regions";
	if (memcmp(a->irqs, b->irqs, sizeof(a->irqs)))
		return "the numbers of interrupt vectors";
	return NULL;
}
