/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cleat-vmm: a virtual machine monitor just large enough to boot stock Linux
 * with PCI devices that other processes serve.
 *
 * The order of the calls, as main.c makes them:
 *
 *	cleat_vmm_options_parse		the command line
 *	cleat_vmm_machine_open		/dev/kvm, the VM, its interrupt chips
 *	cleat_vmm_ram_create		guest memory, slots, the library's table
 *	cleat_vmm_boot_load		kernel, initrd, command line, zero page
 *	cleat_vmm_acpi_build		the tables the kernel looks for
 *	cleat_vmm_serial_init, _power_init, _pci_init
 *					devices of our own, on the bus
 *	cleat_vmm_devices_open		the devices of other processes
 *	cleat_vmm_vcpu_create		one per CPU, then
 *	cleat_vmm_devices_ring		KVM's ring for stores that are collected
 *	cleat_vmm_control_open		who may give orders from outside
 *	cleat_vmm_vcpu_start		from here on the guest runs
 *	cleat_vmm_console_run		the main thread stays here until ...
 *	cleat_vmm_stop			... somebody says how it ends
 *	cleat_vmm_vcpu_join, then everything backwards
 *
 * Set-up functions return 0 or a negative errno and have said why on standard
 * error, in one line, before they return.
 */
#ifndef CLEAT_VMM_H
#define CLEAT_VMM_H

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <asm/bootparam.h>
#include <linux/kvm.h>

#include <yajl/yajl_gen.h>

#include <cleat/cleat.h>

#define MiB (UINT64_C(1) << 20)
#define GiB (UINT64_C(1) << 30)

/*
 * The guest's memory map. RAM below LOW_RAM_END is one range without the
 * customary holes: servers that want 2 MiB pages cannot use a range that is
 * cut at 640 KiB. docs/vmm.md has it as a table.
 */
#define GUEST_GDT 0x500ull
#define GUEST_ZERO_PAGE 0x7000ull
#define GUEST_PAGE_TABLES 0x9000ull /* PML4, PDPT, four directories */
#define GUEST_STACK 0x10000ull /* grows down */
#define GUEST_COMMAND_LINE 0x20000ull
#define COMMAND_LINE_MAX 0x10000ull
#define EBDA_START 0x9fc00ull
#define ACPI_START 0xe0000ull /* where kernels look for the RSDP */
#define ACPI_SIZE 0x20000ull
#define HIGH_MEMORY 0x100000ull
#define LOW_RAM_END (3 * GiB)
#define WINDOW32_START (3 * GiB)
#define WINDOW32_END 0xfc000000ull
#define ECAM_START 0xfc000000ull /* bus 0 only */
#define ECAM_SIZE 0x100000ull
#define IOAPIC_START 0xfec00000ull
#define LAPIC_START 0xfee00000ull
#define KVM_IDENTITY_MAP 0xfffbc000ull
#define KVM_TSS 0xfffbd000ull
#define HIGH_RAM_START (4 * GiB)

/* Ports. */
#define PORT_COM1 0x3f8
#define PORT_PM1_EVENT 0x600
#define PORT_PM1_CONTROL 0x604
#define PORT_PCI_ADDRESS 0xcf8
#define PORT_RESET 0xcf9
#define PORT_PCI_DATA 0xcfc
#define PORT_WINDOW_START 0x1000
#define PORT_WINDOW_END 0x10000

/* Memory slots of KVM: RAM's two, then the library's. */
#define SLOT_LIBRARY 2
#define SLOTS_LIBRARY 1024

/* Interrupts: ISA's below 16, one per INTx pin, then the library's own. */
#define IRQ_COM1 4
#define IRQ_SCI 9
#define GSI_INTX 16
#define IOAPIC_PINS 24
#define GSI_LIBRARY 24
#define GSIS_LIBRARY 4000 /* of x86's 4096, our own routes counted twice */

#define ACPI_SLEEP_TYPE_OFF 5
#define ACPI_RESET_VALUE 0x06

#define DEVICES_MAX 31 /* slots 1 to 31 of bus 0 */
#define CPUS_MAX 64

/* How a run ends; also the exit status of the program. */
enum outcome {
	OUTCOME_RUNNING = -1,
	OUTCOME_POWER_OFF = 0,
	OUTCOME_ERROR = 1,
	OUTCOME_USAGE = 2,
	OUTCOME_RESET = 3,
	OUTCOME_TRIPLE_FAULT = 4,
	OUTCOME_STOPPED = 5,
	OUTCOME_MOVED = 6,
};

struct vm;

/* ---- options.c: the command line ---------------------------------------- */

#define COALESCE_MAX 16

/* Registers of a device whose stores may be collected; all in bytes. */
struct coalesce {
	unsigned bar;
	uint64_t offset;
	uint64_t length;
};

struct device_option {
	const char *path;
	struct coalesce coalesce[COALESCE_MAX];
	unsigned coalesce_count;
};

struct options {
	const char *kernel;
	const char *initrd;
	const char *append;
	const char *stats;
	const char *control;
	const char *incoming;
	struct device_option devices[DEVICES_MAX];
	unsigned device_count;
	uint64_t memory; /* bytes */
	unsigned cpus;
	bool hugetlb;
};

/*
 * Return: -1 to go on, or the exit status to end with (after --help,
 * --version or a mistake, which has been explained).
 */
int cleat_vmm_options_parse(int argc, char **argv, struct options *ret);

/* ---- deviceoption.c: what --device is given ------------------------------ */

#define BARS_MAX 6

/*
 * SOCKET[,coalesce=BAR:OFFSET+LENGTH]...; @text is cut into its words, and
 * *@ret keeps pointing into it.
 *
 * Return: 0, or -EINVAL after saying why.
 */
int cleat_vmm_device_parse(char *text, struct device_option *ret);

/* ---- say.c: one line on standard error ---------------------------------- */

/* Return: @code, so that "return cleat_vmm_fail(-EINVAL, ...)" reads well. */
int cleat_vmm_fail(int code, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void cleat_vmm_say(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
/* Lines end in CR LF while the terminal is in raw mode. */
void cleat_vmm_say_raw(bool raw);

/* ---- machine.c: the VM and what KVM keeps for it ------------------------ */

struct machine {
	int kvm;
	int vm;
	unsigned address_bits; /* guest-physical, as CPUID tells the guest */
	uint64_t window64_start; /* PCI memory above 4 GiB */
	uint64_t window64_size;
	struct kvm_cpuid2 *cpuid;
	struct kvm_irq_routing *routes;
};

int cleat_vmm_machine_open(struct machine *machine);
void cleat_vmm_machine_close(struct machine *machine);
/* Sets the level of an interrupt line. Context: any thread. */
void cleat_vmm_machine_irq(struct machine *machine, unsigned gsi, bool level);

/* ---- ram.c: guest memory ------------------------------------------------ */

struct ram {
	struct cleat_memory *memory; /* what devices are shown */
	int fd;
	uint8_t *host;
	uint64_t size;
	uint64_t low; /* bytes at guest address 0 */
	uint64_t high; /* bytes at HIGH_RAM_START */
};

int cleat_vmm_ram_create(struct ram *ram, const struct machine *machine,
			 const struct options *options);
void cleat_vmm_ram_destroy(struct ram *ram);

/* ---- boot.c: the 64-bit boot protocol of Linux -------------------------- */

/* What is needed of a bzImage, all of it checked. */
struct bzimage {
	uint64_t payload; /* file offset of the protected-mode part */
	uint64_t length; /* of it, in bytes */
	uint64_t need; /* bytes of memory from the load address on */
	uint64_t preferred; /* load address */
	uint64_t align; /* of any other load address; 0: must be preferred */
	uint64_t initrd_max; /* highest address of the initrd's last byte */
	uint64_t command_line_max; /* without the NUL */
	struct setup_header header; /* goes into the zero page */
};

struct boot {
	uint64_t entry; /* first instruction, in long mode */
};

/* Where the setup header lies in the file and in the zero page. */
#define BZIMAGE_HEADER 0x1f1
/* Enough of a file's start for cleat_vmm_bzimage_parse(). */
#define BZIMAGE_HEAD 1024

/*
 * @head:      the first @head_size bytes of the file
 * @file_size: of the whole file
 *
 * Return: 0, or -ENOEXEC with *@ret_why set to a sentence.
 */
int cleat_vmm_bzimage_parse(const uint8_t *head, size_t head_size,
			    uint64_t file_size, struct bzimage *ret,
			    const char **ret_why);
/*
 * Chooses the load address in @low bytes of RAM that start at 0.
 *
 * Return: 0, or -ENOMEM.
 */
int cleat_vmm_bzimage_place(const struct bzimage *image, uint64_t low,
			    uint64_t *ret_address);
int cleat_vmm_boot_load(struct boot *boot, const struct ram *ram,
			const struct options *options);

/* ---- acpi.c, aml.c: what firmware would tell the kernel ----------------- */

struct acpi_config {
	unsigned cpus;
	uint64_t window64_start;
	uint64_t window64_size;
};

/*
 * Fills @area, which the guest sees at ACPI_START, with the RSDP at its
 * start.
 *
 * Return: bytes used, or -ENOSPC.
 */
int cleat_vmm_acpi_build(uint8_t *area, size_t size,
			 const struct acpi_config *config);

/* A byte buffer that AML is written to; a write that does not fit is noted. */
struct aml {
	uint8_t *data;
	size_t size;
	size_t used;
	bool overflow;
};

/* Writes the body of the DSDT. */
void cleat_vmm_aml_dsdt(struct aml *aml, const struct acpi_config *config);

/* ---- bus.c: our own devices by address ---------------------------------- */

#define BUS_ENTRIES_MAX 16

typedef void bus_handler(void *device, uint64_t offset, void *data,
			 unsigned length, bool is_write);

struct bus_entry {
	enum cleat_space space;
	uint64_t base;
	uint64_t size;
	bus_handler *handler;
	void *device;
};

/* Filled before the first vCPU starts and not changed after: no lock. */
struct bus {
	struct bus_entry entries[BUS_ENTRIES_MAX];
	unsigned count;
};

void cleat_vmm_bus_add(struct bus *bus, enum cleat_space space, uint64_t base,
		       uint64_t size, bus_handler *handler, void *device);
/* Return: whether the access belongs to a device of ours and was made. */
bool cleat_vmm_bus_access(const struct bus *bus, enum cleat_space space,
			  uint64_t address, void *data, unsigned length,
			  bool is_write);

/* ---- serial.c: a 16550A on COM1 ----------------------------------------- */

#define SERIAL_QUEUE 1024
/* A page by a string instruction, and a byte of every CPU. */
#define SERIAL_UNSENT (4096 + 64 * 8)

struct serial {
	pthread_mutex_t lock;
	struct vm *vm;
	int out;
	uint8_t ier, lcr, mcr, fcr, scratch;
	uint16_t divisor;
	bool thre; /* transmitter-empty interrupt pending */
	bool line; /* level of the interrupt line */
	bool full; /* input was refused, wake the main thread when empty */
	uint8_t queue[SERIAL_QUEUE]; /* received, not yet read */
	size_t head;
	size_t count;
	uint8_t sending[8]; /* of the access that is being made */
	size_t sent;
	/* Of accesses that were finished because the machine had to stop. */
	uint8_t unsent[SERIAL_UNSENT];
	size_t unsent_count;
};

void cleat_vmm_serial_init(struct serial *serial, struct vm *vm, int out);
/* Return: how many of @length bytes were taken; the rest come again later. */
size_t cleat_vmm_serial_input(struct serial *serial, const uint8_t *data,
			      size_t length);
/* Writes what was held back. May block, as any write of a vCPU. */
void cleat_vmm_serial_flush(struct serial *serial);

/* What of it moves with the machine. */
struct serial_state {
	uint8_t ier, lcr, mcr, fcr, scratch, thre, line, reserved;
	uint16_t divisor;
	uint16_t queued;
	uint32_t unsent_count;
	uint8_t queue[SERIAL_QUEUE]; /* from its start */
	uint8_t unsent[SERIAL_UNSENT];
};

void cleat_vmm_serial_save(struct serial *serial, struct serial_state *ret);
/* Return: 0 or -EBADMSG. */
int cleat_vmm_serial_load(struct serial *serial,
			  const struct serial_state *state);

/* ---- power.c: sleep, power-off and reset -------------------------------- */

struct power {
	struct vm *vm;
	atomic_uint enable; /* PM1 event enable */
	atomic_uint sleep_type;
};

void cleat_vmm_power_init(struct power *power, struct vm *vm);

/* ---- pci.c: the PCI host ------------------------------------------------ */

struct pci_host {
	struct vm *vm;
	atomic_uint address; /* what was written to 0xcf8 */
	struct cleat_pci *functions[DEVICES_MAX + 1]; /* by slot; 0 is ours */
};

void cleat_vmm_pci_init(struct pci_host *host, struct vm *vm);
/* The GSI of a slot's INTx pin, 0 for INTA; what the DSDT's _PRT says too. */
unsigned cleat_vmm_pci_gsi(unsigned slot, unsigned pin);

/* ---- devices.c: functions that other processes serve -------------------- */

struct device {
	const char *path;
	const struct device_option *option;
	struct cleat_device *device;
	struct cleat_pci *pci;
	bool lost; /* and said so */
	struct cleat_migration *migration; /* while the machine moves */
	int state; /* a memory file for what has come of a section, or -1 */
	bool loaded; /* the function has arrived */
};

struct devices {
	struct cleat_kvm *kvm;
	struct cleat_mmio *mmio;
	struct device device[DEVICES_MAX];
	unsigned count;
	pthread_mutex_t lock; /* of their migrations */
};

int cleat_vmm_devices_open(struct devices *devices, struct vm *vm);
/* With the first vCPU there, before any of them runs. */
void cleat_vmm_devices_ring(struct devices *devices, int vcpu);
void cleat_vmm_devices_close(struct devices *devices);

/* ---- cpu.c: the state a vCPU starts in ---------------------------------- */

/* Return: 0 or -errno of the ioctl, which *@ret_what then names. */
int cleat_vmm_cpu_setup(int vcpu, const struct machine *machine, unsigned id,
			unsigned count, const struct boot *boot,
			const char **ret_what);
int cleat_vmm_cpu_set_cpuid(int vcpu, const struct machine *machine,
			    unsigned id, unsigned count);
/* The segments that the registers point to, and the page tables. */
void cleat_vmm_cpu_tables(const struct ram *ram);

/* ---- vcpu.c: one thread each, around KVM_RUN ---------------------------- */

#define EXIT_REASONS 64
#define VCPU_KICK SIGUSR1

/* Where a vCPU stands still: inside an access of the guest's, or between. */
enum parked { PARKED_NOT, PARKED_INSIDE, PARKED_BETWEEN };

struct vcpu {
	struct vm *vm;
	unsigned id;
	int fd;
	struct cleat_cancel *cancel;
	struct kvm_run *run;
	size_t run_size;
	pthread_t thread;
	bool started;
	atomic_bool ended;
	enum parked parked; /* under the pause's lock */
	uint64_t returns[EXIT_REASONS]; /* of KVM_RUN, by reason */
	uint64_t interrupted; /* of KVM_RUN, by a signal */
	uint64_t faults;
};

int cleat_vmm_vcpu_create(struct vcpu *vcpu, struct vm *vm, unsigned id);
int cleat_vmm_vcpu_start(struct vcpu *vcpu);
/* Makes every vCPU leave KVM_RUN and the library, and waits for its thread. */
void cleat_vmm_vcpu_join(struct vm *vm);
void cleat_vmm_vcpu_destroy(struct vcpu *vcpu);
/*
 * After the library gave -EINTR to the calling vCPU: stands still as long as
 * somebody wants that.
 *
 * Return: whether to make the access again; false when the run ends.
 */
bool cleat_vmm_called_back(struct vm *vm);

/* ---- pause.c: vCPUs stand still ----------------------------------------- */

/* Who wants it. The user takes it anywhere, the others between accesses. */
#define PAUSE_USER (1u << 0)
#define PAUSE_MIGRATION (1u << 1)

struct pause {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	atomic_uint wanted; /* PAUSE_*; under the lock while vCPUs run */
};

int cleat_vmm_pause_init(struct pause *pause);
/*
 * Waits until all vCPUs stand still, and takes it back if they do not.
 *
 * Return: 0, -ETIMEDOUT after @ms, -ECANCELED when the run ends.
 */
int cleat_vmm_pause(struct vm *vm, unsigned who, unsigned ms);
void cleat_vmm_resume(struct vm *vm, unsigned who);
/* Whether anybody wants vCPUs to stand still. Context: any thread. */
bool cleat_vmm_pausing(struct vm *vm);
/* A vCPU's own: returns when it may go on. */
void cleat_vmm_park(struct vcpu *vcpu, enum parked where);
/* The run ends: nobody stands still any more. */
void cleat_vmm_pause_end(struct vm *vm);

/* ---- console.c: standard input and output, and waiting for the end ------ */

/*
 * Blocks the signals that end us, before any thread of ours is started; those
 * that the library has by then take no signals.
 */
int cleat_vmm_console_open(struct vm *vm);
/* Return: when the run has an outcome. */
void cleat_vmm_console_run(struct vm *vm);
/* Restores the terminal. */
void cleat_vmm_console_close(struct vm *vm);

/* ---- command.c: one line of the control socket -------------------------- */

/* Longer lines end the connection. */
#define COMMAND_LINE_LENGTH 4096
#define COMMAND_WORD 32
#define COMMAND_TARGET 1024

/* Strings that were not given are empty. */
struct command {
	char command[COMMAND_WORD];
	char to[COMMAND_TARGET];
	char then[COMMAND_WORD];
};

/*
 * Return: 0, or -EINVAL with *@ret_why set to a few words. *@ret is written in
 * both cases.
 */
int cleat_vmm_command_parse(const char *line, size_t length,
			    struct command *ret, const char **ret_why);

/* ---- listen.c: UNIX sockets by path -------------------------------------- */

/* Return: a descriptor that does not block, or -errno after saying why. */
int cleat_vmm_listen(const char *what, const char *path);

/* ---- control.c: orders and questions from outside ----------------------- */

#define CONTROL_CLIENTS 4
#define CONTROL_FDS (1 + CONTROL_CLIENTS)

struct control_client {
	int fd;
	size_t used;
	char line[COMMAND_LINE_LENGTH];
};

struct control {
	const char *path;
	int listener;
	struct control_client clients[CONTROL_CLIENTS];
};

void cleat_vmm_control_init(struct control *control);
int cleat_vmm_control_open(struct control *control, const char *path);
void cleat_vmm_control_close(struct control *control);
/* Fills @fds, CONTROL_FDS of them. */
void cleat_vmm_control_watch(const struct control *control,
			     struct pollfd *fds);
/* Does what was asked, if anything. Context: the main thread. */
void cleat_vmm_control_handle(struct vm *vm, const struct pollfd *fds);

/* ---- status.c: what `status` answers ------------------------------------ */

/* Adds members to the map that is open. */
void cleat_vmm_status_put(struct vm *vm, yajl_gen gen);

/* ---- stream.c: sections with checksums ---------------------------------- */

#define SECTION_MAX ((1u << 20) + 4096)

enum section_type {
	SECTION_SHAPE = 1,
	SECTION_PAGES,
	SECTION_FUNCTION,
	SECTION_DEVICE,
	SECTION_CPU,
	SECTION_CHIPS,
	SECTION_OWN,
	SECTION_END,
	SECTION_READY, /* back */
	SECTION_GO,
	SECTION_RUNNING, /* back */
	SECTION_REFUSED, /* back, and why */
};

struct stream {
	int fd;
	const atomic_bool *cancelled; /* ends every wait */
	unsigned idle_ms; /* and so does this long without a byte */
	uint8_t *in;
	uint8_t *out;
	enum section_type type; /* being written */
	size_t used;
	bool overflow;
	uint32_t sent;
	uint32_t received;
	uint64_t bytes;
	char why[256]; /* of the first failure */
};

/* A section's bytes, in the stream's buffer until the next is received. */
struct section {
	uint16_t type;
	size_t left;
	const uint8_t *data;
};

/* @fd is borrowed. */
int cleat_vmm_stream_open(struct stream *stream, int fd,
			  const atomic_bool *cancelled);
/* Bears with the other side's devices, which there are as many of as here. */
void cleat_vmm_stream_allow(struct stream *stream, unsigned devices);
void cleat_vmm_stream_close(struct stream *stream);
/* Return: @code. */
int cleat_vmm_stream_fail(struct stream *stream, int code, const char *format,
			  ...) __attribute__((format(printf, 3, 4)));
void cleat_vmm_stream_begin(struct stream *stream, enum section_type type);
void cleat_vmm_stream_add(struct stream *stream, const void *data,
			  size_t length);
/* Return: where to write @length bytes, NULL if there is no room. */
void *cleat_vmm_stream_room(struct stream *stream, size_t length);
int cleat_vmm_stream_send(struct stream *stream);
int cleat_vmm_stream_receive(struct stream *stream, struct section *ret);
/* Return: 0, or -EBADMSG if it has not so much. */
int cleat_vmm_section_take(struct section *section, void *ret, size_t length);

/* ---- channel.c: where a machine goes to or comes from ------------------- */

struct channel {
	const char *target; /* as the user gave it; borrowed */
	int fd;
	bool answers; /* the other side can say something */
	const atomic_bool *cancelled; /* ends every wait */
	bool is_command;
	pid_t pid; /* of a command that has not ended; 0: leave it alone */
	const char *path; /* of a file */
	char partial[COMMAND_TARGET]; /* what it is called until it is whole */
	char why[COMMAND_TARGET + 128];
};

bool cleat_vmm_channel_known(const char *target);
/* Whether it comes by standard input; @target may be NULL. */
bool cleat_vmm_channel_is_input(const char *target);
int cleat_vmm_channel_open(struct channel *channel, const char *target,
			   bool outgoing, const atomic_bool *cancelled);
/* Return: 0 when all that was written is safe where it went. */
int cleat_vmm_channel_finish(struct channel *channel);
void cleat_vmm_channel_close(struct channel *channel);

/* ---- board.c, cpustate.c, pages.c, travel.c: the parts of a machine ----- */

/* What both sides must have alike. */
struct shape {
	uint64_t memory;
	uint64_t window64_start;
	uint32_t cpus;
	uint32_t devices;
	uint32_t answers;
	uint32_t reserved;
};

int cleat_vmm_shape_save(struct stream *stream, const struct vm *vm,
			 bool answers);
int cleat_vmm_shape_load(struct stream *stream, struct vm *vm,
			 struct section *section, bool *ret_answers);
int cleat_vmm_chips_save(struct stream *stream, const struct vm *vm);
int cleat_vmm_chips_load(struct stream *stream, struct vm *vm,
			 struct section *section);
/* The guest's clock goes on from where it was saved. */
void cleat_vmm_clock_start(struct vm *vm);
/* Tells the guest that it stood still. */
void cleat_vmm_clock_stood(struct vm *vm);
int cleat_vmm_own_save(struct stream *stream, struct vm *vm);
int cleat_vmm_own_load(struct vm *vm, struct section *section);
int cleat_vmm_cpu_save(struct stream *stream, const struct vcpu *vcpu);
int cleat_vmm_cpu_load(struct stream *stream, struct vm *vm,
		       struct section *section);

int cleat_vmm_pages_start(struct vm *vm);
void cleat_vmm_pages_stop(struct vm *vm);
/* Brings all logs together; @final: devices are stopped. */
int cleat_vmm_pages_collect(struct vm *vm, bool final);
/* Sends what is dirty, and counts it in @pages. */
int cleat_vmm_pages_send(struct stream *stream, struct vm *vm,
			 atomic_ulong *pages);
int cleat_vmm_pages_receive(struct vm *vm, struct section *section);

/* In the order of <cleat/migration.h>. */
int cleat_vmm_travel_open(struct stream *stream, struct devices *devices);
void cleat_vmm_travel_close(struct devices *devices);
/* Context: any thread. */
void cleat_vmm_travel_cancel(struct devices *devices);
int cleat_vmm_travel_start(struct stream *stream, struct devices *devices);
int cleat_vmm_travel_stop(struct stream *stream, struct devices *devices);
int cleat_vmm_travel_functions(struct stream *stream, struct devices *devices);
int cleat_vmm_travel_save(struct stream *stream, struct devices *devices);
int cleat_vmm_travel_keep(struct stream *stream, struct devices *devices,
			  struct section *section);
int cleat_vmm_travel_function(struct stream *stream, struct devices *devices,
			      struct section *section);
int cleat_vmm_travel_load(struct stream *stream, struct devices *devices);
int cleat_vmm_travel_run(struct stream *stream, struct devices *devices);
/*
 * The same at a source that takes its machine back: one that cannot run any
 * more is said, and is no reason not to go on.
 */
int cleat_vmm_travel_return(struct stream *stream, struct devices *devices);
int cleat_vmm_travel_resume(struct stream *stream, struct devices *devices);

/* ---- migrate.c, incoming.c: a machine leaves, or arrives ---------------- */

enum phase {
	PHASE_NONE,
	PHASE_WAITING, /* for a source */
	PHASE_LOADING,
	PHASE_CONNECTING,
	PHASE_COPYING, /* the guest runs */
	PHASE_STOPPED, /* it does not */
	PHASE_DONE,
	PHASE_FAILED,
	PHASE_CANCELLED,
	PHASE_DOUBTFUL, /* it was told to go on and has not said that it does */
};

/* What the time is spent on during which no vCPU runs. */
enum part {
	PART_STOP, /* the vCPUs */
	PART_DEVICES, /* stopping them, and what the guest sees of them */
	PART_CPUS,
	PART_RAM, /* last round */
	PART_STATE, /* the devices' */
	PART_ARRIVAL, /* until the other side has it all */
	PART_START,
	PARTS,
};

/* What came first; the other is too late. */
enum decision {
	UNDECIDED,
	CALLED_OFF,
	HANDED_OVER, /* the machine may run elsewhere from here on */
};

/* One at a time; its thread's but for what is atomic. */
struct migration {
	struct vm *vm;
	pthread_t thread;
	bool started;
	bool go_on; /* here, when it is done */
	char target[COMMAND_TARGET];
	atomic_int phase; /* enum phase */
	atomic_int decided; /* enum decision */
	atomic_bool cancelled;
	struct cleat_cancel *waits; /* set when the program ends */
	struct channel channel;
	struct stream stream;
	bool logging, stopped, functions; /* how far it has come */
	bool doubtful; /* where the guest runs now */
	uint64_t mark; /* when copying began, or the last part ended */
	atomic_uint rounds;
	atomic_ulong pages;
	atomic_ulong rate; /* bytes in a second */
	atomic_ulong left; /* bytes dirty */
	atomic_ulong parts[PARTS]; /* ns */
	char why[COMMAND_TARGET + 384]; /* of a phase after DONE */
	bool returning; /* a thread takes it back */
	atomic_bool returned; /* it has come to its end */
	char why_not[256]; /* and could not; empty if it could */
};

/* From the main thread. Return: 0 or -errno. */
int cleat_vmm_migration_start(struct vm *vm, const char *target, bool outgoing,
			      bool go_on);
/*
 * Takes a machine back that may run elsewhere, if there is one: its devices run
 * again, then its vCPUs. Waits for that a short time.
 *
 * Return: NULL, or why it stands still; borrowed until the next call.
 */
const char *cleat_vmm_migration_return(struct vm *vm);
/* Return: whether it is not too late. */
bool cleat_vmm_migration_cancel(struct vm *vm);
/* Return: 0 if nobody has called it off; nobody can any more. */
int cleat_vmm_migration_decide(struct migration *m);
void cleat_vmm_migration_join(struct vm *vm);
/* The program ends, and a migration with it. */
void cleat_vmm_migration_end(struct vm *vm);
/* Whether one is under way. Context: any thread. */
bool cleat_vmm_migrating(struct vm *vm);
const char *cleat_vmm_part_name(unsigned part);
/* Why it failed, in words; @err if nobody has said any. */
const char *cleat_vmm_migration_why(const struct migration *m, int err);
/* The thread of one that arrives. */
void *cleat_vmm_arrive(void *opaque);
uint64_t cleat_vmm_now_ns(void);

/* ---- stats.c: --stats --------------------------------------------------- */

int cleat_vmm_stats_write(struct vm *vm, const char *path);

/* ---- main.c ------------------------------------------------------------- */

struct vm {
	struct options options;
	struct machine machine;
	struct ram ram;
	struct boot boot;
	struct bus bus;
	struct serial serial;
	struct power power;
	struct pci_host pci;
	struct devices devices;
	struct control control;
	struct pause pause;
	struct migration migration;
	uint64_t clock; /* of a machine that has arrived */
	struct vcpu vcpus[CPUS_MAX];
	unsigned vcpu_count;
	atomic_int outcome; /* enum outcome */
	int wake; /* eventfd that the main thread listens on */
	int signals; /* signalfd */
	bool raw; /* terminal settings are to be restored */
};

/* ---- stop.c: how a run ends --------------------------------------------- */

/*
 * Ends the run; the first to say how is right. Context: any thread, does not
 * sleep.
 */
void cleat_vmm_stop(struct vm *vm, enum outcome outcome);
bool cleat_vmm_stopping(struct vm *vm);
/* Makes the main thread look around. */
void cleat_vmm_wake(struct vm *vm);

#endif
