#include "status.h"

#include <strings.h>

static const struct {
	int32_t id;
	const char *status;
} status_ids[] = {
    {1, "queued"},
    {3, "queued"},
    {2, "queued"},
    {6, "sent"},
    {7, "delivered"},
    {8, "failed"},
    {9, "failed"},
    {10, "failed"},
    {11, "failed"},
    {12, "failed"},
    {100, "failed"},
    {101, "failed"},
};

static const char *const status_words[] = {"queued", "sent", "delivered", "failed"};

const char *
status_of_word(struct text word)
{
	for (size_t i = 0; i < sizeof status_words / sizeof *status_words; i++)
		if (word.len == strlen(status_words[i]) &&
		    strncasecmp(word.ptr, status_words[i], word.len) == 0)
			return status_words[i];
	return "unknown";
}

const char *
status_of_id(int32_t id)
{
	for (size_t i = 0; i < sizeof status_ids / sizeof *status_ids; i++)
		if (status_ids[i].id == id)
			return status_ids[i].status;
	return "unknown";
}
