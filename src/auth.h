/* Tokens.  What is presented is hashed and compared in constant time with the
 * digests of all tokens of all sources: the time tells neither whether a token
 * was there nor how much of it was right.  Any thread. */
#ifndef AUTH_H
#define AUTH_H

#include "conf.h"
#include "text.h"

/* The source of the first right one of n candidates, absent ones included in
 * n so that the work is the same; NULL when none is right. */
const struct conf_source *auth_check(
    const struct conf *conf, const struct text *candidates, size_t n);

#endif
