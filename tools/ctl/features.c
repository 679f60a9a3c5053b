/* SPDX-License-Identifier: BSD-2-Clause */
/* DEVICE_FEATUREs, and what they tell of migration. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/ctl/ctl.h"
#include "tools/ctl/out.h"

enum { MIGRATION = 1, MIG_STATE = 2, MIG_DATA_SIZE = 9 };

/* The first generation's way to migrate. */
#define TYPE_MIGRATION 3
#define SUBTYPE_MIGRATION 1

static const char *const names[] = {
	"PCI_VF_TOKEN", "MIGRATION", "MIG_DEVICE_STATE",
	"LOW_POWER_ENTRY", "LOW_POWER_ENTRY_WITH_WAKEUP", "LOW_POWER_EXIT",
	"DMA_LOGGING_START", "DMA_LOGGING_STOP", "DMA_LOGGING_REPORT",
	"MIG_DATA_SIZE", "BUS_MASTER",
};

static const struct ctl_bit migration_flags[] = {
	{ 1u << 0, "stop-copy" },
	{ 1u << 1, "p2p" },
	{ 1u << 2, "pre-copy" },
};

static const char *const states[] = {
	"error", "stop", "running", "stop-copy", "resuming",
	"running-p2p", "pre-copy", "pre-copy-p2p",
};

/* Whether a probe is answered well; a lost connection is an error. */
static int probe(struct ctl *ctl, unsigned feature, uint32_t what, bool *ret)
{
	int err = cleat_device_feature(ctl->dev, (uint16_t)feature,
				       what | CLEAT_FEATURE_PROBE, NULL, 0, 0,
				       NULL);

	*ret = !err;
	if (err == -ETIMEDOUT || cleat_device_failure(ctl->dev, NULL))
		return err;
	return 0;
}

/* What can be got without changing anything; -ENOENT for what cannot. */
static int get_value(struct ctl *ctl, unsigned feature, uint64_t *ret)
{
	size_t wanted = feature == MIG_STATE ? 4 : 8, size = 0;
	uint64_t data = 0;
	int err;

	if (feature != MIGRATION && feature != MIG_STATE &&
	    feature != MIG_DATA_SIZE)
		return -ENOENT;
	err = cleat_device_feature(ctl->dev, (uint16_t)feature,
				   CLEAT_FEATURE_GET, &data, 0, sizeof(data),
				   &size);
	if (!err && size < wanted)
		err = -EPROTO;
	*ret = feature == MIG_STATE ? (uint32_t)data : data;
	return err;
}

static void put_value(struct ctl_out *out, unsigned feature, uint64_t value)
{
	if (feature == MIGRATION)
		cleat_out_bits(out, "flags", (uint32_t)value, migration_flags,
			       CTL_NUM(migration_flags));
	else if (feature == MIG_STATE && value < CTL_NUM(states))
		cleat_out_string(out, "state", states[value]);
	else
		cleat_out_number(out, feature == MIG_DATA_SIZE ? "size" :
								  "value",
				 value);
}

static void put_head(struct ctl_out *out, unsigned feature, bool get, bool set)
{
	if (!out->gen) {
		cleat_out_words(out, "%3u  %-28s %-4s %-4s", feature,
				names[feature], get ? "yes" : "no",
				set ? "yes" : "no");
		return;
	}
	cleat_out_map(out, NULL);
	cleat_out_number(out, "feature", feature);
	cleat_out_string(out, "name", names[feature]);
	cleat_out_bool(out, "get", get);
	cleat_out_bool(out, "set", set);
}

static int put_feature(struct ctl *ctl, struct ctl_out *out, unsigned feature)
{
	bool get = false, set = false;
	uint64_t value;
	int err;

	err = probe(ctl, feature, CLEAT_FEATURE_GET, &get);
	if (!err)
		err = probe(ctl, feature, CLEAT_FEATURE_SET, &set);
	if (err)
		return err;
	put_head(out, feature, get, set);
	err = get ? get_value(ctl, feature, &value) : -ENOENT;
	if (!err)
		put_value(out, feature, value);
	else if (err != -ENOENT)
		cleat_out_string(out, "error", strerror(-err));
	if (out->gen) {
		cleat_out_map_end(out);
		return 0;
	}
	cleat_out_print(out);
	return cleat_out_begin(out, false, false);
}

/* -1: none. */
static int find_region(struct ctl *ctl)
{
	struct cleat_device_info info = { .size = sizeof(info) };
	struct cleat_region_info region = { .size = sizeof(region) };

	cleat_device_info(ctl->dev, &info);
	for (unsigned i = 0; i < info.num_regions; i++)
		if (!cleat_region_info(ctl->dev, i, &region) &&
		    region.type == TYPE_MIGRATION &&
		    region.subtype == SUBTYPE_MIGRATION)
			return (int)i;
	return -1;
}

static void put_region(struct ctl_out *out, int region)
{
	if (!out->gen && region < 0)
		puts("no migration region (first generation)");
	else if (!out->gen)
		printf("migration region (first generation): %d\n", region);
	else if (region < 0)
		cleat_out_null(out, "migration_region");
	else
		cleat_out_number(out, "migration_region", (unsigned)region);
}

int cleat_ctl_features(struct ctl *ctl)
{
	struct ctl_out out;
	int err = 0;

	if (cleat_out_begin(&out, ctl->json, true))
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	if (ctl->json)
		cleat_out_list(&out, "features");
	else
		puts("  #  NAME                         GET  SET");
	for (unsigned i = 0; i < CTL_NUM(names) && !err; i++)
		err = put_feature(ctl, &out, i);
	if (err) {
		cleat_out_end(&out);
		return cleat_ctl_failed(ctl, "features", err);
	}
	if (ctl->json)
		cleat_out_list_end(&out);
	put_region(&out, find_region(ctl));
	return ctl->json ? cleat_out_print(&out) : CTL_OK;
}
