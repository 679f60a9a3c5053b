/* SPDX-License-Identifier: BSD-2-Clause */
#include <pthread.h>
#include <string.h>

#include "wire/wire.h"

#define POLYNOMIAL 0x82f63b78u /* of CRC-32C, bits reversed */

/* tables[k][b]: what byte b does when k more bytes follow. */
static uint32_t tables[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
	for (uint32_t b = 0; b < 256; b++) {
		uint32_t crc = b;

		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
		tables[0][b] = crc;
	}
	for (int k = 1; k < 8; k++)
		for (uint32_t b = 0; b < 256; b++)
			tables[k][b] = tables[k - 1][b] >> 8 ^
				       tables[0][tables[k - 1][b] & 0xff];
}

static uint32_t eight(uint32_t crc, uint64_t word)
{
	uint32_t sum = 0;

	word ^= crc;
	for (int k = 0; k < 8; k++)
		sum ^= tables[7 - k][word >> (8 * k) & 0xff];
	return sum;
}

uint32_t cleat_crc32c(uint32_t crc, const void *data, size_t size)
{
	const uint8_t *at = data;

	pthread_once(&once, make_tables);
	crc = ~crc;
	for (; size >= 8; size -= 8, at += 8) {
		uint64_t word;

		memcpy(&word, at, sizeof(word));
		crc = eight(crc, word);
	}
	for (; size; size--, at++)
		crc = crc >> 8 ^ tables[0][(crc ^ *at) & 0xff];
	return ~crc;
}
