/* SPDX-License-Identifier: BSD-2-Clause */
/* The UART by its registers, as drivers probe and use it. */
#include <fcntl.h>
#include <linux/serial_reg.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "tests/support/support.h"
#include "vmm/vmm.h"

struct port {
	struct vm vm;
	int out[2];
};

static struct port *open_port(void)
{
	struct port *port = calloc(1, sizeof(*port));

	ATF_REQUIRE(port);
	ATF_REQUIRE_EQ(0, pipe2(port->out, O_CLOEXEC));
	port->vm.outcome = OUTCOME_RUNNING;
	port->vm.machine.vm = -1; /* nobody looks at the line */
	port->vm.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ATF_REQUIRE(port->vm.wake >= 0);
	cleat_vmm_serial_init(&port->vm.serial, &port->vm, port->out[1]);
	return port;
}

static void close_port(struct port *port)
{
	close(port->out[0]);
	close(port->out[1]);
	close(port->vm.wake);
	free(port);
}

static uint8_t in(struct port *port, unsigned reg)
{
	uint8_t value = 0x5a;

	ATF_REQUIRE(cleat_vmm_bus_access(&port->vm.bus, CLEAT_PORTS,
					 PORT_COM1 + reg, &value, 1, false));
	return value;
}

static void out(struct port *port, unsigned reg, uint8_t value)
{
	ATF_REQUIRE(cleat_vmm_bus_access(&port->vm.bus, CLEAT_PORTS,
					 PORT_COM1 + reg, &value, 1, true));
}

CLEAT_TC(write__arrives)
{
	struct port *port = open_port();
	uint16_t two = 'b' | UART_IER_RDI << 8;
	char text[8] = "";

	out(port, UART_TX, 'a');
	/* A word to the first port is a byte to it and one to the next. */
	ATF_REQUIRE(cleat_vmm_bus_access(&port->vm.bus, CLEAT_PORTS, PORT_COM1,
					 &two, 2, true));
	ATF_REQUIRE_EQ(2, read(port->out[0], text, sizeof(text)));
	ATF_REQUIRE_STREQ("ab", text);
	ATF_REQUIRE_EQ(UART_IER_RDI, in(port, UART_IER));
	ATF_REQUIRE(in(port, UART_LSR) & UART_LSR_THRE);
	close_port(port);
}

CLEAT_TC(write__reader_gone)
{
	struct port *port = open_port();

	signal(SIGPIPE, SIG_IGN);
	close(port->out[0]);
	port->out[0] = dup(port->vm.wake);
	out(port, UART_TX, 'a');
	ATF_REQUIRE(in(port, UART_LSR) & UART_LSR_THRE);
	close_port(port);
}

CLEAT_TC(read__input)
{
	struct port *port = open_port();

	ATF_REQUIRE_EQ(0, in(port, UART_LSR) & UART_LSR_DR);
	ATF_REQUIRE_EQ(2, cleat_vmm_serial_input(&port->vm.serial,
						 (const uint8_t *)"xy", 2));
	ATF_REQUIRE(in(port, UART_LSR) & UART_LSR_DR);
	ATF_REQUIRE_EQ('x', in(port, UART_RX));
	ATF_REQUIRE_EQ('y', in(port, UART_RX));
	ATF_REQUIRE_EQ(0, in(port, UART_LSR) & UART_LSR_DR);
	close_port(port);
}

/* What does not fit is not lost: it is taken when the guest has read. */
CLEAT_TC(read__more_than_fits)
{
	struct port *port = open_port();
	uint8_t much[SERIAL_QUEUE + 10];
	size_t i, taken;

	for (i = 0; i < sizeof(much); i++)
		much[i] = (uint8_t)i;
	taken = cleat_vmm_serial_input(&port->vm.serial, much, sizeof(much));
	ATF_REQUIRE_EQ(SERIAL_QUEUE, taken);
	for (i = 0; i < taken; i++)
		ATF_REQUIRE_EQ((uint8_t)i, in(port, UART_RX));
	ATF_REQUIRE_EQ(1, wait_eventfd(port->vm.wake, 0));
	ATF_REQUIRE_EQ(10, cleat_vmm_serial_input(&port->vm.serial,
						  much + taken, 10));
	ATF_REQUIRE_EQ(much[taken], in(port, UART_RX));
	close_port(port);
}

/* What 8250 drivers try to find out what is there. */
CLEAT_TC(probe__16550a)
{
	struct port *port = open_port();

	out(port, UART_IER, 0);
	ATF_REQUIRE_EQ(0, in(port, UART_IER));
	out(port, UART_IER, 0xff);
	ATF_REQUIRE_EQ(0x0f, in(port, UART_IER));
	out(port, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	ATF_REQUIRE_EQ(UART_MSR_DCD | UART_MSR_CTS,
		       in(port, UART_MSR) & 0xf0);
	out(port, UART_MCR, 0);
	out(port, UART_FCR, UART_FCR_ENABLE_FIFO);
	ATF_REQUIRE_EQ(0xc0, in(port, UART_IIR) & 0xc0);
	out(port, UART_SCR, 0xa5);
	ATF_REQUIRE_EQ(0xa5, in(port, UART_SCR));
	close_port(port);
}

CLEAT_TC(probe__divisor)
{
	struct port *port = open_port();

	out(port, UART_LCR, UART_LCR_DLAB);
	out(port, UART_DLL, 0x34);
	out(port, UART_DLM, 0x12);
	ATF_REQUIRE_EQ(0x34, in(port, UART_DLL));
	ATF_REQUIRE_EQ(0x12, in(port, UART_DLM));
	out(port, UART_LCR, UART_LCR_WLEN8);
	ATF_REQUIRE_EQ(0, in(port, UART_IER));
	/* Nothing of it was sent. */
	ATF_REQUIRE(!wait_fd(port->out[0], POLLIN, 0));
	close_port(port);
}

CLEAT_TC(interrupt__causes)
{
	struct port *port = open_port();
	struct serial *serial = &port->vm.serial;

	out(port, UART_MCR, UART_MCR_OUT2);
	ATF_REQUIRE_EQ(UART_IIR_NO_INT, in(port, UART_IIR));
	out(port, UART_IER, UART_IER_THRI);
	ATF_REQUIRE(serial->line);
	/* Reading the cause ends it, writing brings it back. */
	ATF_REQUIRE_EQ(UART_IIR_THRI, in(port, UART_IIR));
	ATF_REQUIRE(!serial->line);
	ATF_REQUIRE_EQ(UART_IIR_NO_INT, in(port, UART_IIR));
	out(port, UART_TX, 'a');
	ATF_REQUIRE(serial->line);
	out(port, UART_IER, UART_IER_RDI);
	ATF_REQUIRE(!serial->line);
	cleat_vmm_serial_input(serial, (const uint8_t *)"x", 1);
	ATF_REQUIRE(serial->line);
	ATF_REQUIRE_EQ(UART_IIR_RDI, in(port, UART_IIR));
	in(port, UART_RX);
	ATF_REQUIRE(!serial->line);
	close_port(port);
}

CLEAT_TC(loopback__data)
{
	struct port *port = open_port();

	out(port, UART_MCR, UART_MCR_LOOP);
	out(port, UART_TX, 'q');
	ATF_REQUIRE_EQ('q', in(port, UART_RX));
	ATF_REQUIRE(!wait_fd(port->out[0], POLLIN, 0));
	close_port(port);
}

/* What was typed before the machine came is behind what it brought. */
CLEAT_TC(load__typed_before)
{
	struct serial_state state = { .queued = 2, .queue = "ab" };
	struct port *port = open_port();
	struct serial *serial = &port->vm.serial;

	ATF_REQUIRE_EQ(1, cleat_vmm_serial_input(serial, (void *)"c", 1));
	ATF_REQUIRE_EQ(0, cleat_vmm_serial_load(serial, &state));
	ATF_REQUIRE_EQ('a', in(port, UART_RX));
	ATF_REQUIRE_EQ('b', in(port, UART_RX));
	ATF_REQUIRE_EQ('c', in(port, UART_RX));
	ATF_REQUIRE(!(in(port, UART_LSR) & UART_LSR_DR));
	close_port(port);
}

/* More than the queue holds was typed: the rest is asked for, not forgotten. */
CLEAT_TC(load__typed_too_much)
{
	static const uint8_t much[SERIAL_QUEUE + 10];
	struct serial_state state = { .queued = 0 };
	struct port *port = open_port();
	struct serial *serial = &port->vm.serial;
	size_t i;

	ATF_REQUIRE_EQ(SERIAL_QUEUE,
		       cleat_vmm_serial_input(serial, much, sizeof(much)));
	ATF_REQUIRE_EQ(0, cleat_vmm_serial_load(serial, &state));
	for (i = 0; in(port, UART_LSR) & UART_LSR_DR; i++)
		in(port, UART_RX);
	ATF_REQUIRE_EQ(SERIAL_QUEUE, i);
	ATF_REQUIRE_EQ(1, wait_eventfd(port->vm.wake, 0));
	/* The queue of the other side's user was full as well. */
	cleat_vmm_serial_input(serial, much, sizeof(much));
	state.queued = SERIAL_QUEUE;
	ATF_REQUIRE_EQ(0, cleat_vmm_serial_load(serial, &state));
	for (i = 0; in(port, UART_LSR) & UART_LSR_DR; i++)
		in(port, UART_RX);
	ATF_REQUIRE_EQ(SERIAL_QUEUE, i);
	ATF_REQUIRE_EQ(1, wait_eventfd(port->vm.wake, 0));
	close_port(port);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, write__arrives);
	ATF_TP_ADD_TC(tp, write__reader_gone);
	ATF_TP_ADD_TC(tp, read__input);
	ATF_TP_ADD_TC(tp, read__more_than_fits);
	ATF_TP_ADD_TC(tp, probe__16550a);
	ATF_TP_ADD_TC(tp, probe__divisor);
	ATF_TP_ADD_TC(tp, interrupt__causes);
	ATF_TP_ADD_TC(tp, loopback__data);
	ATF_TP_ADD_TC(tp, load__typed_before);
	ATF_TP_ADD_TC(tp, load__typed_too_much);
	return atf_no_error();
}
