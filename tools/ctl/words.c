/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers and names on the command line. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <linux/vfio.h>

#include "tools/ctl/ctl.h"
#include "tools/ctl/out.h"

static const char *const region_names[] = {
	"BAR0", "BAR1", "BAR2", "BAR3", "BAR4", "BAR5", "ROM", "CONFIG", "VGA",
};

static const char *const irq_names[] = { "INTx", "MSI", "MSI-X", "ERR",
					 "REQ" };

const char *cleat_ctl_region_name(unsigned index)
{
	return index < CTL_NUM(region_names) ? region_names[index] : "";
}

const char *cleat_ctl_irq_name(unsigned index)
{
	return index < CTL_NUM(irq_names) ? irq_names[index] : "";
}

/* Decimal, or hexadecimal after 0x; no sign, no blanks, nothing after it. */
bool cleat_ctl_number(const char *text, uint64_t least, uint64_t most,
		      uint64_t *ret)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	const char *digits = hex ? text + 2 : text;
	uint64_t value;
	char *end;

	if (!*digits || digits[strspn(digits, hex ? "0123456789abcdefABCDEF" :
						    "0123456789")])
		return false;
	errno = 0;
	value = strtoull(digits, &end, hex ? 16 : 10);
	if (*end || errno || value < least || value > most)
		return false;
	*ret = value;
	return true;
}

int cleat_ctl_word_number(const char *what, const char *text, uint64_t most,
			  uint64_t *ret)
{
	if (cleat_ctl_number(text, 0, most, ret))
		return CTL_OK;
	return cleat_ctl_say(CTL_USAGE,
			     "%s \"%s\": not a number from 0 to %#llx "
			     "(decimal, or hexadecimal with 0x)",
			     what, text, (unsigned long long)most);
}

static int find_name(const char *const *names, size_t num, const char *text,
		     unsigned *ret)
{
	uint64_t number;

	if (cleat_ctl_number(text, 0, UINT32_MAX, &number)) {
		*ret = (unsigned)number;
		return CTL_OK;
	}
	for (unsigned i = 0; i < num; i++) {
		if (!strcasecmp(names[i], text)) {
			*ret = i;
			return CTL_OK;
		}
	}
	return CTL_USAGE;
}

int cleat_ctl_region(const char *text, unsigned *ret)
{
	if (!find_name(region_names, CTL_NUM(region_names), text, ret))
		return CTL_OK;
	return cleat_ctl_say(CTL_USAGE,
			     "region \"%s\": neither a number nor bar0 to "
			     "bar5, rom, config or vga",
			     text);
}

int cleat_ctl_irq(const char *text, unsigned *ret)
{
	if (!find_name(irq_names, CTL_NUM(irq_names), text, ret))
		return CTL_OK;
	if (!strcasecmp(text, "msix")) {
		*ret = VFIO_PCI_MSIX_IRQ_INDEX;
		return CTL_OK;
	}
	return cleat_ctl_say(CTL_USAGE,
			     "interrupt \"%s\": neither a number nor intx, "
			     "msi, msi-x, err or req",
			     text);
}

/* Cuts @text at @mark, and gives what is behind it; NULL if it is not there. */
static char *cut(char *text, char mark)
{
	char *at = strchr(text, mark);

	if (at)
		*at++ = '\0';
	return at;
}

static int parse_store(char *text, struct ctl_store *ret)
{
	char *offset = cut(text, ':');
	char *value = offset ? cut(offset, '=') : NULL;
	char *width = value ? cut(value, '/') : NULL;
	uint64_t bytes = 4, most;

	if (!value)
		return cleat_ctl_say(CTL_USAGE,
				     "--write: REGION:OFFSET=VALUE[/WIDTH] is "
				     "wanted");
	if (width && (!cleat_ctl_number(width, 1, 8, &bytes) ||
		      bytes & (bytes - 1)))
		return cleat_ctl_say(CTL_USAGE,
				     "--write: width \"%s\": not 1, 2, 4 or 8",
				     width);
	most = bytes == 8 ? UINT64_MAX : (1ull << bytes * 8) - 1;
	ret->width = (unsigned)bytes;
	if (cleat_ctl_region(text, &ret->region) ||
	    cleat_ctl_word_number("--write: offset", offset, UINT64_MAX,
				  &ret->offset) ||
	    cleat_ctl_word_number("--write: value", value, most, &ret->value))
		return CTL_USAGE;
	return CTL_OK;
}

int cleat_ctl_store(const char *text, struct ctl_store *ret)
{
	char *copy = strdup(text);
	int status;

	if (!copy)
		return cleat_ctl_say(CTL_LOCAL, "out of memory");
	status = parse_store(copy, ret);
	free(copy);
	return status;
}
