/* smshook sample: plays the gateway.  Needs neither configuration nor database. */
#ifndef SAMPLE_H
#define SAMPLE_H

#include "admin.h"

/* Whether arguments are options with good values; else says what is wrong. */
bool sample_takes(char *const *arguments);

/* Prints or posts as a->arguments say. */
void sample(struct admin *a);

#endif
