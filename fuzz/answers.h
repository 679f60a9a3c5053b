/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A server for targets whose input is what a server answers. It describes its
 * device (config space of zeroes, and the first generation's region of device
 * state), agrees to DMA_MAP, DMA_UNMAP and stores, answers a load from the state
 * region with the next bytes of the input, and everything else with a piece:
 *
 *	u8 1: after the request's own words (DMA_UNMAP that asks for a bitmap)
 *	u8 what: not 0: an error of that number
 *	u16 bytes of payload; above 0x8000: of one value
 *	the bytes, or the value
 *
 * When the input is at its end, so is the connection.
 */
#ifndef FUZZ_ANSWERS_H
#define FUZZ_ANSWERS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <cleat/cleat.h>

struct fuzz_answers {
	const uint8_t *data;
	size_t size;
	int fd;
	pthread_t thread;
};

/* A device on it, which answers from @data; aborts if there is none. */
struct cleat_device *cleat_fuzz_open(struct fuzz_answers *answers,
				     const uint8_t *data, size_t size);
/* After the device was closed. */
void cleat_fuzz_close(struct fuzz_answers *answers);

#endif
