/* A file of the spool, with the digest of its last line put right: else nothing
 * but the digest would be tried. */
#include "fuzz.h"

#include "decode.h"
#include "sha256.h"
#include "spoolfile.h"

#include <stdio.h>
#include <stdlib.h>

enum { HEX_LEN = 2 * SHA256_LEN };

/* Writes the right digest over the one of a last line "end N DIGEST\n". */
static void
sign(char *bytes, size_t len)
{
	unsigned char digest[SHA256_LEN];
	char hex[HEX_LEN + 1];
	size_t start = len > 0 ? len - 1 : 0;
	while (start > 0 && bytes[start - 1] != '\n')
		start--;
	if (len - start < 4 + 1 + 1 + HEX_LEN + 1 || memcmp(bytes + start, "end ", 4))
		return;
	sha256((struct text){bytes, start}, digest);
	for (int i = 0; i < SHA256_LEN; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	memcpy(bytes + len - 1 - HEX_LEN, hex, HEX_LEN);
}

/* What a receiver can have put there: handle.c cuts fields at 120. */
static bool
is_plain(struct text t)
{
	return t.len <= 120 && fuzz_is_printable(t);
}

static bool
is_same(struct text a, struct text b)
{
	return !a.ptr == !b.ptr && a.len == b.len &&
	       (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* What was read is written and read the same. */
static void
check_again(const struct spoolfile *f, struct event *const *events)
{
	struct text bytes;
	struct spoolfile g;
	CHECK(!spoolfile_encode(events, f->n, &bytes));
	CHECK(!spoolfile_decode(&g, fuzz_copy(bytes.ptr, bytes.len), bytes.len));
	CHECK(g.n == f->n);
	for (size_t i = 0; i < g.n; i++) {
		const struct event *a = events[i], *b = &g.events[i];
		CHECK(memcmp(a->ingest_id, b->ingest_id, sizeof a->ingest_id) == 0);
		CHECK(a->received_at == b->received_at);
		CHECK(a->http_status == b->http_status && is_same(a->reason, b->reason));
		CHECK(is_same(a->wire, b->wire) && is_same(a->source, b->source));
		CHECK(is_same(a->remote_addr, b->remote_addr));
		CHECK(is_same(a->content_type, b->content_type));
		CHECK(is_same(a->digest, b->digest) && is_same(a->raw, b->raw));
	}
	spoolfile_free(&g);
	free((char *)bytes.ptr);
}

static void
check_events(struct spoolfile *f, struct text bytes)
{
	struct event **events = calloc(f->n, sizeof *events);
	bool is_ours = true;
	CHECK(events);
	for (size_t i = 0; i < f->n; i++) {
		struct event *ev = events[i] = &f->events[i];
		CHECK(fuzz_is_inside(ev->wire, bytes) && ev->wire.ptr);
		CHECK(fuzz_is_inside(ev->source, bytes) && ev->source.ptr);
		CHECK(fuzz_is_inside(ev->remote_addr, bytes));
		CHECK(fuzz_is_inside(ev->content_type, bytes));
		CHECK(ev->http_status == EVENT_NO_INT ||
		      (ev->http_status >= 0 && ev->http_status <= 599));
		is_ours = is_ours && is_plain(ev->source) && is_plain(ev->remote_addr) &&
			  is_plain(ev->content_type) && is_plain(ev->reason) &&
			  ev->received_at >= 0;
	}
	if (is_ours)
		check_again(f, events);
	for (size_t i = 0; i < f->n; i++) {
		if (events[i]->http_status != EVENT_NO_INT)
			continue;
		enum err e = decode(events[i], (struct text){0}, (struct text){0});
		CHECK(!e || e == ERR_NOT_JSON || e == ERR_NOT_EVENT);
	}
	free(events);
}

static void
check_name(const char *bytes, size_t len)
{
	char name[SPOOLFILE_NAME_SIZE], again[SPOOLFILE_NAME_SIZE];
	struct event first = {0};
	uint64_t told;
	snprintf(name, sizeof name, "%.*s", (int)len, bytes);
	if (!spoolfile_is_name(name, &told))
		return;
	for (int i = 0; i < 16; i++)
		first.ingest_id[i] = (unsigned char)(text_hex(name[2 * i]) << 4 |
						     text_hex(name[2 * i + 1]));
	spoolfile_name(again, &first, told);
	CHECK(strcmp(name, again) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spoolfile f;
	char *bytes = fuzz_copy(data, size);
	check_name(bytes, size);
	sign(bytes, size);
	const char *fault = spoolfile_decode(&f, bytes, size);
	CHECK(fault != spoolfile_no_memory && fault != spoolfile_gone);
	CHECK(fault || f.n > 0);
	if (!fault)
		check_events(&f, (struct text){bytes, size});
	spoolfile_free(&f);
	return 0;
}
