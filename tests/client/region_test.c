/* SPDX-License-Identifier: BSD-2-Clause */
/* Posted and batched stores, features, and servers with known faults. */
#include <sys/eventfd.h>

#include "client/client.h"
#include "tests/support/model.h"

#define RW (CLEAT_REGION_READ | CLEAT_REGION_WRITE)
#define MULTI_JSON "{\"capabilities\":{\"write_multiple\":true}}"

static struct model plain_model(void)
{
	return (struct model){
		.num_regions = 2,
		.regions = { { 65536, RW }, { 65536, RW } },
	};
}

CLEAT_TC(post__done_before_a_later_read)
{
	struct model model = plain_model();
	struct cleat_device *dev = model_open(&model, NULL);
	struct cleat_device_stats stats = { .size = sizeof(stats) };
	uint32_t value, back = 0;

	for (value = 1; value <= 1000; value++)
		ATF_REQUIRE_EQ(0, cleat_region_post(dev, 0, 4, &value, 4));
	ATF_REQUIRE_EQ(0, cleat_region_read(dev, 0, 4, &back, 4));
	ATF_REQUIRE_EQ(1000, back);
	ATF_REQUIRE_EQ(0, cleat_device_stats(dev, &stats));
	ATF_REQUIRE_EQ(1000, stats.posted);
	ATF_REQUIRE_EQ(-ERANGE, cleat_region_post(dev, 0, 65534, &value, 4));
	cleat_device_unref(dev);
	model_end(&model);
}

/* Does REGION_WRITE_MULTI, and refuses what it must not be given. */
static int do_multi(struct model *model, const struct peer_message *m)
{
	const struct cleat_wire_write *w;
	uint64_t count;

	if (m->header.command != VFIO_USER_REGION_WRITE_MULTI)
		return 0;
	memcpy(&count, m->body, 8);
	if (count > 200 || m->length != 8 + count * sizeof(*w))
		return -EBADMSG;
	w = (const void *)((const uint8_t *)m->body + 8);
	for (uint64_t i = 0; i < count; i++)
		for (uint32_t j = 0; j < w[i].count; j++)
			model_fill(model, w[i].region, w[i].offset + j,
				   w[i].data[j], 1);
	if (m->header.flags & PEER_NO_REPLY)
		return 1;
	return peer_reply(model->fd, m, &count, 8, NULL, 0) ? -EPIPE : 1;
}

static void write_batch(struct model *model, bool wait)
{
	static struct cleat_region_store stores[500];
	struct cleat_device *dev = model_open(model, NULL);
	uint8_t back[4];

	for (unsigned i = 0; i < 500; i++)
		stores[i] = (struct cleat_region_store){
			.offset = i * 4,
			.region = i & 1,
			.count = 4,
			.data = { (uint8_t)i, 1, 2, 3 },
		};
	ATF_REQUIRE_EQ(0, cleat_region_write_batch(dev, stores, 500, wait));
	for (unsigned i = 0; i < 500; i += 99) {
		ATF_REQUIRE_EQ(0,
			       cleat_region_read(dev, i & 1, i * 4, back, 4));
		ATF_REQUIRE_EQ(0, memcmp(stores[i].data, back, 4));
	}
	stores[3].count = 9;
	ATF_REQUIRE_EQ(-EINVAL, cleat_region_write_batch(dev, stores, 4, 1));
	stores[3].count = 8;
	stores[3].offset = 65530;
	ATF_REQUIRE_EQ(-ERANGE, cleat_region_write_batch(dev, stores, 4, 1));
	cleat_device_unref(dev);
	model_end(model);
}

CLEAT_TC(batch__by_multi)
{
	struct model model = plain_model();

	model.json = MULTI_JSON;
	model.on = do_multi;
	write_batch(&model, true);
	ATF_REQUIRE_EQ(3, model_count(&model, VFIO_USER_REGION_WRITE_MULTI));
	ATF_REQUIRE_EQ(0, model_count(&model, VFIO_USER_REGION_WRITE));
}

CLEAT_TC(batch__by_multi_posted)
{
	struct model model = plain_model();

	model.json = MULTI_JSON;
	model.on = do_multi;
	write_batch(&model, false);
	ATF_REQUIRE_EQ(3, model_count(&model, VFIO_USER_REGION_WRITE_MULTI));
}

CLEAT_TC(batch__server_without_multi)
{
	struct model model = plain_model();

	write_batch(&model, true);
	ATF_REQUIRE_EQ(500, model_count(&model, VFIO_USER_REGION_WRITE));
	ATF_REQUIRE_EQ(0, model_count(&model, VFIO_USER_REGION_WRITE_MULTI));
}

/* Plays the server whose 8-byte branch was never written. */
static int end_at_8_bytes(struct model *model, const struct peer_message *m)
{
	struct cleat_wire_access access = { 0 };

	if (m->header.command == VFIO_USER_DEVICE_RESET)
		return -EPIPE;
	if (m->header.command != VFIO_USER_REGION_READ &&
	    m->header.command != VFIO_USER_REGION_WRITE)
		return 0;
	memcpy(&access, m->body, sizeof(access));
	return access.count == 8 ? -EPIPE : 0;
}

CLEAT_TC(quirk__usbvfiod)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .peer = "usbvfiod" };
	struct cleat_device_info info = { .size = sizeof(info) };
	struct model model = plain_model();
	struct cleat_device *dev;
	uint64_t value = 0x1122334455667788, back = 0;

	model.on = end_at_8_bytes;
	dev = model_open(&model, &config);
	ATF_REQUIRE_STREQ("usbvfiod", cleat_device_quirks(dev));
	ATF_REQUIRE_EQ(0, cleat_region_write(dev, 0, 8, &value, 8));
	ATF_REQUIRE_EQ(0, cleat_region_read(dev, 0, 8, &back, 8));
	ATF_REQUIRE_EQ(value, back);
	ATF_REQUIRE_EQ(-EOPNOTSUPP, cleat_device_reset(dev));
	ATF_REQUIRE_EQ(0, cleat_device_info(dev, &info));
	ATF_REQUIRE_EQ(16, info.max_msg_fds);
	cleat_device_unref(dev);
	model_end(&model);
}

/* Takes 16 descriptors with a message, whatever it says, and no more. */
static int count_given(struct model *model, const struct peer_message *m)
{
	unsigned *most = model->arg;

	if (m->header.command == VFIO_USER_DEVICE_SET_IRQS &&
	    m->nr_fds > *most)
		*most = m->nr_fds;
	return m->nr_fds > 16 ? -EPIPE : 0;
}

static unsigned most_fds(const char *peer)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .peer = peer };
	struct model model = plain_model();
	struct cleat_device *dev;
	unsigned most = 0;
	int fds[40];

	model.json = "{\"capabilities\":{\"max_msg_fds\":1}}";
	model.on = count_given;
	model.arg = &most;
	model.irqs[2] = 40;
	dev = model_open(&model, &config);
	for (unsigned i = 0; i < 40; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	ATF_REQUIRE_EQ(0, cleat_irq_set(dev, CLEAT_IRQ_MSIX,
					CLEAT_IRQ_DATA_EVENTFD |
						CLEAT_IRQ_TRIGGER,
					0, 40, NULL, fds));
	for (unsigned i = 0; i < 40; i++)
		close(fds[i]);
	cleat_device_unref(dev);
	model_end(&model);
	return most;
}

CLEAT_TC(quirk__rust_vmm)
{
	ATF_CHECK_EQ(1, most_fds(NULL));
	ATF_CHECK_EQ(16, most_fds("rust-vmm"));
	ATF_CHECK_EQ(16, most_fds("usbvfiod"));
}

/* A word for a server that needs nothing done differently. */
CLEAT_TC(quirk__none_needed)
{
	static const char *const words[] = { "libvfio-user", "spdk", "cleat" };

	for (unsigned i = 0; i < 3; i++) {
		struct cleat_device_config config = { .size = sizeof(config),
						      .peer = words[i] };
		struct model model = plain_model();
		struct cleat_device *dev = model_open(&model, &config);
		uint64_t value = 1;

		ATF_CHECK_STREQ(words[i], cleat_device_quirks(dev));
		ATF_CHECK_EQ(0, cleat_region_write(dev, 0, 8, &value, 8));
		ATF_CHECK_EQ(1, model_count(&model, VFIO_USER_REGION_WRITE));
		ATF_CHECK_EQ(0, cleat_device_reset(dev));
		cleat_device_unref(dev);
		model_end(&model);
	}
}

CLEAT_TC(quirk__not_named)
{
	struct model model = plain_model();
	struct cleat_device *dev;
	uint64_t back;

	model.on = end_at_8_bytes;
	dev = model_open(&model, NULL);
	ATF_REQUIRE_EQ(NULL, cleat_device_quirks(dev));
	ATF_REQUIRE_EQ(-ENOTCONN, cleat_region_read(dev, 0, 8, &back, 8));
	cleat_device_unref(dev);
	model_end(&model);
}

CLEAT_TC(quirk__nobody_of_that_name)
{
	struct cleat_device_config config = { .size = sizeof(config),
					      .fd = -1,
					      .peer = "no such" };
	struct cleat_device *dev;
	struct cleat_error why;

	ATF_REQUIRE_EQ(-EINVAL, cleat_device_open(&config, &dev, &why));
	ATF_REQUIRE_MATCH("no server is known by", why.text);
}

/* Features: 1 has 8 bytes, 2 can be set and echoes, all else is EINVAL with
 * the request as payload. */
static int do_features(struct model *model, const struct peer_message *m)
{
	struct {
		struct cleat_wire_feature head;
		uint64_t value;
	} reply = { .value = 0x1234 };
	unsigned feature;
	struct peer_message error = { .header = m->header };

	if (m->header.command != VFIO_USER_DEVICE_FEATURE)
		return 0;
	memcpy(&reply.head, m->body, sizeof(reply.head));
	feature = reply.head.flags & 0xffff;
	reply.head.argsz = sizeof(reply);
	if (feature == 1 || (feature == 2 && m->length == sizeof(reply))) {
		if (feature == 2)
			memcpy(&reply, m->body, sizeof(reply));
		return peer_reply(model->fd, m, &reply, sizeof(reply), NULL, 0)
			       ? -EPIPE
			       : 1;
	}
	error.header.flags = PEER_REPLY | PEER_ERROR;
	error.header.error = EINVAL;
	error.body = m->body;
	error.length = m->length;
	return peer_send(model->fd, &error) ? -EPIPE : 1;
}

CLEAT_TC(feature__get_set_and_unknown)
{
	struct model model = plain_model();
	struct cleat_device *dev;
	uint64_t value = 0;
	size_t size = 0;

	model.on = do_features;
	dev = model_open(&model, NULL);
	ATF_REQUIRE_EQ(0, cleat_device_feature(dev, 1, CLEAT_FEATURE_GET,
					       &value, 0, 8, &size));
	ATF_REQUIRE_EQ(8, size);
	ATF_REQUIRE_EQ(0x1234, value);
	value = 77;
	ATF_REQUIRE_EQ(0, cleat_device_feature(dev, 2, CLEAT_FEATURE_SET,
					       &value, 8, 8, &size));
	ATF_REQUIRE_EQ(77, value);
	ATF_REQUIRE_EQ(-EINVAL, cleat_device_feature(dev, 3, CLEAT_FEATURE_GET,
						     &value, 0, 8, &size));
	/* The error's payload was drained: the next reply is found. */
	ATF_REQUIRE_EQ(0, cleat_device_feature(dev, 1, CLEAT_FEATURE_GET,
					       &value, 0, 8, &size));
	ATF_REQUIRE_EQ(-EINVAL,
		       cleat_device_feature(dev, 1, 0, &value, 0, 8, NULL));
	cleat_device_unref(dev);
	model_end(&model);
}

ATF_TP_ADD_TCS(tp)
{
	ATF_TP_ADD_TC(tp, post__done_before_a_later_read);
	ATF_TP_ADD_TC(tp, batch__by_multi);
	ATF_TP_ADD_TC(tp, batch__by_multi_posted);
	ATF_TP_ADD_TC(tp, batch__server_without_multi);
	ATF_TP_ADD_TC(tp, quirk__usbvfiod);
	ATF_TP_ADD_TC(tp, quirk__rust_vmm);
	ATF_TP_ADD_TC(tp, quirk__none_needed);
	ATF_TP_ADD_TC(tp, quirk__not_named);
	ATF_TP_ADD_TC(tp, quirk__nobody_of_that_name);
	ATF_TP_ADD_TC(tp, feature__get_set_and_unknown);
	return atf_no_error();
}
