/* `smshook check`: tries every part and says what to mend. */
#ifndef CHECK_H
#define CHECK_H

#include "admin.h"

void check(struct admin *a);

#endif
