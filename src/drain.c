#include "drain.h"

#include "clock.h"
#include "decode.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>

enum {
	MAX_FILES = 1024,
	MAX_BYTES = 8 << 20,
	MAX_STRETCH = 4, /* times max_events, to end in order */
	MAX_ASIDE = 3,
	MAX_PROBES = 8,
	LOG_PAUSE_MS = 60000
};

/* A file of the batch. */
struct drained {
	struct spoolfile file;
	size_t name; /* its index in names */
};

struct drain {
	const struct conf *conf;
	struct store *store;
	struct spool *spool; /* the store's */
	struct spool_names names;
	size_t next;      /* of names */
	size_t n_careful; /* files to go by themselves: one may be the trouble */
	size_t n_aside;   /* files that failed by themselves, one after the other */
	size_t resume;    /* where to go on when that is not an outage */
	unsigned seed;    /* of the files that are tried to find out */
	int64_t log_at;   /* clock_ms() from when on one more is logged */
	struct drained *batch;
	size_t n_batch;
	unsigned char newest[16]; /* ingest id in the batch */
};

enum err
drain_open(struct drain **drain_r, const struct conf *conf, struct store *store)
{
	struct drain *d = calloc(1, sizeof *d);
	*drain_r = d;
	if (!d)
		return ERR_MEMORY;
	d->conf = conf;
	d->store = store;
	d->spool = store_spool(store);
	d->seed = (unsigned)clock_ms();
	d->batch = calloc(MAX_FILES, sizeof *d->batch);
	return d->batch ? ERR_OK : ERR_MEMORY;
}

void
drain_close(struct drain **drain)
{
	if (!*drain)
		return;
	spool_names_free(&(*drain)->names);
	free((*drain)->batch);
	free(*drain);
	*drain = NULL;
}

/* --------------------------------------------------------------- reading */

/* By its source's settings; of a rejected body the file tells the verdict. */
static enum err
decode_file(const struct conf *conf, struct spoolfile *f)
{
	for (size_t i = 0; i < f->n; i++) {
		struct event *ev = &f->events[i];
		const struct conf_source *source = conf_source_named(conf, ev->source);
		if (ev->http_status == EVENT_NO_INT &&
		    decode(ev, text_of(source ? source->timezone : NULL),
			text_of(source ? source->device_id : NULL)) == ERR_MEMORY)
			return ERR_MEMORY;
	}
	return ERR_OK;
}

/* Whether a batch of n events ends before the next file: not while an event of
 * that was received before one that we have.  Names begin with the first id. */
static bool
is_full(const struct drain *d, size_t n, size_t max_events, uint64_t n_bytes)
{
	char newest[33];
	if (d->n_batch == 0)
		return false;
	if (d->n_careful > 0 || d->n_batch == MAX_FILES || n_bytes > MAX_BYTES ||
	    n > MAX_STRETCH * max_events)
		return true;
	for (int i = 0; i < 16; i++)
		snprintf(newest + 2 * i, 3, "%02x", d->newest[i]);
	return n >= max_events && memcmp(newest, d->names.names[d->next], 32) < 0;
}

/* Takes a file into the batch: how many events.  One that is gone, or was broken
 * and is in bad/ now, has none. */
static enum err
take_file(struct drain *d, size_t *n_r)
{
	struct drained *b = &d->batch[d->n_batch];
	enum err e = spool_read(d->spool, d->names.names[d->next], &b->file);
	*n_r = 0;
	if (e == ERR_SPOOL)
		return ERR_OK;
	if (!e)
		e = decode_file(d->conf, &b->file);
	if (e) {
		spoolfile_free(&b->file);
		return e;
	}
	for (size_t i = 0; i < b->file.n; i++)
		if (memcmp(b->file.events[i].ingest_id, d->newest, 16) > 0)
			memcpy(d->newest, b->file.events[i].ingest_id, 16);
	*n_r = b->file.n;
	b->name = d->next;
	d->n_batch++;
	return ERR_OK;
}

/* Reads files from d->next on: how many events they have. */
static enum err
gather(struct drain *d, size_t max_events, size_t *n_r)
{
	uint64_t n_bytes = 0, len;
	size_t n;
	*n_r = d->n_batch = 0;
	memset(d->newest, 0, sizeof d->newest);
	while (d->next < d->names.n && !is_full(d, *n_r, max_events, n_bytes)) {
		enum err e = take_file(d, &n);
		if (e && d->n_batch > 0)
			return ERR_OK;
		if (e && clock_ms() >= d->log_at) {
			log_error("drain: %s/new/%s: out of memory or descriptors",
			    d->conf->spool_directory, d->names.names[d->next]);
			d->log_at = clock_ms() + LOG_PAUSE_MS;
		}
		if (n > 0 && spoolfile_is_name(d->names.names[d->next], &len))
			n_bytes += len;
		*n_r += n;
		d->next++;
	}
	return ERR_OK;
}

/* ------------------------------------------------------------ committing */

/* In the order of reception.  An event that is there twice, in copies of a file,
 * is handed in once. */
static enum err
commit(struct drain *d, size_t n)
{
	struct event **events = calloc(2 * n, sizeof(struct event *)),
		     **once = events + n;
	size_t k = 0, n_once = 0;
	if (!events)
		return ERR_MEMORY;
	for (size_t i = 0; i < d->n_batch; i++)
		for (size_t j = 0; j < d->batch[i].file.n; j++)
			events[k++] = &d->batch[i].file.events[j];
	qsort(events, n, sizeof *events, event_compare);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || event_compare(&events[i - 1], &events[i]) != 0)
			once[n_once++] = events[i];
	enum err e = store_ingest(d->store, once, n_once);
	for (size_t i = 1; i < n; i++)
		if (event_compare(&events[i - 1], &events[i]) == 0)
			events[i]->result = events[i - 1]->result;
	free(events);
	return e;
}

/* Removes a file of which each event is in the database; condemns it when the
 * others are, and one cannot be.  Adds its events to *n_r when it is gone. */
static enum err
finish_file(struct drain *d, struct drained *b, size_t *n_r)
{
	const char *name = d->names.names[b->name];
	bool is_over = true, is_refused = false;
	for (size_t i = 0; i < b->file.n; i++) {
		const struct event *ev = &b->file.events[i];
		is_refused = is_refused || ev->result == ERR_SYSTEM;
		is_over = is_over && (event_is_kept(ev) || ev->result == ERR_SYSTEM);
	}
	if (!is_over)
		return ERR_OK;
	enum err e = is_refused ? spool_condemn(d->spool, name,
				      "PostgreSQL refuses one of its bodies")
				: spool_remove(d->spool, name);
	*n_r += e ? 0 : b->file.n;
	return e;
}

static enum err
finish_batch(struct drain *d, size_t *n_r)
{
	enum err e = ERR_OK;
	*n_r = 0;
	for (size_t i = 0; i < d->n_batch; i++) {
		enum err one = finish_file(d, &d->batch[i], n_r);
		e = one ? one : e;
	}
	return e;
}

/* The events of a file one by one: one of them may be the trouble. */
static enum err
commit_each(struct drain *d, struct spoolfile *f)
{
	enum err worst = ERR_OK;
	for (size_t i = 0; i < f->n; i++) {
		struct event *ev = &f->events[i];
		enum err e = store_ingest(d->store, &ev, 1);
		worst = e ? e : worst;
		if (e && !store_can_ingest(d->store))
			break;
	}
	return worst;
}

/* A file fails by itself, though the database takes an empty batch: the others
 * go first.  When it befalls one after the other, some from anywhere in the list
 * tell whether it is an outage all the same, as a full disk is. */
static enum err
set_aside(struct drain *d, size_t file, enum err e)
{
	if (clock_ms() >= d->log_at) {
		log_error("drain: %s/new/%s cannot go in by itself, the others go first: "
			  "%s",
		    d->conf->spool_directory, d->names.names[file],
		    store_reason(d->store));
		d->log_at = clock_ms() + LOG_PAUSE_MS;
	}
	if (++d->n_aside < MAX_ASIDE)
		return ERR_OK;
	if (d->n_aside == MAX_ASIDE)
		d->resume = d->next;
	if (d->n_aside < MAX_ASIDE + MAX_PROBES && d->resume < d->names.n) {
		size_t n_left = d->names.n - d->resume;
		d->next = d->resume + (size_t)rand_r(&d->seed) % n_left;
		return ERR_OK;
	}
	d->n_aside = 0;
	d->next = d->names.n; /* next time from the oldest */
	return e;
}

/* Back from anywhere in the list to where those that failed stand. */
static void
come_back(struct drain *d)
{
	if (d->n_aside >= MAX_ASIDE)
		d->next = d->resume;
	d->n_aside = 0;
}

/* The batch into the database, and its files away.  *n_r: events of files that
 * went. */
static enum err
drain_gathered(struct drain *d, size_t *n_r)
{
	bool is_alone = d->n_batch == 1;
	size_t first = d->batch[0].name;
	enum err gone = ERR_OK, e = commit(d, *n_r);
	bool is_its_own = e && e != ERR_MEMORY && store_can_ingest(d->store);
	if (is_its_own && is_alone && *n_r > 1)
		e = commit_each(d, &d->batch[0].file);
	if (e == ERR_MEMORY)
		*n_r = 0;
	else
		gone = finish_batch(d, n_r);
	for (size_t i = 0; i < d->n_batch; i++)
		spoolfile_free(&d->batch[i].file);
	if (!e) {
		d->n_careful -= d->n_careful > 0;
		come_back(d);
		return gone;
	}
	*n_r = 0;
	if (d->n_careful < d->n_batch)
		d->n_careful = d->n_batch;
	if (is_its_own && is_alone)
		return set_aside(d, first, e);
	if (e == ERR_MEMORY && is_alone)
		return ERR_OK; /* the others may be smaller */
	d->next = first;       /* file by file, at once when one of them is the trouble */
	return is_its_own ? ERR_OK : e;
}

/* Lists the spool when all that was listed has been seen. */
static enum err
list(struct drain *d)
{
	if (d->next < d->names.n)
		return ERR_OK;
	spool_names_free(&d->names);
	d->next = 0;
	enum err e = spool_tidy(d->spool);
	return e ? e : spool_list(d->spool, false, &d->names);
}

static enum err
drain_locked(struct drain *d, size_t max_events, size_t *n_r)
{
	enum err e = list(d);
	/* before anything is read in vain */
	if (!e && d->names.n > 0 && !store_is_connected(d->store))
		e = store_ingest(d->store, NULL, 0);
	while (!e && *n_r == 0 && d->next < d->names.n) {
		e = gather(d, max_events, n_r);
		if (!e && d->n_batch > 0)
			e = drain_gathered(d, n_r);
		if (!e && d->next >= d->names.n)
			come_back(d);
	}
	return e;
}

enum err
drain_batch(struct drain *d, size_t max_events, size_t *n_r)
{
	*n_r = 0;
	enum err e = spool_lock(d->spool);
	if (e)
		return e;
	e = drain_locked(d, max_events, n_r);
	spool_unlock(d->spool);
	return e;
}
