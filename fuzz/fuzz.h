/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A fuzz target is a function of bytes; libFuzzer's main drives it, or
 * replay.c's, which runs the seeds (and whatever files it is given) once.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
