/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A 16550A UART on COM1. What the guest sends leaves at once, so the
 * transmitter is always empty; what the user types waits in a queue.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <linux/serial_reg.h>

#include "vmm/vmm.h"

#define PORTS 8
#define IIR_FIFO_ON 0xc0
#define MSR_LINES_UP (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)
#define SCRATCH UART_SCR

static bool loopback(const struct serial *serial)
{
	return serial->mcr & UART_MCR_LOOP;
}

/* The most urgent cause, as IIR shows it. */
static uint8_t cause(const struct serial *serial)
{
	if ((serial->ier & UART_IER_RDI) && serial->count)
		return UART_IIR_RDI;
	if ((serial->ier & UART_IER_THRI) && serial->thre)
		return UART_IIR_THRI;
	return UART_IIR_NO_INT;
}

static void update_line(struct serial *serial)
{
	/* Without OUT2 a PC does not connect the UART to its interrupt. */
	bool line = cause(serial) != UART_IIR_NO_INT &&
		    (serial->mcr & UART_MCR_OUT2) && !loopback(serial);

	if (line == serial->line)
		return;
	serial->line = line;
	cleat_vmm_machine_irq(&serial->vm->machine, IRQ_COM1, line);
}

static void enqueue(struct serial *serial, uint8_t byte)
{
	if (serial->count == SERIAL_QUEUE)
		return;
	serial->queue[(serial->head + serial->count) % SERIAL_QUEUE] = byte;
	serial->count++;
}

static uint8_t dequeue(struct serial *serial)
{
	uint8_t byte;

	if (!serial->count)
		return 0;
	byte = serial->queue[serial->head];
	serial->head = (serial->head + 1) % SERIAL_QUEUE;
	serial->count--;
	if (!serial->count && serial->full) {
		serial->full = false;
		cleat_vmm_wake(serial->vm);
	}
	return byte;
}

static void hold_back(struct serial *serial, const uint8_t *bytes, size_t count)
{
	pthread_mutex_lock(&serial->lock);
	while (count-- && serial->unsent_count < SERIAL_UNSENT)
		serial->unsent[serial->unsent_count++] = *bytes++;
	pthread_mutex_unlock(&serial->lock);
}

/*
 * A reader of ours who does not read stops the vCPU here, until it is kicked
 * because the run ends or is paused; so no lock is held. A reader who is gone
 * loses bytes.
 */
static void put(struct serial *serial, const uint8_t *bytes, size_t count)
{
	while (count) {
		ssize_t n;

		/* It may have come here after the last kick. */
		if (cleat_vmm_pausing(serial->vm)) {
			hold_back(serial, bytes, count);
			return;
		}
		n = write(serial->out, bytes, count);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return;
		if (cleat_vmm_stopping(serial->vm))
			return;
		if (n > 0) {
			bytes += n;
			count -= (size_t)n;
		}
	}
}

static void transmit(struct serial *serial, uint8_t byte)
{
	if (loopback(serial))
		enqueue(serial, byte);
	else if (serial->sent < sizeof(serial->sending))
		serial->sending[serial->sent++] = byte;
	serial->thre = true;
}

static uint8_t modem_status(const struct serial *serial)
{
	uint8_t status = 0;

	if (!loopback(serial))
		return MSR_LINES_UP;
	/* Looped back, the four outputs are the four inputs. */
	if (serial->mcr & UART_MCR_RTS)
		status |= UART_MSR_CTS;
	if (serial->mcr & UART_MCR_DTR)
		status |= UART_MSR_DSR;
	if (serial->mcr & UART_MCR_OUT1)
		status |= UART_MSR_RI;
	if (serial->mcr & UART_MCR_OUT2)
		status |= UART_MSR_DCD;
	return status;
}

static uint8_t identify(struct serial *serial)
{
	uint8_t iir = cause(serial);

	if (iir == UART_IIR_THRI)
		serial->thre = false;
	if (serial->fcr & UART_FCR_ENABLE_FIFO)
		iir |= IIR_FIFO_ON;
	return iir;
}

static uint8_t read_register(struct serial *serial, uint64_t offset)
{
	bool divisor = serial->lcr & UART_LCR_DLAB;

	switch (offset) {
	case UART_RX:
		return divisor ? (uint8_t)serial->divisor : dequeue(serial);
	case UART_IER:
		return divisor ? serial->divisor >> 8 : serial->ier;
	case UART_IIR:
		return identify(serial);
	case UART_LCR:
		return serial->lcr;
	case UART_MCR:
		return serial->mcr;
	case UART_LSR:
		return UART_LSR_TEMT | UART_LSR_THRE |
		       (serial->count ? UART_LSR_DR : 0);
	case UART_MSR:
		return modem_status(serial);
	default:
		return serial->scratch;
	}
}

static void write_ier(struct serial *serial, uint8_t value)
{
	bool had = serial->ier & UART_IER_THRI;

	serial->ier = value & 0x0f;
	if (!had && (serial->ier & UART_IER_THRI))
		serial->thre = true;
}

static void write_fcr(struct serial *serial, uint8_t value)
{
	serial->fcr = value;
	if (value & UART_FCR_CLEAR_RCVR)
		while (serial->count)
			dequeue(serial);
}

static void write_register(struct serial *serial, uint64_t offset,
			   uint8_t value)
{
	bool divisor = serial->lcr & UART_LCR_DLAB;

	switch (offset) {
	case UART_TX:
		if (divisor)
			serial->divisor = (serial->divisor & 0xff00) | value;
		else
			transmit(serial, value);
		break;
	case UART_IER:
		if (divisor)
			serial->divisor = (serial->divisor & 0xff) |
					  (uint16_t)(value << 8);
		else
			write_ier(serial, value);
		break;
	case UART_FCR:
		write_fcr(serial, value);
		break;
	case UART_LCR:
		serial->lcr = value;
		break;
	case UART_MCR:
		serial->mcr = value & 0x1f;
		break;
	case SCRATCH:
		serial->scratch = value;
		break;
	}
}

/* Registers are a byte each; a wider access is that many of them. */
static void access_ports(void *device, uint64_t offset, void *data,
			 unsigned length, bool is_write)
{
	struct serial *serial = device;
	uint8_t *bytes = data;
	uint8_t out[sizeof(serial->sending)];
	size_t sent;
	unsigned i;

	pthread_mutex_lock(&serial->lock);
	serial->sent = 0;
	for (i = 0; i < length; i++) {
		if (is_write)
			write_register(serial, offset + i, bytes[i]);
		else
			bytes[i] = read_register(serial, offset + i);
	}
	update_line(serial);
	sent = serial->sent;
	memcpy(out, serial->sending, sent);
	pthread_mutex_unlock(&serial->lock);
	put(serial, out, sent);
}

void cleat_vmm_serial_flush(struct serial *serial)
{
	uint8_t bytes[SERIAL_UNSENT];
	size_t count;

	pthread_mutex_lock(&serial->lock);
	count = serial->unsent_count;
	memcpy(bytes, serial->unsent, count);
	serial->unsent_count = 0;
	pthread_mutex_unlock(&serial->lock);
	put(serial, bytes, count);
}

void cleat_vmm_serial_save(struct serial *serial, struct serial_state *ret)
{
	size_t i;

	memset(ret, 0, sizeof(*ret));
	pthread_mutex_lock(&serial->lock);
	ret->ier = serial->ier;
	ret->lcr = serial->lcr;
	ret->mcr = serial->mcr;
	ret->fcr = serial->fcr;
	ret->scratch = serial->scratch;
	ret->thre = serial->thre;
	ret->line = serial->line;
	ret->divisor = serial->divisor;
	ret->queued = (uint16_t)serial->count;
	for (i = 0; i < serial->count; i++)
		ret->queue[i] = serial->queue[(serial->head + i) % SERIAL_QUEUE];
	ret->unsent_count = (uint32_t)serial->unsent_count;
	memcpy(ret->unsent, serial->unsent, serial->unsent_count);
	pthread_mutex_unlock(&serial->lock);
}

/*
 * What was typed here before it arrived comes after what it brought with it; as
 * on any line what there is no room for is lost. @serial->full stays as it is:
 * where input was refused there is some to read, and reading it asks for more.
 */
static void load_queue(struct serial *serial, const struct serial_state *state)
{
	uint8_t typed[SERIAL_QUEUE];
	size_t i, count = serial->count;

	for (i = 0; i < count; i++)
		typed[i] = serial->queue[(serial->head + i) % SERIAL_QUEUE];
	serial->head = 0;
	serial->count = state->queued;
	memcpy(serial->queue, state->queue, state->queued);
	for (i = 0; i < count; i++)
		enqueue(serial, typed[i]);
}

int cleat_vmm_serial_load(struct serial *serial,
			  const struct serial_state *state)
{
	if (state->queued > SERIAL_QUEUE || state->unsent_count > SERIAL_UNSENT)
		return -EBADMSG;
	pthread_mutex_lock(&serial->lock);
	serial->ier = state->ier;
	serial->lcr = state->lcr;
	serial->mcr = state->mcr;
	serial->fcr = state->fcr;
	serial->scratch = state->scratch;
	serial->thre = state->thre;
	serial->divisor = state->divisor;
	load_queue(serial, state);
	serial->unsent_count = state->unsent_count;
	memcpy(serial->unsent, state->unsent, state->unsent_count);
	/* Chips forget which lines were up: an interrupt twice is none lost. */
	serial->line = false;
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	return 0;
}

size_t cleat_vmm_serial_input(struct serial *serial, const uint8_t *data,
			      size_t length)
{
	size_t taken = 0;

	pthread_mutex_lock(&serial->lock);
	while (taken < length && serial->count < SERIAL_QUEUE)
		enqueue(serial, data[taken++]);
	serial->full = taken < length;
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	return taken;
}

void cleat_vmm_serial_init(struct serial *serial, struct vm *vm, int out)
{
	*serial = (struct serial){
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.vm = vm,
		.out = out,
		.divisor = 12,
	};
	cleat_vmm_bus_add(&vm->bus, CLEAT_PORTS, PORT_COM1, PORTS, access_ports,
			  serial);
}
