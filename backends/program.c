/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backends/program.h"

int cleat_program_say(int status, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", cleat_program_name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return status;
}

int cleat_program_bad(const char *option, const char *value, const char *what)
{
	return cleat_program_say(PROGRAM_USAGE, "--%s=%s: %s", option, value,
				 what);
}

int cleat_program_refuse(const char *why)
{
	return cleat_program_say(PROGRAM_USAGE, "%s%ssee %s --help",
				 why ? why : "", why ? ": " : "",
				 cleat_program_name);
}

bool cleat_program_number(const char *text, uint64_t least, uint64_t most,
			  uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	return text[0] >= '0' && text[0] <= '9' && !*end && !errno &&
	       *ret >= least && *ret <= most;
}

int cleat_program_migration(const char *text,
			    enum cleat_program_migration *ret)
{
	static const char *const names[] = {
		[PROGRAM_MIGRATION_V2] = "v2",
		[PROGRAM_MIGRATION_V1] = "v1",
		[PROGRAM_MIGRATION_NONE] = "none",
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(text, names[i])) {
			*ret = i;
			return PROGRAM_GO_ON;
		}
	return cleat_program_bad("migration", text, "not one of v1, v2, none");
}

int cleat_program_fds(void)
{
	for (int fd = 0; fd < 3; fd++)
		while (fcntl(fd, F_GETFD) < 0)
			if (open("/dev/null", O_RDWR) < 0)
				return -errno;
	return 0;
}

/* SIGXFSZ would kill us where EFBIG can be answered. */
void cleat_program_signals(void (*stop)(int number))
{
	struct sigaction action = { .sa_handler = stop };

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
	sigaction(SIGXFSZ, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

int cleat_program_stats(const char *path, int *ret_fd)
{
	*ret_fd = -1;
	if (!path)
		return PROGRAM_OK;
	*ret_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	return *ret_fd < 0 ? cleat_program_say(PROGRAM_FAILED, "%s: %s", path,
					       strerror(errno)) :
			     PROGRAM_OK;
}

/* A client that took us over would find little to go on with. */
static int drop_rights(int (*confine)(void))
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	/* Ambient capabilities go with the permitted ones. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_capset, &header, none))
		return -errno;
	return confine ? confine() : 0;
}

int cleat_program_serve(struct cleat_server *srv, const char *socket_path,
			int fd, int (*confine)(void))
{
	struct cleat_error why;
	int err;

	if (socket_path ? cleat_server_listen(srv, socket_path, &why) :
			  cleat_server_adopt(srv, fd, &why))
		return cleat_program_say(PROGRAM_FAILED, "socket: %s",
					 why.text);
	err = drop_rights(confine);
	if (err)
		return cleat_program_say(PROGRAM_FAILED,
					 "cannot drop rights: %s",
					 strerror(-err));
	err = cleat_server_run(srv);
	return err ? cleat_program_say(PROGRAM_FAILED, "cannot go on: %s",
				       strerror(-err)) :
		     PROGRAM_OK;
}

int cleat_program_memory(const char *name, size_t size, size_t offset, int *fd,
			 void **map)
{
	void *mapped;

	*fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*fd < 0 || ftruncate(*fd, (off_t)size) ||
	    fcntl(*fd, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	mapped = mmap(NULL, size - offset, PROT_READ | PROT_WRITE, MAP_SHARED,
		      *fd, (off_t)offset);
	if (mapped == MAP_FAILED)
		return -errno;
	*map = mapped;
	return 0;
}
