/* `smshook rejected`: the bodies in sms.rejected, and once more into sms.event. */
#ifndef REJECTED_H
#define REJECTED_H

#include "admin.h"

extern const char rejected_help[], rejected_retry_help[];

bool rejected_takes(char *const *arguments);
void rejected(struct admin *a);

/* Needs the configuration: its sources tell the zones of their times. */
bool rejected_retry_takes(char *const *arguments);
void rejected_retry(struct admin *a);

#endif
