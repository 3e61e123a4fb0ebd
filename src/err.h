/* The one error type: each has a name, the HTTP status that a sender gets for
 * it, and a sentence that says what happened and what to mend.  The sentences
 * are literals: no text from outside is in them. */
#ifndef ERR_H
#define ERR_H

#define ERR_MAP(X)                                                                       \
	X(ERR_OK, 200, "Done.")                                                          \
	X(ERR_BODY_CUT, 400,                                                             \
	    "The body is shorter than Content-Length says, or did not arrive in time. "  \
	    "Send it again, whole.")                                                     \
	X(ERR_BODY_LENGTH, 400, "Content-Length is not a plain decimal number.")         \
	X(ERR_NOT_JSON, 400, "The body is not JSON by RFC 8259 in UTF-8.")               \
	X(ERR_TOKEN, 401,                                                                \
	    "No valid token. The webhook's address must end in the token that the "      \
	    "configuration of smshook has.")                                             \
	X(ERR_SIGNATURE, 401,                                                            \
	    "The token is right, but not the signature that this source asks for.")      \
	X(ERR_NO_ROUTE, 404, "There is nothing at this address.")                        \
	X(ERR_METHOD, 405, "Only the methods in Allow work at this address.")            \
	X(ERR_TOO_LARGE, 413, "The body is larger than max_body in the configuration.")  \
	X(ERR_MEDIA_TYPE, 415,                                                           \
	    "The body is not JSON and its Content-Type or Content-Encoding says so "     \
	    "too. Send plain JSON.")                                                     \
	X(ERR_NOT_EVENT, 422, "The body is JSON but no event.")                          \
	X(ERR_CONFIG, 500,                                                               \
	    "smshook is not configured. Its error log says what to mend.")               \
	X(ERR_SYSTEM, 500, "The server failed. Its error log says why.")                 \
	X(ERR_DB_DATA, 500,                                                              \
	    "The database refused this one event; it is kept in sms.rejected.")          \
	X(ERR_DB_DOWN, 503, "The database cannot be written now. Try again.")            \
	X(ERR_DB_UNKNOWN, 503, "The database did not answer in time. Try again.")        \
	X(ERR_DB_CONFLICT, 503, "Another writer was in the way. Try again.")             \
	X(ERR_SPOOL, 503,                                                                \
	    "Neither the database nor the spool can be written now. Try again.")         \
	X(ERR_BUSY, 503, "Too many requests are waiting. Try again.")                    \
	X(ERR_MEMORY, 503, "Out of memory. Try again.")

#define ERR_ENUM(name, status, sentence) name,
enum err { ERR_MAP(ERR_ENUM) };
#undef ERR_ENUM

#define MUST_USE __attribute__((warn_unused_result))

/* HTTP status of an error, 200 for ERR_OK. */
int err_status(enum err e);

/* The sentence, a literal. */
const char *err_sentence(enum err e);

#endif
