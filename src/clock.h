/* Deadlines: milliseconds, or microseconds, on a clock that nobody sets
 * (CLOCK_MONOTONIC). */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t
clock_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

static inline int64_t
clock_ms(void)
{
	return clock_us() / 1000;
}

/* A time of clock_us() for pthread_cond_clockwait(3); one before the clock began is 0. */
static inline struct timespec
clock_timespec(int64_t us)
{
	us = us > 0 ? us : 0;
	return (struct timespec){us / 1000000, us % 1000000 * 1000};
}

/* What is left until a deadline for poll(2): 0 when it is over. */
static inline int
clock_left(int64_t deadline)
{
	int64_t left = deadline - clock_ms();
	return left > 0 ? (int)left : 0;
}

#endif
