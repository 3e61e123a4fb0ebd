/* Bytes of a webhook -> struct event, by a table of fields for each dialect of
 * SmsGateWay24.  A body takes some kB, and besides at most twice its size, for
 * no tree is made of it.  Any thread. */
#ifndef DECODE_H
#define DECODE_H

#include "event.h"

/* Decodes ev->wire, after event_init().  zone: IANA name for times that tell
 * none, absent for UTC; device_id: for bodies that tell none, may be absent.
 * Errors: ERR_NOT_JSON and ERR_NOT_EVENT, with ev rejected (event_reject());
 * ERR_MEMORY.  The caller calls event_free() in any case. */
enum err decode(struct event *ev, struct text zone, struct text device_id) MUST_USE;

#endif
