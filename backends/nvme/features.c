/* SPDX-License-Identifier: BSD-2-Clause */
/* Get and Set Features. None is saved over a reset. */
#include <string.h>

#include "backends/nvme/private.h"

#define SELECT_DEFAULT 1
#define SELECT_SAVED 2
#define SELECT_CAPABILITIES 3
#define CHANGEABLE (1u << 2)
#define SET_SAVE (1u << 31)

#define WRITE_CACHE_ON 1u
#define VECTOR_ALONE (1u << 16)
#define BURST_UNLIMITED 7u

#define TEMPERATURE_SENSOR(cdw11) (((cdw11) >> 16) & 15)
#define TEMPERATURE_ALL 15
#define TEMPERATURE_TYPE(cdw11) (((cdw11) >> 20) & 3)

static void defaults(struct nvme_features *features, uint32_t *vectors,
		     unsigned queues)
{
	*features = (struct nvme_features){
		.arbitration = BURST_UNLIMITED,
		.over_temperature = NVME_TEMPERATURE_WARNING,
		.write_cache = WRITE_CACHE_ON,
		.vectors = vectors,
	};
	for (unsigned i = 0; i <= queues; i++)
		vectors[i] = i;
	/* Coalescing never applies to the admin queue's vector. */
	vectors[0] |= VECTOR_ALONE;
}

void cleat_nvme_features_reset(struct cleat_nvme *n)
{
	defaults(&n->features, n->features.vectors, n->queues);
}

void cleat_nvme_warning(struct cleat_nvme *n, uint8_t bit, unsigned info)
{
	if ((n->warnings & bit) == bit)
		return;
	n->warnings |= bit;
	if (n->features.events & bit)
		cleat_nvme_event(n, NVME_EVENT_HEALTH, info, NVME_LOG_HEALTH);
}

void cleat_nvme_check_temperature(struct cleat_nvme *n)
{
	if (NVME_TEMPERATURE >= n->features.over_temperature ||
	    NVME_TEMPERATURE <= n->features.under_temperature)
		cleat_nvme_warning(n, NVME_WARN_TEMPERATURE,
				   NVME_HEALTH_TEMPERATURE);
	else
		n->warnings &= (uint8_t)~NVME_WARN_TEMPERATURE;
}

static unsigned set_temperature(struct cleat_nvme *n, uint32_t cdw11)
{
	unsigned sensor = TEMPERATURE_SENSOR(cdw11);

	if (sensor && sensor != TEMPERATURE_ALL)
		return NVME_INVALID_FIELD;
	switch (TEMPERATURE_TYPE(cdw11)) {
	case 0:
		n->features.over_temperature = cdw11 & 0xffff;
		break;
	case 1:
		n->features.under_temperature = cdw11 & 0xffff;
		break;
	default:
		return NVME_INVALID_FIELD;
	}
	cleat_nvme_check_temperature(n);
	return NVME_SUCCESS;
}

static unsigned get_temperature(const struct nvme_features *features,
				uint32_t cdw11, uint32_t *result)
{
	if (TEMPERATURE_SENSOR(cdw11) || TEMPERATURE_TYPE(cdw11) > 1)
		return NVME_INVALID_FIELD;
	*result = TEMPERATURE_TYPE(cdw11) ? features->under_temperature :
					    features->over_temperature;
	return NVME_SUCCESS;
}

static unsigned set_queues(struct cleat_nvme *n, struct nvme_request *req)
{
	uint32_t most = n->queues - 1;

	if (cleat_nvme_io_queues_exist(n))
		return NVME_SEQUENCE;
	if ((req->cmd.cdw11 & 0xffff) == 0xffff ||
	    req->cmd.cdw11 >> 16 == 0xffff)
		return NVME_INVALID_FIELD;
	/* As many as there are, however few were asked for. */
	req->result = most << 16 | most;
	return NVME_SUCCESS;
}

/* Turning the cache off: what is in it reaches the disk first. */
static unsigned set_write_cache(struct cleat_nvme *n, uint32_t cdw11)
{
	if (!(cdw11 & WRITE_CACHE_ON) && cleat_nvme_disk_flush(n->disk))
		return NVME_WRITE_FAULT;
	n->features.write_cache = cdw11 & WRITE_CACHE_ON;
	return NVME_SUCCESS;
}

static unsigned set_vector(struct cleat_nvme *n, uint32_t cdw11)
{
	unsigned vector = cdw11 & 0xffff;

	if (vector > n->queues)
		return NVME_INVALID_FIELD;
	if (!vector && !(cdw11 & VECTOR_ALONE))
		return NVME_INVALID_FIELD;
	n->features.vectors[vector] = cdw11 & (VECTOR_ALONE | 0xffff);
	return NVME_SUCCESS;
}

static unsigned set_power(struct cleat_nvme *n, uint32_t cdw11)
{
	/* There is one power state, 0. */
	if (cdw11 & 0x1f)
		return NVME_INVALID_FIELD;
	n->features.power = cdw11 & 0xff;
	return NVME_SUCCESS;
}

/* Namespaces have one such feature; the broadcast value is fine too. */
static unsigned set_recovery(struct cleat_nvme *n,
			     const struct nvme_command *cmd)
{
	/* Deallocated-block errors (DULBE) are not offered. */
	if (cmd->cdw11 & (1u << 16))
		return NVME_INVALID_FIELD;
	if (cmd->nsid != 1 && cmd->nsid != 0xffffffff)
		return NVME_INVALID_NSID;
	n->features.error_recovery = cmd->cdw11 & 0xffff;
	return NVME_SUCCESS;
}

static unsigned set(uint32_t *feature, uint32_t value)
{
	*feature = value;
	return NVME_SUCCESS;
}

unsigned cleat_nvme_set_features(struct cleat_nvme *n,
				 struct nvme_request *req)
{
	uint32_t cdw11 = req->cmd.cdw11;

	if (req->cmd.cdw10 & SET_SAVE)
		return NVME_NOT_SAVEABLE;
	switch (req->cmd.cdw10 & 0xff) {
	case NVME_FEAT_ARBITRATION:
		return set(&n->features.arbitration, cdw11 & 0xffffff07);
	case NVME_FEAT_POWER:
		return set_power(n, cdw11);
	case NVME_FEAT_TEMPERATURE:
		return set_temperature(n, cdw11);
	case NVME_FEAT_ERROR_RECOVERY:
		return set_recovery(n, &req->cmd);
	case NVME_FEAT_WRITE_CACHE:
		return set_write_cache(n, cdw11);
	case NVME_FEAT_QUEUES:
		return set_queues(n, req);
	case NVME_FEAT_COALESCING:
		return set(&n->features.coalescing, cdw11 & 0xffff);
	case NVME_FEAT_VECTOR:
		return set_vector(n, cdw11);
	case NVME_FEAT_ATOMICITY:
		return set(&n->features.atomicity, cdw11 & 1);
	case NVME_FEAT_EVENTS:
		return set(&n->features.events, cdw11 & 0xff);
	}
	return NVME_INVALID_FIELD;
}

static unsigned get(const struct cleat_nvme *n,
		    const struct nvme_features *features, unsigned feature,
		    struct nvme_request *req)
{
	uint32_t cdw11 = req->cmd.cdw11, most = n->queues - 1;

	switch (feature) {
	case NVME_FEAT_ARBITRATION:
		return set(&req->result, features->arbitration);
	case NVME_FEAT_POWER:
		return set(&req->result, features->power);
	case NVME_FEAT_TEMPERATURE:
		return get_temperature(features, cdw11, &req->result);
	case NVME_FEAT_ERROR_RECOVERY:
		return set(&req->result, features->error_recovery);
	case NVME_FEAT_WRITE_CACHE:
		return set(&req->result, features->write_cache);
	case NVME_FEAT_QUEUES:
		return set(&req->result, most << 16 | most);
	case NVME_FEAT_COALESCING:
		return set(&req->result, features->coalescing);
	case NVME_FEAT_VECTOR:
		if ((cdw11 & 0xffff) > n->queues)
			return NVME_INVALID_FIELD;
		return set(&req->result, features->vectors[cdw11 & 0xffff]);
	case NVME_FEAT_ATOMICITY:
		return set(&req->result, features->atomicity);
	case NVME_FEAT_EVENTS:
		return set(&req->result, features->events);
	}
	return NVME_INVALID_FIELD;
}

static unsigned get_default(const struct cleat_nvme *n, unsigned feature,
			    struct nvme_request *req)
{
	uint32_t vectors[NVME_QUEUES_MAX + 1];
	struct nvme_features features;

	defaults(&features, vectors, n->queues);
	return get(n, &features, feature, req);
}

unsigned cleat_nvme_get_features(struct cleat_nvme *n,
				 struct nvme_request *req)
{
	unsigned feature = req->cmd.cdw10 & 0xff, status;

	if (feature == NVME_FEAT_ERROR_RECOVERY && req->cmd.nsid != 1)
		return NVME_INVALID_NSID;
	switch (req->cmd.cdw10 >> 8 & 7) {
	case 0:
		return get(n, &n->features, feature, req);
	case SELECT_DEFAULT:
	case SELECT_SAVED:
		return get_default(n, feature, req);
	case SELECT_CAPABILITIES:
		status = get(n, &n->features, feature, req);
		req->result = CHANGEABLE |
			      (feature == NVME_FEAT_ERROR_RECOVERY) << 1;
		return status;
	}
	return NVME_INVALID_FIELD;
}
