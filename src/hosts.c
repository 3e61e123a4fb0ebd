#include "hosts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const hosts_places[HOSTS_PLACES] = {"host", "hostaddr", "port"};

/* The elements of a list; 0 when one of them is empty. */
static size_t
count_elements(const char *list)
{
	size_t n = 1;
	for (const char *p = list; *p; p++) {
		if (*p == ',' && (p == list || p[1] == ',' || p[1] == '\0'))
			return 0;
		n += *p == ',';
	}
	return n;
}

void
hosts_free(struct hosts *h)
{
	for (int i = 0; i < HOSTS_PLACES; i++)
		free(h->lists[i]);
	*h = (struct hosts){.n = 1};
}

const char *
hosts_fault(const PQconninfoOption *options)
{
	for (; options->keyword; options++) {
		const char *val = options->val ? options->val : "",
			   *at = strchr(val, '@');
		/* @NAME is an abstract socket, and a folder may have any name */
		bool is_bad = strcmp(options->keyword, "host") == 0
				  ? at && at > val && at[-1] != ',' && *val != '/'
				  : strcmp(options->keyword, "port") == 0 &&
					val[strspn(val, "0123456789, ")];
		if (is_bad)
			return "no host or no port is where one should be; in a URI's "
			       "password write @ as %40 and / as %2F";
	}
	return NULL;
}

bool
hosts_read(struct hosts *h, const PQconninfoOption *options)
{
	bool is_plain = true;
	*h = (struct hosts){.n = 1};
	for (; options->keyword; options++)
		for (int i = 0; i < HOSTS_PLACES; i++) {
			if (!options->val ||
			    strcmp(options->keyword, hosts_places[i]) != 0)
				continue;
			size_t n = count_elements(options->val);
			is_plain = is_plain && n > 0;
			h->n = n > h->n ? n : h->n;
			h->lists[i] = strdup(options->val);
			if (!h->lists[i])
				return false;
		}
	if (!is_plain)
		hosts_free(h);
	return true;
}

/* A list of one element is for all hosts. */
const char *
hosts_place(const struct hosts *h, int place, char out[HOSTS_LEN])
{
	const char *list = h->lists[place], *next;
	if (!list)
		return NULL;
	for (size_t i = h->at; i > 0 && (next = strchr(list, ',')); i--)
		list = next + 1;
	snprintf(out, HOSTS_LEN, "%.*s", (int)strcspn(list, ","), list);
	return out;
}

void
hosts_next(struct hosts *h)
{
	h->at = (h->at + 1) % h->n;
}
