/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cleatctl: look at a device server, speak to it, and listen in.
 *
 * main.c takes the command line (options.c) and opens the device; each
 * subcommand is a function of a file named after its subject.
 */
#ifndef TOOLS_CTL_H
#define TOOLS_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cleat/device.h>

/* Exit statuses; cleatctl(1) explains them. */
enum ctl_status {
	CTL_OK = 0,
	CTL_DEVICE = 1, /* the server or its device failed */
	CTL_USAGE = 2,
	CTL_CONNECT = 3, /* there is nobody to speak to */
	CTL_LOCAL = 4, /* a file, the output, memory */
};

/* Options that not every subcommand takes, as bits of ctl_command.options. */
enum ctl_option {
	CTL_HEX = 1u << 0,
	CTL_WIDTH = 1u << 1,
	CTL_COUNT = 1u << 2,
	CTL_OUTPUT = 1u << 3,
	CTL_INPUT = 1u << 4,
	CTL_IRQ = 1u << 5,
	CTL_VECTORS = 1u << 6,
	CTL_SECONDS = 1u << 7,
	CTL_TRIGGER = 1u << 8,
	CTL_WRITE = 1u << 9,
	CTL_SAVE = 1u << 10,
	CTL_ONCE = 1u << 11,
	CTL_PEER = 1u << 12,
	CTL_TIMEOUT = 1u << 13,
	CTL_NO_TWIN = 1u << 14,
};

/* Those of every subcommand that opens a device. */
#define CTL_DEVICE_OPTIONS (CTL_PEER | CTL_TIMEOUT | CTL_NO_TWIN)

#define CTL_MAX_WRITES 16

/* A store that watch does once the interrupts are armed. */
struct ctl_store {
	unsigned region;
	uint64_t offset;
	uint64_t value;
	unsigned width;
};

struct ctl_command;

/**
 * struct ctl - the command line, and the device
 * @given:  CTL_* that were given
 * @words:  operands after the subcommand; for one that opens a device @socket
 *          is taken off
 */
struct ctl {
	const struct ctl_command *command;
	uint32_t given;
	bool json;
	uint32_t timeout_ms;
	const char *peer;
	unsigned width;
	uint64_t count;
	const char *output;
	const char *input;
	unsigned irq;
	uint32_t first_vector;
	uint32_t last_vector;
	uint32_t seconds;
	uint32_t trigger;
	struct ctl_store writes[CTL_MAX_WRITES];
	unsigned num_writes;
	const char *save;
	const char *socket;
	char **words;
	unsigned num_words;
	struct cleat_device *dev;
};

/**
 * struct ctl_command - one subcommand
 * @usage:   what follows its name
 * @help:    the rest of its help
 * @options: CTL_* it takes
 * @least, @most: operands, SOCKET included
 * @opens:   its first operand is the socket of a device to open
 * @own_loop: it watches the connection itself
 * @check:   what is wrong with the operands, before anything is opened: an exit
 *           status; may be NULL
 * @run:     gives the exit status
 */
struct ctl_command {
	const char *name;
	const char *usage;
	const char *help;
	uint32_t options;
	unsigned least;
	unsigned most;
	bool opens;
	bool own_loop;
	int (*check)(struct ctl *ctl);
	int (*run)(struct ctl *ctl);
};

/* commands.c: NULL if there is none of that name; the table ends with a row
 * without a name. */
extern const struct ctl_command cleat_ctl_commands[];
const struct ctl_command *cleat_ctl_find(const char *name);

/* options.c: an exit status, or -1 to go on. */
int cleat_ctl_options(struct ctl *ctl, int argc, char **argv);

/* words.c: numbers and names from the command line; each says what is wrong */
bool cleat_ctl_number(const char *text, uint64_t least, uint64_t most,
		      uint64_t *ret);
int cleat_ctl_word_number(const char *what, const char *text, uint64_t most,
			  uint64_t *ret);
/* A number, or bar0 to bar5, rom, config, vga. */
int cleat_ctl_region(const char *text, unsigned *ret);
int cleat_ctl_irq(const char *text, unsigned *ret);
/* REGION:OFFSET=VALUE[/WIDTH] */
int cleat_ctl_store(const char *text, struct ctl_store *ret);
/* "BAR0", or "" where a number has no name. */
const char *cleat_ctl_region_name(unsigned index);
const char *cleat_ctl_irq_name(unsigned index);

/* say.c: one line on stderr, "cleatctl: ..."; gives back the exit status */
int cleat_ctl_say(int status, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A call to the device has failed. */
int cleat_ctl_failed(struct ctl *ctl, const char *what, int err);
/* The socket of a relay or a device cannot be opened: what to do about it. */
int cleat_ctl_no_connection(const struct cleat_error *why);

/* The subcommands */
int cleat_ctl_info(struct ctl *ctl);
int cleat_ctl_regions(struct ctl *ctl);
int cleat_ctl_irqs(struct ctl *ctl);
int cleat_ctl_config(struct ctl *ctl);
int cleat_ctl_check_read(struct ctl *ctl);
int cleat_ctl_read(struct ctl *ctl);
int cleat_ctl_check_write(struct ctl *ctl);
int cleat_ctl_write(struct ctl *ctl);
int cleat_ctl_reset(struct ctl *ctl);
int cleat_ctl_features(struct ctl *ctl);
int cleat_ctl_watch(struct ctl *ctl);
int cleat_ctl_relay(struct ctl *ctl);
int cleat_ctl_replay(struct ctl *ctl);
int cleat_ctl_check_vmm(struct ctl *ctl);
int cleat_ctl_vmm(struct ctl *ctl);

/* clock.c */
uint64_t cleat_ctl_now_ns(void);
/* Milliseconds until then, rounded up, for poll(); -1 for UINT64_MAX. */
int cleat_ctl_poll_ms(uint64_t deadline_ns);
/* A signalfd for SIGINT and SIGTERM, which are blocked from now on; or
 * -errno. */
int cleat_ctl_signals(void);

/* pci.c: configuration space, for those who have to know more than bytes */
#define CTL_CONFIG_MAX 4096

struct ctl_config {
	uint8_t bytes[CTL_CONFIG_MAX];
	size_t size;
};

/* 0, or -errno of the read, or -ENODEV if it is no PCI device. */
int cleat_ctl_config_load(struct ctl *ctl, struct ctl_config *config);
uint32_t cleat_ctl_config_get(const struct ctl_config *config, size_t at,
			      unsigned width);
/* Where the next capability is: 0 at the end of the list, or where it runs in
 * a circle or out of the space. Begin with 0. */
struct ctl_chain {
	unsigned at;
	unsigned count;
	bool extended;
	bool broken;
};
unsigned cleat_ctl_chain_next(const struct ctl_config *config,
			      struct ctl_chain *chain);
bool cleat_ctl_bar_is_ports(const struct ctl_config *config, unsigned bar);

#endif
