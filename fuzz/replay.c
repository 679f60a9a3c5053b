/* SPDX-License-Identifier: BSD-2-Clause */
/* replay FILE|DIRECTORY...: run a fuzz target on files, without a fuzzer. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz/fuzz.h"

#define MOST (1u << 20)

static unsigned runs;

static int run_file(const char *path)
{
	uint8_t *data = malloc(MOST);
	FILE *file = fopen(path, "rb");
	size_t size;

	if (!file || !data) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		free(data);
		return 1;
	}
	size = fread(data, 1, MOST, file);
	fclose(file);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	runs++;
	return 0;
}

static int run_path(const char *path)
{
	struct dirent *entry;
	struct stat st;
	int failed = 0;
	DIR *dir;

	if (stat(path, &st) || !S_ISDIR(st.st_mode))
		return run_file(path);
	dir = opendir(path);
	if (!dir)
		return 1;
	while ((entry = readdir(dir))) {
		char name[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		failed |= run_file(name);
	}
	closedir(dir);
	return failed;
}

int main(int argc, char **argv)
{
	int failed = 0;

	for (int i = 1; i < argc; i++)
		failed |= run_path(argv[i]);
	printf("%u inputs\n", runs);
	return failed || !runs;
}
