#include "sample.h"

#include "clock.h"
#include "log.h"
#include "poster.h"
#include "story.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BATCH = 100, BATCHES_PER_S = 10, SLEEP_MS = 200, CATCH_UP_MS = 10 };

static const double MAX_RATE = 1e6;

struct options {
	uint64_t count; /* 0: until stopped */
	double rate;    /* a second; 0: as fast as it goes */
	uint64_t seed;
	bool has_seed;
	const char *url; /* NULL: to stdout */
};

/* --------------------------------------------------------------- options */

/* Digits alone, of a number up to max. */
static bool
whole_number(const char *s, uint64_t max, uint64_t *out_r)
{
	size_t len = strlen(s);
	char *end;
	if (len == 0 || len > 18 || strspn(s, "0123456789") != len)
		return false;
	*out_r = strtoull(s, &end, 10);
	return *out_r <= max;
}

static bool
take_count(struct options *o, const char *value)
{
	return whole_number(value, UINT64_MAX, &o->count) ||
	       admin_misuse("--count: not a whole number: %s", value);
}

/* Digits and at most one point among them. */
static bool
take_rate(struct options *o, const char *value)
{
	char *end;
	size_t len = strlen(value);
	bool is_decimal = len > 0 && strspn(value, "0123456789.") == len;
	o->rate = is_decimal ? strtod(value, &end) : 0;
	return (is_decimal && *end == '\0' && o->rate > 0 && o->rate <= MAX_RATE) ||
	       admin_misuse("--rate: not a number above 0 and up to %.0f, such as 5 or "
			    "0.5: %s",
		   MAX_RATE, value);
}

static bool
take_seed(struct options *o, const char *value)
{
	o->has_seed = whole_number(value, UINT32_MAX, &o->seed);
	return o->has_seed || admin_misuse("--seed: not a whole number up to %ju: %s",
				  (uintmax_t)UINT32_MAX, value);
}

/* The address may have a token in it: it is not repeated. */
static bool
take_url(struct options *o, const char *value)
{
	const char *fault = poster_fault(value);
	o->url = value;
	return !fault || admin_misuse("--post: not an address of a webhook: %s", fault);
}

static const struct option_row {
	const char *name;
	bool (*take)(struct options *o, const char *value);
} rows[] = {
    {"--count", take_count},
    {"--rate", take_rate},
    {"--seed", take_seed},
    {"--post", take_url},
};

/* The row of an argument `--name` or `--name=value`. */
static const struct option_row *
find_row(const char *argument)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		size_t len = strlen(rows[i].name);
		if (strncmp(argument, rows[i].name, len) == 0 &&
		    (argument[len] == '\0' || argument[len] == '='))
			return &rows[i];
	}
	return NULL;
}

static bool
parse(char *const *arguments, struct options *o)
{
	*o = (struct options){.count = 10};
	for (; *arguments; arguments++) {
		const struct option_row *row = find_row(*arguments);
		if (!row)
			return admin_misuse("unknown argument: %.*s",
			    (int)strcspn(*arguments, "=/?"), *arguments);
		const char *value = strchr(*arguments, '=');
		value = value ? value + 1 : *++arguments;
		if (!value)
			return admin_misuse("%s: a value is expected", row->name);
		if (!row->take(o, value))
			return false;
	}
	return true;
}

bool
sample_takes(char *const *arguments)
{
	struct options o;
	return parse(arguments, &o);
}

/* ---------------------------------------------------------------- output */

/* When the next may leave, in milliseconds of clock_ms(). */
struct pace {
	double rate, at;
};

static void
wait_for_turn(struct pace *pace, size_t n)
{
	if (pace->rate == 0)
		return;
	double now = (double)clock_ms();
	while (now < pace->at && !poster_is_stopped()) {
		double left = pace->at - now;
		poll(NULL, 0, left > SLEEP_MS ? SLEEP_MS : (int)left + 1);
		now = (double)clock_ms();
	}
	if (pace->at < now - CATCH_UP_MS)
		pace->at = now - CATCH_UP_MS;
	pace->at += (double)n * 1000 / pace->rate;
}

/* With a seed the story has its own times. */
static int64_t
now_us(const struct options *o)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return o->has_seed ? 0 : t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

static void
print_all(const struct options *o, struct story *story, struct pace *pace)
{
	for (uint64_t i = 0; (o->count == 0 || i < o->count) && !ferror(stdout); i++) {
		wait_for_turn(pace, 1);
		struct text body = story_next(story, now_us(o));
		fwrite(body.ptr, 1, body.len, stdout);
		putchar('\n');
		if (o->rate > 0)
			fflush(stdout);
	}
}

/* As many at once as need no more than a tenth of a second, or one. */
static uint64_t
batch_size(const struct options *o, uint64_t n_left)
{
	uint64_t n = BATCH;
	if (o->rate > 0 && o->rate < BATCH * BATCHES_PER_S)
		n = o->rate < BATCHES_PER_S ? 1 : (uint64_t)(o->rate / BATCHES_PER_S);
	return o->count > 0 && n_left < n ? n_left : n;
}

static void
post_all(struct admin *a, const struct options *o, struct story *story, struct pace *pace)
{
	struct poster *poster;
	bool is_good = true;
	if (poster_open(&poster, o->url)) {
		log_error("sample: %s", err_sentence(ERR_MEMORY));
		is_good = false;
	}
	for (uint64_t i = 0, n; is_good && (o->count == 0 || i < o->count); i += n) {
		n = batch_size(o, o->count - i);
		wait_for_turn(pace, n);
		for (uint64_t j = 0; j < n; j++)
			poster_add(poster, story_next(story, now_us(o)));
		is_good = !poster_is_stopped() && poster_send(poster);
	}
	if (poster)
		poster_report(poster);
	fflush(stdout);
	a->n_failed += !is_good || !poster_is_all_good(poster);
	poster_close(&poster); /* a signal that was held back ends us here */
}

static uint32_t
random_seed(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (uint32_t)t.tv_sec ^ (uint32_t)t.tv_nsec << 2 ^ (uint32_t)getpid() << 16;
}

/* Of a pipe that stdout is; that is no failure to tell of. */
static bool
is_reader_gone(void)
{
	struct pollfd out = {STDOUT_FILENO, POLLOUT, 0};
	return poll(&out, 1, 0) > 0 && (out.revents & POLLERR);
}

void
sample(struct admin *a)
{
	struct options o;
	struct story story;
	struct pace pace = {.at = (double)clock_ms()};
	if (!parse(a->arguments, &o))
		return; /* sample_takes() has seen to it */
	pace.rate = o.rate;
	story_open(&story, o.has_seed ? (uint32_t)o.seed : random_seed());
	if (o.url)
		post_all(a, &o, &story, &pace);
	else
		print_all(&o, &story, &pace);
	if (fflush(stdout) || ferror(stdout)) {
		if (!is_reader_gone())
			log_error("sample: the output cannot be written; is the disk "
				  "full?");
		a->n_failed++;
	}
}
