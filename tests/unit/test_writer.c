/* The writer on a store of the test's own: who gets which answer, and when. */
#include "unit.h"

#include "clock.h"
#include "writer.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

/* Linked in place of store.c: holds each batch until the gate opens. */
struct store {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool is_shut, is_inside;
	size_t n_commits, largest;
	int64_t next_id;
	enum err result;
};

static struct store gate = {
    PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false, 0, 0, 0, ERR_OK};

enum err
store_commit(struct store *s, struct event *const *events, size_t n, int64_t deadline)
{
	(void)deadline;
	pthread_mutex_lock(&s->mutex);
	s->is_inside = true;
	pthread_cond_broadcast(&s->changed);
	while (s->is_shut)
		pthread_cond_wait(&s->changed, &s->mutex);
	s->is_inside = false;
	s->n_commits++;
	s->largest = n > s->largest ? n : s->largest;
	for (size_t i = 0; i < n; i++) {
		events[i]->result = s->result;
		events[i]->id = ++s->next_id;
	}
	pthread_mutex_unlock(&s->mutex);
	return s->result;
}

void
store_stats(struct store *s, struct store_stats *stats_r)
{
	*stats_r = (struct store_stats){.is_up = s->result == ERR_OK};
}

static void
set_gate(bool is_shut)
{
	pthread_mutex_lock(&gate.mutex);
	gate.is_shut = is_shut;
	pthread_cond_broadcast(&gate.changed);
	pthread_mutex_unlock(&gate.mutex);
}

static void
wait_inside(void)
{
	struct timespec until;
	bool is_inside;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 30;
	pthread_mutex_lock(&gate.mutex);
	while (!gate.is_inside &&
	       !pthread_cond_timedwait(&gate.changed, &gate.mutex, &until))
		;
	is_inside = gate.is_inside;
	pthread_mutex_unlock(&gate.mutex);
	assert_true(is_inside);
}

static struct writer *writer;

static int
open_writer(void **state)
{
	(void)state;
	gate.n_commits = gate.largest = 0;
	gate.next_id = 0;
	gate.result = ERR_OK;
	return writer_open(&writer, &gate, 8) || writer_start(writer);
}

static int
close_writer(void **state)
{
	(void)state;
	writer_close(&writer);
	return writer != NULL;
}

struct submission {
	sem_t is_told;
	struct event *ev;
	enum err result;
};

static void
told(void *submission, struct event *ev, enum err e)
{
	struct submission *s = submission;
	s->ev = ev;
	s->result = e;
	assert_int_equal(sem_post(&s->is_told), 0);
}

static void
begin(struct submission *s, int64_t patience_ms)
{
	struct event *ev = calloc(1, sizeof *ev);
	assert_non_null(ev);
	ev->http_status = EVENT_NO_INT;
	*s = (struct submission){0};
	sem_init(&s->is_told, 0, 0);
	writer_submit(writer, ev, clock_ms() + patience_ms, told, s);
}

/* Waits for its end; the id that the event has got. */
static int64_t
end(struct submission *s)
{
	sem_wait(&s->is_told);
	int64_t id = s->ev ? s->ev->id : 0;
	free(s->ev);
	return id;
}

/* What comes while a commit is under way is one batch, of at most max_batch. */
static void
groups(void **state)
{
	enum { N = 20 };
	struct submission first, rest[N];
	bool is_seen[N + 2] = {false};
	(void)state;
	set_gate(true);
	begin(&first, 60000);
	wait_inside();
	for (int i = 0; i < N; i++)
		begin(&rest[i], 60000);
	set_gate(false);
	end(&first);
	for (int i = 0; i < N; i++) {
		int64_t id = end(&rest[i]);
		assert_int_equal(rest[i].result, ERR_OK);
		assert_in_range(id, 2, N + 1);
		assert_false(is_seen[id]);
		is_seen[id] = true;
	}
	assert_int_equal(gate.largest, 8);
	assert_int_equal(gate.n_commits, 1 + 3);
	struct writer_stats stats;
	writer_stats(writer, &stats);
	assert_int_equal(stats.stored, N + 1);
	assert_int_equal(stats.commits, gate.n_commits);
}

/* An event whose turn does not come goes back to its owner in time; one whose
 * commit hangs is left to the writer, which frees it. */
static void
patience(void **state)
{
	struct submission taken, queued, late;
	(void)state;
	set_gate(true);
	begin(&taken, 1000);
	wait_inside();
	begin(&queued, 1);
	assert_int_equal(sem_wait(&queued.is_told), 0);
	assert_int_equal(queued.result, ERR_BUSY);
	assert_non_null(queued.ev);
	free(queued.ev);
	assert_int_equal(sem_trywait(&taken.is_told), -1);
	assert_int_equal(sem_wait(&taken.is_told), 0);
	assert_int_equal(taken.result, ERR_BUSY);
	assert_null(taken.ev);
	begin(&late, 60000); /* nobody is let in behind what hangs */
	assert_int_equal(sem_trywait(&late.is_told), 0);
	assert_int_equal(late.result, ERR_BUSY);
	free(late.ev);
	set_gate(false);
	writer_close(&writer);
	assert_int_equal(gate.n_commits, 1);
	assert_int_equal(sem_trywait(&taken.is_told), -1); /* once is enough */
}

/* When flushes are slow a batch waits for those of the last one; also when all that wait
 * are given up meanwhile it goes on. */
static void
lingering(void **state)
{
	struct submission first, second, third;
	(void)state;
	for (int i = 0; i < 20; i++) {
		set_gate(true);
		begin(&first, 60000);
		wait_inside();
		begin(&second, 10 + i % 10);
		usleep(12000); /* the commit: then 5 ms are waited for another */
		set_gate(false);
		end(&first);
		end(&second);
		usleep(10000); /* until that is over */
		begin(&third, 60000);
		assert_true(end(&third) > 0);
		assert_int_equal(third.result, ERR_OK);
	}
}

static enum err
try(struct writer *w)
{
	struct submission s = {.ev = NULL};
	sem_init(&s.is_told, 0, 0);
	writer_submit(w, NULL, clock_ms() + 60000, told, &s);
	end(&s);
	return s.result;
}

static void
trials(void **state)
{
	struct writer_stats stats;
	(void)state;
	assert_int_equal(try(writer), ERR_OK);
	gate.result = ERR_DB_DOWN;
	assert_int_equal(try(writer), ERR_DB_DOWN);
	writer_stats(writer, &stats);
	assert_int_equal(stats.commits, 0);
	assert_int_equal(stats.failed, 0);
}

/* What waits when the writer is closed is still committed. */
static void
closing(void **state)
{
	struct submission first, second;
	(void)state;
	set_gate(true);
	begin(&first, 60000);
	wait_inside();
	begin(&second, 60000);
	set_gate(false);
	end(&first);
	end(&second);
	assert_int_equal(second.result, ERR_OK);
}

static void
without_thread(void **state)
{
	(void)state;
	struct submission s;
	gate.result = ERR_OK;
	assert_int_equal(writer_open(&writer, &gate, 8), ERR_OK);
	begin(&s, 60000);
	assert_int_equal(sem_trywait(&s.is_told), 0);
	assert_true(s.ev->id > 0);
	free(s.ev);
	writer_close(&writer);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(groups, open_writer, close_writer),
	    cmocka_unit_test_setup_teardown(patience, open_writer, close_writer),
	    cmocka_unit_test_setup_teardown(lingering, open_writer, close_writer),
	    cmocka_unit_test_setup_teardown(trials, open_writer, close_writer),
	    cmocka_unit_test_setup_teardown(closing, open_writer, close_writer),
	    cmocka_unit_test(without_thread)};
	return cmocka_run_group_tests_name("writer", tests, NULL, NULL);
}
