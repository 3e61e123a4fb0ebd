/* What each unit test begins with. */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "text.h"

/* A text is exactly this string; NULL for absent. */
#define assert_text(t, string)                                                           \
	do {                                                                             \
		struct text t_ = (t);                                                    \
		const char *s_ = (string);                                               \
		if (!s_) {                                                               \
			assert_null(t_.ptr);                                             \
		} else {                                                                 \
			assert_non_null(t_.ptr);                                         \
			assert_int_equal(t_.len, strlen(s_));                            \
			assert_memory_equal(t_.ptr, s_, t_.len);                         \
		}                                                                        \
	} while (0)

#endif
