/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The numbers and layouts of NVM Express 1.4 that the controller uses. Section
 * names in comments are those of that specification. All fields are little
 * endian, and so must the host be.
 */
#ifndef CLEAT_NVME_SPEC_H
#define CLEAT_NVME_SPEC_H

#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "structures are used as they lie in guest memory");

/* Controller registers */
#define NVME_REG_CAP 0x00
#define NVME_REG_VS 0x08
#define NVME_REG_INTMS 0x0c
#define NVME_REG_INTMC 0x10
#define NVME_REG_CC 0x14
#define NVME_REG_CSTS 0x1c
#define NVME_REG_AQA 0x24
#define NVME_REG_ASQ 0x28
#define NVME_REG_ACQ 0x30
#define NVME_DOORBELLS 0x1000
#define NVME_BAR0_SIZE 0x2000
#define NVME_DOORBELL_BYTES (NVME_BAR0_SIZE - NVME_DOORBELLS)

#define NVME_VERSION 0x00010400

#define NVME_CAP_MQES(entries) ((uint64_t)((entries) - 1))
#define NVME_CAP_CQR (1ull << 16)
#define NVME_CAP_TO(half_seconds) ((uint64_t)(half_seconds) << 24)
#define NVME_CAP_CSS_NVM (1ull << 37)
#define NVME_CAP_MPSMAX(mps) ((uint64_t)(mps) << 52)

#define NVME_CC_EN (1u << 0)
#define NVME_CC_CSS(cc) (((cc) >> 4) & 7)
#define NVME_CC_MPS(cc) (((cc) >> 7) & 15)
#define NVME_CC_AMS(cc) (((cc) >> 11) & 7)
#define NVME_CC_SHN(cc) (((cc) >> 14) & 3)
#define NVME_CC_IOSQES(cc) (((cc) >> 16) & 15)
#define NVME_CC_IOCQES(cc) (((cc) >> 20) & 15)
/* What a running controller's CC may not have changed under it. */
#define NVME_CC_FROZEN 0x3ff0u
#define NVME_CC_FIELDS 0x00fffff1u

#define NVME_CSTS_RDY (1u << 0)
#define NVME_CSTS_CFS (1u << 1)
#define NVME_CSTS_SHST 0xcu
#define NVME_CSTS_SHST_DONE 0x8u

/* Submission and completion queue entries */
struct nvme_command {
	uint8_t opcode;
	uint8_t flags;
	uint16_t cid;
	uint32_t nsid;
	uint32_t cdw2;
	uint32_t cdw3;
	uint64_t mptr;
	uint64_t prp1;
	uint64_t prp2;
	uint32_t cdw10;
	uint32_t cdw11;
	uint32_t cdw12;
	uint32_t cdw13;
	uint32_t cdw14;
	uint32_t cdw15;
};
_Static_assert(sizeof(struct nvme_command) == 64, "layout");

struct nvme_completion {
	uint32_t dw0;
	uint32_t dw1;
	uint16_t sq_head;
	uint16_t sq_id;
	uint16_t cid;
	uint16_t status; /* bit 0 is the phase */
};
_Static_assert(sizeof(struct nvme_completion) == 16, "layout");

#define NVME_FLAGS_FUSE 0x03
#define NVME_FLAGS_PSDT 0xc0

enum nvme_admin_opcode {
	NVME_ADMIN_DELETE_SQ = 0x00,
	NVME_ADMIN_CREATE_SQ = 0x01,
	NVME_ADMIN_GET_LOG = 0x02,
	NVME_ADMIN_DELETE_CQ = 0x04,
	NVME_ADMIN_CREATE_CQ = 0x05,
	NVME_ADMIN_IDENTIFY = 0x06,
	NVME_ADMIN_ABORT = 0x08,
	NVME_ADMIN_SET_FEATURES = 0x09,
	NVME_ADMIN_GET_FEATURES = 0x0a,
	NVME_ADMIN_ASYNC_EVENT = 0x0c,
	NVME_ADMIN_DBBUF = 0x7c,
};

enum nvme_io_opcode {
	NVME_IO_FLUSH = 0x00,
	NVME_IO_WRITE = 0x01,
	NVME_IO_READ = 0x02,
	NVME_IO_COMPARE = 0x05,
	NVME_IO_WRITE_ZEROES = 0x08,
	NVME_IO_DSM = 0x09,
};

#define NVME_RW_FUA (1u << 30)
#define NVME_WZ_DEAC (1u << 25)
#define NVME_DSM_AD (1u << 2)

struct nvme_dsm_range {
	uint32_t attributes;
	uint32_t length;
	uint64_t slba;
};
#define NVME_DSM_RANGES 256

/* Status field without its phase bit: SC, SCT << 8, MORE, DNR. */
#define NVME_STATUS_MORE 0x2000u
#define NVME_DNR 0x4000u
enum nvme_status {
	NVME_SUCCESS = 0x000,
	NVME_INVALID_OPCODE = 0x001 | NVME_DNR,
	NVME_INVALID_FIELD = 0x002 | NVME_DNR,
	NVME_CID_CONFLICT = 0x003 | NVME_DNR,
	NVME_DATA_TRANSFER = 0x004,
	NVME_INTERNAL = 0x006,
	NVME_ABORT_REQUESTED = 0x007,
	NVME_INVALID_NSID = 0x00b | NVME_DNR,
	NVME_SEQUENCE = 0x00c | NVME_DNR,
	NVME_PRP_OFFSET = 0x013 | NVME_DNR,
	NVME_WRITE_PROTECTED = 0x020 | NVME_DNR,
	NVME_LBA_RANGE = 0x080 | NVME_DNR,
	NVME_CAPACITY = 0x081 | NVME_DNR,
	NVME_CQ_INVALID = 0x100 | NVME_DNR,
	NVME_QID_INVALID = 0x101 | NVME_DNR,
	NVME_QUEUE_SIZE = 0x102 | NVME_DNR,
	NVME_AER_LIMIT = 0x105 | NVME_DNR,
	NVME_INVALID_VECTOR = 0x108 | NVME_DNR,
	NVME_INVALID_LOG = 0x109 | NVME_DNR,
	NVME_QUEUE_DELETION = 0x10c | NVME_DNR,
	NVME_NOT_SAVEABLE = 0x10d | NVME_DNR,
	NVME_NOT_CHANGEABLE = 0x10e | NVME_DNR,
	NVME_WRITE_FAULT = 0x280,
	NVME_READ_ERROR = 0x281,
	NVME_COMPARE_FAILURE = 0x285 | NVME_DNR,
};

/* Asynchronous events */
enum nvme_event_type {
	NVME_EVENT_ERROR = 0,
	NVME_EVENT_HEALTH = 1,
};
#define NVME_ERROR_DOORBELL_REGISTER 0
#define NVME_ERROR_DOORBELL_VALUE 1
#define NVME_HEALTH_RELIABILITY 0
#define NVME_HEALTH_TEMPERATURE 1

#define NVME_WARN_TEMPERATURE 0x02
#define NVME_WARN_RELIABILITY 0x04

enum nvme_log_page {
	NVME_LOG_ERROR = 0x01,
	NVME_LOG_HEALTH = 0x02,
	NVME_LOG_FIRMWARE = 0x03,
	NVME_LOG_CHANGED_NS = 0x04,
	NVME_LOG_EFFECTS = 0x05,
};

struct nvme_error_entry {
	uint64_t count;
	uint16_t sq_id;
	uint16_t cid;
	uint16_t status;
	uint16_t parameter;
	uint64_t lba;
	uint32_t nsid;
	uint8_t vendor;
	uint8_t transport;
	uint8_t reserved[2];
	uint64_t command_specific;
	uint8_t reserved2[24];
};
_Static_assert(sizeof(struct nvme_error_entry) == 64, "layout");

enum nvme_feature {
	NVME_FEAT_ARBITRATION = 0x01,
	NVME_FEAT_POWER = 0x02,
	NVME_FEAT_TEMPERATURE = 0x04,
	NVME_FEAT_ERROR_RECOVERY = 0x05,
	NVME_FEAT_WRITE_CACHE = 0x06,
	NVME_FEAT_QUEUES = 0x07,
	NVME_FEAT_COALESCING = 0x08,
	NVME_FEAT_VECTOR = 0x09,
	NVME_FEAT_ATOMICITY = 0x0a,
	NVME_FEAT_EVENTS = 0x0b,
};

struct nvme_id_controller {
	uint16_t vid;
	uint16_t ssvid;
	char sn[20];
	char mn[40];
	char fr[8];
	uint8_t rab;
	uint8_t ieee[3];
	uint8_t cmic;
	uint8_t mdts;
	uint16_t cntlid;
	uint32_t ver;
	uint32_t rtd3r;
	uint32_t rtd3e;
	uint32_t oaes;
	uint32_t ctratt;
	uint16_t rrls;
	uint8_t reserved102[9];
	uint8_t cntrltype;
	uint8_t reserved112[144];
	uint16_t oacs;
	uint8_t acl;
	uint8_t aerl;
	uint8_t frmw;
	uint8_t lpa;
	uint8_t elpe;
	uint8_t npss;
	uint8_t avscc;
	uint8_t apsta;
	uint16_t wctemp;
	uint16_t cctemp;
	uint8_t reserved270[242];
	uint8_t sqes;
	uint8_t cqes;
	uint16_t maxcmd;
	uint32_t nn;
	uint16_t oncs;
	uint16_t fuses;
	uint8_t fna;
	uint8_t vwc;
	uint16_t awun;
	uint16_t awupf;
	uint8_t nvscc;
	uint8_t nwpc;
	uint16_t acwu;
	uint16_t reserved534;
	uint32_t sgls;
	uint32_t mnan;
	uint8_t reserved544[224];
	char subnqn[256];
	uint8_t reserved1024[1024];
	struct {
		uint16_t max_power;
		uint8_t rest[30];
	} psd[32];
	uint8_t vendor[1024];
} __attribute__((packed));
_Static_assert(sizeof(struct nvme_id_controller) == 4096, "layout");

#define NVME_OACS_DBBUF (1u << 8)
#define NVME_ONCS_COMPARE (1u << 0)
#define NVME_ONCS_DSM (1u << 2)
#define NVME_ONCS_WRITE_ZEROES (1u << 3)
#define NVME_ONCS_SELECT (1u << 4)

struct nvme_id_namespace {
	uint64_t nsze;
	uint64_t ncap;
	uint64_t nuse;
	uint8_t nsfeat;
	uint8_t nlbaf;
	uint8_t flbas;
	uint8_t mc;
	uint8_t dpc;
	uint8_t dps;
	uint8_t nmic;
	uint8_t rescap;
	uint8_t fpi;
	uint8_t dlfeat;
	uint8_t reserved34[65];
	uint8_t nsattr;
	uint8_t reserved100[28];
	struct {
		uint16_t ms;
		uint8_t lbads;
		uint8_t rp;
	} lbaf[16];
	uint8_t reserved192[3904];
} __attribute__((packed));
_Static_assert(sizeof(struct nvme_id_namespace) == 4096, "layout");

struct nvme_health {
	uint8_t warning;
	uint16_t temperature;
	uint8_t spare;
	uint8_t spare_threshold;
	uint8_t used;
	uint8_t reserved6[26];
	uint64_t units_read[2];
	uint64_t units_written[2];
	uint64_t reads[2];
	uint64_t writes[2];
	uint64_t busy_minutes[2];
	uint64_t power_cycles[2];
	uint64_t power_hours[2];
	uint64_t unsafe_shutdowns[2];
	uint64_t media_errors[2];
	uint64_t error_entries[2];
	uint8_t rest[320];
} __attribute__((packed));
_Static_assert(sizeof(struct nvme_health) == 512, "layout");

#endif
