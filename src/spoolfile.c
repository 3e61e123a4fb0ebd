#include "spoolfile.h"

#include "datetime.h"
#include "sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { ID_LEN = 36, HEX_LEN = 2 * SHA256_LEN, MAX_EVENTS = 100000, LINE_SIZE = 512 };
enum { FILE_MAX = 1100 << 20 }; /* 1024 bodies of 1 MiB with their headers */

static const char magic[] = "smshook spool 1\n";
const char spoolfile_no_memory[] = "out of memory";
const char spoolfile_gone[] = "there is no such file";
static const char no_magic[] = "it is no spool file, or one of a newer smshook";

/* ------------------------------------------------------------- encoding */

/* A text that grows.  open_memstream(3) is no help: it hides a write that found
 * no memory. */
struct buffer {
	char *bytes;
	size_t len, size;
	bool has_failed;
};

static void
put_bytes(struct buffer *b, const char *bytes, size_t len)
{
	if (len > b->size - b->len) {
		size_t size = (b->len + len) * 2 + 1024;
		char *grown = realloc(b->bytes, size);
		b->has_failed = b->has_failed || !grown;
		if (!grown)
			return;
		b->bytes = grown;
		b->size = size;
	}
	if (len > 0)
		memcpy(b->bytes + b->len, bytes, len);
	b->len += len;
}

/* A line, or a piece of one, of less than LINE_SIZE bytes. */
static void put(struct buffer *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
put(struct buffer *b, const char *format, ...)
{
	char line[LINE_SIZE];
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(line, sizeof line, format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof line)
		b->has_failed = true;
	else
		put_bytes(b, line, (size_t)n);
}

static void
put_id(struct buffer *b, const unsigned char id[16])
{
	put(b, "ingest-id: ");
	for (int i = 0; i < 16; i++)
		put(b, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
	put(b, "\n");
}

static void
put_time(struct buffer *b, int64_t us)
{
	time_t s = us / 1000000;
	struct tm tm;
	char text[32];
	gmtime_r(&s, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	put(b, "received-at: %s.%06dZ\n", text, (int)(us % 1000000));
}

static void
put_text(struct buffer *b, const char *name, struct text t)
{
	if (t.ptr)
		put(b, "%s: %.*s\n", name, (int)t.len, t.ptr);
}

static void
put_event(struct buffer *b, const struct event *ev)
{
	put_id(b, ev->ingest_id);
	put_time(b, ev->received_at);
	put_text(b, "source", ev->source);
	put_text(b, "remote-addr", ev->remote_addr);
	put_text(b, "content-type", ev->content_type);
	if (ev->http_status != EVENT_NO_INT)
		put(b, "rejected: %" PRId32 " %s\n", ev->http_status, ev->reason.ptr);
	put(b, "length: %zu\n\n", ev->wire.len);
	put_bytes(b, ev->wire.ptr, ev->wire.len);
	put(b, "\n");
}

static void
digest_hex(struct text t, char hex[HEX_LEN + 1])
{
	unsigned char digest[SHA256_LEN];
	sha256(t, digest);
	for (int i = 0; i < SHA256_LEN; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

enum err
spoolfile_encode(struct event *const *events, size_t n, struct text *bytes_r)
{
	struct buffer b = {0};
	char hex[HEX_LEN + 1];
	*bytes_r = (struct text){0};
	put(&b, "%s", magic);
	for (size_t i = 0; i < n; i++)
		put_event(&b, events[i]);
	if (!b.has_failed) {
		digest_hex((struct text){b.bytes, b.len}, hex);
		put(&b, "end %zu %s\n", n, hex);
	}
	if (b.has_failed) {
		free(b.bytes);
		return ERR_MEMORY;
	}
	*bytes_r = (struct text){b.bytes, b.len};
	return ERR_OK;
}

void
spoolfile_name(char name[SPOOLFILE_NAME_SIZE], const struct event *first, size_t len)
{
	for (int i = 0; i < 16; i++)
		snprintf(name + 2 * i, 3, "%02x", first->ingest_id[i]);
	snprintf(name + 32, SPOOLFILE_NAME_SIZE - 32, ".%zu", len);
}

/* ------------------------------------------------------------- decoding */

/* Digits to a number below 10^18, false for anything else. */
static bool
read_number(struct text t, uint64_t *n_r)
{
	*n_r = 0;
	for (size_t i = 0; i < t.len; i++) {
		if (t.ptr[i] < '0' || t.ptr[i] > '9')
			return false;
		*n_r = *n_r * 10 + (uint64_t)(t.ptr[i] - '0');
	}
	return t.len > 0 && t.len <= 18 && (t.ptr[0] != '0' || t.len == 1);
}

bool
spoolfile_is_name(const char *name, uint64_t *len_r)
{
	return strspn(name, "0123456789abcdef") == 32 && name[32] == '.' &&
	       read_number(text_of(name + 33), len_r);
}

/* Cuts t at the first c: what is before it; all of it when there is none. */
static struct text
cut(struct text *t, char c)
{
	struct text head = *t;
	const char *at = t->len > 0 ? memchr(t->ptr, c, t->len) : NULL;
	if (at)
		head.len = (size_t)(at - t->ptr);
	size_t used = head.len + (at != NULL);
	*t = (struct text){t->ptr + used, t->len - used};
	return head;
}

static bool
read_id(struct text t, unsigned char id[16])
{
	size_t n = 0;
	if (t.len != ID_LEN)
		return false;
	for (size_t i = 0; i + 1 < t.len && n < 16; i += 2) {
		if (t.ptr[i] == '-')
			i++;
		int high = text_hex(t.ptr[i]), low = text_hex(t.ptr[i + 1]);
		if (high < 0 || low < 0)
			return false;
		id[n++] = (unsigned char)(high << 4 | low);
	}
	return n == 16;
}

/* The header of an event as it stands in the file. */
struct header {
	struct text id, at, source, remote_addr, content_type, rejected, length;
};

static const struct {
	const char *name;
	size_t member;
} names[] = {
    {"ingest-id", offsetof(struct header, id)},
    {"received-at", offsetof(struct header, at)},
    {"source", offsetof(struct header, source)},
    {"remote-addr", offsetof(struct header, remote_addr)},
    {"content-type", offsetof(struct header, content_type)},
    {"rejected", offsetof(struct header, rejected)},
    {"length", offsetof(struct header, length)},
};

/* Lines up to the empty one; what a later version adds is passed over. */
static bool
read_header(struct text *rest, struct header *h)
{
	*h = (struct header){0};
	while (rest->len > 0) {
		struct text value = cut(rest, '\n');
		if (value.len == 0)
			return h->id.ptr && h->at.ptr && h->source.ptr && h->length.ptr;
		struct text name = cut(&value, ':');
		if (value.len == 0 || *value.ptr != ' ')
			return false;
		value = (struct text){value.ptr + 1, value.len - 1};
		for (size_t i = 0; i < sizeof names / sizeof *names; i++)
			if (text_is(name, names[i].name))
				*(struct text *)((char *)h + names[i].member) = value;
	}
	return false;
}

static const char *
read_event(struct text *rest, struct event *ev)
{
	struct header h;
	struct datetime at;
	unsigned char id[16];
	uint64_t len, status;
	if (!read_header(rest, &h))
		return "the header of an event is not whole";
	if (!read_id(h.id, id) || !datetime_parse(h.at, &at) || !at.is_utc)
		return "an event without a readable ingest-id or received-at";
	if (!read_number(h.length, &len) || len >= rest->len || rest->ptr[len] != '\n')
		return "an event with a wrong length";
	event_restore(ev, (struct text){rest->ptr, len}, h.source, at.us, id);
	ev->remote_addr = h.remote_addr;
	ev->content_type = h.content_type;
	if (h.rejected.ptr) {
		if (!read_number(cut(&h.rejected, ' '), &status) || status > 599)
			return "a rejected body without a status";
		event_reject(
		    ev, (int)status, "%.*s", (int)h.rejected.len, h.rejected.ptr);
	}
	*rest = (struct text){rest->ptr + len + 1, rest->len - len - 1};
	return NULL;
}

/* Takes the last line off; how many events it counts. */
static const char *
read_end(struct text *all, size_t *n_r)
{
	char hex[HEX_LEN + 1];
	uint64_t n;
	size_t start = all->len;
	while (start > 0 && (start == all->len || all->ptr[start - 1] != '\n'))
		start--;
	struct text line = {all->ptr + start, all->len - start};
	if (line.len == 0 || line.ptr[line.len - 1] != '\n')
		return "it does not end with a whole line: it is torn";
	line.len--;
	if (!text_is(cut(&line, ' '), "end") || !read_number(cut(&line, ' '), &n) ||
	    n > MAX_EVENTS)
		return "its last line is no end of a spool file: it is torn";
	all->len = start;
	digest_hex(*all, hex);
	if (!text_is(line, hex))
		return "its bytes do not have the SHA-256 of its last line: it was "
		       "altered";
	*n_r = (size_t)n;
	return NULL;
}

static bool
is_ours(struct text start)
{
	return start.len >= sizeof magic - 1 &&
	       memcmp(start.ptr, magic, sizeof magic - 1) == 0;
}

const char *
spoolfile_decode(struct spoolfile *f, char *bytes, size_t len)
{
	struct text rest = {bytes, len};
	size_t n;
	*f = (struct spoolfile){.bytes = bytes};
	const char *fault = read_end(&rest, &n);
	if (fault)
		return fault;
	if (!is_ours(rest))
		return no_magic;
	rest = (struct text){rest.ptr + sizeof magic - 1, rest.len - (sizeof magic - 1)};
	if (n == 0)
		return "there is no event in it";
	f->events = calloc(n, sizeof *f->events);
	if (!f->events)
		return spoolfile_no_memory;
	while (f->n < n && !(fault = read_event(&rest, &f->events[f->n])))
		f->n++;
	return fault ? fault : rest.len > 0 ? "it has more events than it counts" : NULL;
}

/* --------------------------------------------------------------- loading */

/* How many bytes there were, up to len; -1 on an error. */
static ssize_t
read_all(int fd, char *bytes, size_t len)
{
	size_t n = 0;
	while (n < len) {
		ssize_t got = read(fd, bytes + n, len - n);
		if (got < 0 && errno != EINTR)
			return -1;
		if (got == 0)
			break;
		n += got > 0 ? (size_t)got : 0;
	}
	return (ssize_t)n;
}

/* Before memory is taken for what may be a large file of somebody else. */
static bool
has_magic(int fd)
{
	char start[32];
	ssize_t n = pread(fd, start, sizeof start, 0);
	return n < 0 || is_ours((struct text){start, (size_t)n});
}

/* Bytes of an open file, which must have the length that its name tells; else
 * NULL with *fault_r. */
static char *
read_bytes(int fd, const char *name, size_t *len_r, const char **fault_r)
{
	struct stat st;
	uint64_t len = 0;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		*fault_r = "it is no plain file";
		return NULL;
	}
	if (!spoolfile_is_name(name, &len) || (uint64_t)st.st_size != len ||
	    len > FILE_MAX) {
		*fault_r = "its length is not the one in its name: it is torn";
		return NULL;
	}
	if (!has_magic(fd)) {
		*fault_r = no_magic;
		return NULL;
	}
	char *bytes = malloc((size_t)len + 1);
	if (!bytes) {
		*fault_r = spoolfile_no_memory;
		return NULL;
	}
	ssize_t n = read_all(fd, bytes, (size_t)len);
	if (n >= 0 && (uint64_t)n == len) {
		*len_r = (size_t)len;
		return bytes;
	}
	*fault_r = n < 0 && errno == ENOMEM ? spoolfile_no_memory
					    : "it cannot be read to its end";
	free(bytes);
	return NULL;
}

/* As read_bytes(), by name. */
static char *
read_named(int folder_fd, const char *name, size_t *len_r, const char **fault_r)
{
	int fd = openat(folder_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		if (errno == ENOMEM || errno == EMFILE || errno == ENFILE)
			*fault_r = spoolfile_no_memory;
		else if (errno == ENOENT)
			*fault_r = spoolfile_gone;
		else
			*fault_r = errno == ELOOP ? "it is a symbolic link"
						  : "it cannot be opened";
		return NULL;
	}
	char *bytes = read_bytes(fd, name, len_r, fault_r);
	close(fd);
	return bytes;
}

const char *
spoolfile_load(struct spoolfile *f, int folder_fd, const char *name)
{
	const char *fault;
	size_t len;
	*f = (struct spoolfile){0};
	char *bytes = read_named(folder_fd, name, &len, &fault);
	return bytes ? spoolfile_decode(f, bytes, len) : fault;
}

void
spoolfile_free(struct spoolfile *f)
{
	for (size_t i = 0; i < f->n; i++)
		event_free(&f->events[i]);
	free(f->events);
	free(f->bytes);
	*f = (struct spoolfile){0};
}
