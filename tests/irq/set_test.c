/* SPDX-License-Identifier: BSD-2-Clause */
/* SET_IRQS as users send it: every pair of data and action, and in pieces. */
#include <linux/vfio.h>
#include <sys/eventfd.h>

#include <cleat/irq.h>

#include "tests/support/model.h"

#define MSIX VFIO_PCI_MSIX_IRQ_INDEX
#define SETS 32

/* What came: the message, and whether each descriptor was an eventfd. */
struct seen {
	struct cleat_wire_irq_set set;
	unsigned num_fds;
	unsigned num_eventfds;
	uint8_t bools[16];
	size_t num_bools;
};

struct log {
	struct seen sets[SETS];
	unsigned num;
	unsigned refuse; /* this one, from 1 */
};

static int write_down(struct model *model, const struct peer_message *m)
{
	struct log *log = model->arg;
	struct seen *seen = &log->sets[log->num];

	if (m->header.command != VFIO_USER_DEVICE_SET_IRQS)
		return 0;
	if (log->num == SETS || m->length < sizeof(seen->set))
		return -EINVAL;
	memcpy(&seen->set, m->body, sizeof(seen->set));
	seen->num_bools = m->length - sizeof(seen->set);
	memcpy(seen->bools, (uint8_t *)m->body + sizeof(seen->set),
	       seen->num_bools < 16 ? seen->num_bools : 16);
	seen->num_fds = m->nr_fds;
	for (unsigned i = 0; i < m->nr_fds; i++)
		seen->num_eventfds += cleat_is_eventfd(m->fds[i]);
	log->num++;
	if (log->num == log->refuse)
		return peer_reply_error(model->fd, m, EPERM) ? -EPIPE : 1;
	return 0;
}

static struct model make_model(struct log *log)
{
	return (struct model){
		.json = "{\"capabilities\":{\"max_msg_fds\":4}}",
		.irqs = { 1, 0, 16, 1, 0 },
		.on = write_down,
		.arg = log,
	};
}

static void check_seen(const struct seen *seen, uint32_t flags, unsigned start,
		       unsigned count, unsigned num_fds)
{
	ATF_CHECK_EQ(sizeof(seen->set) + seen->num_bools, seen->set.argsz);
	ATF_CHECK_EQ(flags, seen->set.flags);
	ATF_CHECK_EQ(MSIX, seen->set.index);
	ATF_CHECK_EQ(start, seen->set.start);
	ATF_CHECK_EQ(count, seen->set.count);
	ATF_CHECK_EQ(num_fds, seen->num_fds);
	ATF_CHECK_EQ(num_fds, seen->num_eventfds);
}

static const uint32_t actions[] = { CLEAT_IRQ_MASK, CLEAT_IRQ_UNMASK,
				    CLEAT_IRQ_TRIGGER };

CLEAT_TC(set__every_pair)
{
	static const uint8_t bools[3] = { 1, 0, 1 };
	struct log log = { 0 };
	struct model model = make_model(&log);
	struct cleat_device *dev = model_open(&model, NULL);
	int fds[3];

	for (unsigned i = 0; i < 3; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	for (unsigned i = 0; i < 3; i++) {
		struct seen *seen = &log.sets[i * 3];

		ATF_REQUIRE_EQ(0, cleat_irq_set(dev, MSIX,
						CLEAT_IRQ_DATA_NONE |
							actions[i],
						5, 3, NULL, NULL));
		check_seen(&seen[0], CLEAT_IRQ_DATA_NONE | actions[i], 5, 3, 0);
		ATF_CHECK_EQ(0, seen[0].num_bools);
		ATF_REQUIRE_EQ(0, cleat_irq_set(dev, MSIX,
						CLEAT_IRQ_DATA_BOOL |
							actions[i],
						5, 3, bools, NULL));
		check_seen(&seen[1], CLEAT_IRQ_DATA_BOOL | actions[i], 5, 3, 0);
		ATF_CHECK_EQ(3, seen[1].num_bools);
		ATF_CHECK_EQ(0, memcmp(bools, seen[1].bools, 3));
		ATF_REQUIRE_EQ(0, cleat_irq_set(dev, MSIX,
						CLEAT_IRQ_DATA_EVENTFD |
							actions[i],
						5, 3, NULL, fds));
		check_seen(&seen[2], CLEAT_IRQ_DATA_EVENTFD | actions[i], 5, 3,
			   3);
	}
	for (unsigned i = 0; i < 3; i++)
		close(fds[i]);
	cleat_device_unref(dev);
	model_end(&model);
}

CLEAT_TC(set__disable)
{
	const uint32_t flags = CLEAT_IRQ_DATA_NONE | CLEAT_IRQ_TRIGGER;
	struct log log = { 0 };
	struct model model = make_model(&log);
	struct cleat_device *dev = model_open(&model, NULL);

	ATF_REQUIRE_EQ(0, cleat_irq_set(dev, MSIX, flags, 0, 0, NULL, NULL));
	check_seen(&log.sets[0], flags, 0, 0, 0);
	cleat_device_unref(dev);
	model_end(&model);
}

/*
 * Ten vectors of which 4 and 5 lose theirs, to a server that takes four
 * descriptors: 0-3, 4-5 without, 6-9.
 */
CLEAT_TC(set__in_pieces)
{
	const uint32_t flags = CLEAT_IRQ_DATA_EVENTFD | CLEAT_IRQ_TRIGGER;
	struct log log = { 0 };
	struct model model = make_model(&log);
	struct cleat_device *dev = model_open(&model, NULL);
	int fd = eventfd(0, EFD_CLOEXEC);
	int fds[11];

	for (unsigned i = 0; i < 11; i++)
		fds[i] = i == 4 || i == 5 ? -1 : fd;
	ATF_REQUIRE_EQ(0, cleat_irq_set(dev, MSIX, flags, 3, 11, NULL, fds));
	ATF_REQUIRE_EQ(4, log.num);
	check_seen(&log.sets[0], flags, 3, 4, 4);
	check_seen(&log.sets[1], flags, 7, 2, 0);
	check_seen(&log.sets[2], flags, 9, 4, 4);
	check_seen(&log.sets[3], flags, 13, 1, 1);
	close(fd);
	cleat_device_unref(dev);
	model_end(&model);
}

/* The second of three pieces is refused: the third is not sent. */
CLEAT_TC(set__piece_refused)
{
	const uint32_t flags = CLEAT_IRQ_DATA_EVENTFD | CLEAT_IRQ_TRIGGER;
	struct log log = { .refuse = 2 };
	struct model model = make_model(&log);
	struct cleat_device *dev = model_open(&model, NULL);
	int fd = eventfd(0, EFD_CLOEXEC);
	int fds[12];

	for (unsigned i = 0; i < 12; i++)
		fds[i] = fd;
	ATF_REQUIRE_EQ(-EPERM,
		       cleat_irq_set(dev, MSIX, flags, 0, 12, NULL, fds));
	ATF_CHECK_EQ(2, log.num);
	close(fd);
	cleat_device_unref(dev);
	model_end(&model);
}

CLEAT_TC(set__wrong)
{
	static const uint8_t bools[20];
	const uint32_t none = CLEAT_IRQ_DATA_NONE, trigger = CLEAT_IRQ_TRIGGER;
	const uint32_t boolean = CLEAT_IRQ_DATA_BOOL;
	const uint32_t evt = CLEAT_IRQ_DATA_EVENTFD;
	const struct {
		int err;
		uint32_t index, flags;
		unsigned start, count;
		bool bools, fds;
	} wrong[] = {
		{ -ENOENT, 5, none | trigger, 0, 1 },
		{ -ENOENT, UINT32_MAX, none | trigger, 0, 1 },
		{ -EINVAL, MSIX, none | trigger, 16, 1 },
		{ -EINVAL, MSIX, none | trigger, 1, UINT32_MAX },
		{ -EINVAL, MSIX, none | trigger, 17, 0 },
		{ -EINVAL, MSIX, none | trigger, 1, 0 },
		{ -EINVAL, MSIX, none | CLEAT_IRQ_MASK, 0, 0 },
		{ -EINVAL, MSIX, none, 0, 1 },
		{ -EINVAL, MSIX, trigger, 0, 1 },
		{ -EINVAL, MSIX, none | boolean | trigger, 0, 1, true },
		{ -EINVAL, MSIX, none | trigger | CLEAT_IRQ_MASK, 0, 1 },
		{ -EINVAL, MSIX, none | trigger | 64, 0, 1 },
		{ -EINVAL, MSIX, none | trigger, 0, 1, true },
		{ -EINVAL, MSIX, none | trigger, 0, 1, false, true },
		{ -EINVAL, MSIX, boolean | trigger, 0, 1 },
		{ -EINVAL, MSIX, evt | trigger, 0, 1 },
		{ -EINVAL, MSIX, evt | trigger, 0, 1, true },
	};
	struct log log = { 0 };
	struct model model = make_model(&log);
	struct cleat_device *dev = model_open(&model, NULL);
	int fd = -1;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ATF_CHECK_EQ_MSG(wrong[i].err,
				 cleat_irq_set(dev, wrong[i].index,
					       wrong[i].flags, wrong[i].start,
					       wrong[i].count,
					       wrong[i].bools ? bools : NULL,
					       wrong[i].fds ? &fd : NULL),
				 "number %zu", i);
	ATF_CHECK_EQ(0, log.num);
	cleat_device_unref(dev);
	model_end(&model);
}

/* No socket that carries descriptors: said here, not by the server. */
CLEAT_TC(set__takes_no_fds)
{
	const uint32_t flags = CLEAT_IRQ_DATA_EVENTFD | CLEAT_IRQ_TRIGGER;
	struct log log = { 0 };
	struct model model = make_model(&log);
	struct cleat_device *dev;
	int fd = eventfd(0, EFD_CLOEXEC), none = -1;

	model.json = "{\"capabilities\":{\"max_msg_fds\":0}}";
	dev = model_open(&model, NULL);
	ATF_CHECK_EQ(-EOPNOTSUPP,
		     cleat_irq_set(dev, MSIX, flags, 0, 1, NULL, &fd));
	ATF_CHECK_EQ(0, log.num);
	ATF_CHECK_EQ(0, cleat_irq_set(dev, MSIX, flags, 0, 1, NULL, &none));
	check_seen(&log.sets[0], flags, 0, 1, 0);
	close(fd);
	cleat_device_unref(dev);
	model_end(&model);
}

CLEAT_TC(info__as_told)
{
	struct cleat_irq_info info = { .size = sizeof(info) };
	struct log log = { 0 };
	struct model model = make_model(&log);
	struct cleat_device *dev = model_open(&model, NULL);

	ATF_REQUIRE_EQ(0, cleat_irq_info(dev, MSIX, &info));
	ATF_CHECK_EQ(16, info.count);
	ATF_CHECK_EQ(CLEAT_IRQ_INFO_EVENTFD, info.flags);
	ATF_CHECK_EQ(sizeof(info), info.size);
	ATF_CHECK_EQ(-ENOENT, cleat_irq_info(dev, 5, &info));
	info.size = 3;
	ATF_CHECK_EQ(-EINVAL, cleat_irq_info(dev, MSIX, &info));
	cleat_device_unref(dev);
	model_end(&model);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, set__every_pair);
	ATF_TP_ADD_TC(tp, set__disable);
	ATF_TP_ADD_TC(tp, set__in_pieces);
	ATF_TP_ADD_TC(tp, set__piece_refused);
	ATF_TP_ADD_TC(tp, set__wrong);
	ATF_TP_ADD_TC(tp, set__takes_no_fds);
	ATF_TP_ADD_TC(tp, info__as_told);
	return atf_no_error();
}
