/* smshook token new: makes the secret in the URL.  Needs neither configuration nor
 * database. */
#ifndef TOKEN_H
#define TOKEN_H

#include "admin.h"

extern const char token_help[];

/* Whether arguments are new and an address, or none; else says what is wrong. */
bool token_takes(char *const *arguments);

/* Prints the URL and the line for the configuration on stdout, what to do with
 * them on stderr. */
void token_new(struct admin *a);

#endif
