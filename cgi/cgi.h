/* One request by CGI (RFC 3875): from the environment and fd 0 to fd 1. */
#ifndef CGI_H
#define CGI_H

#include "handle.h"

/* Whether a web server started this process as a CGI program. */
bool cgi_is_called(void);

/* Reads the request, handles it and writes the response.  True: no standard file
 * leads to the web server any more, so the sender does not wait for what comes. */
bool cgi_serve(struct handler *h);

/* Answers that smshook itself has failed, when there is no handler. */
void cgi_refuse(enum err e);

#endif
