#include "pq.h"

#include <dlfcn.h>
#include <stdbool.h>

struct pq pq;

const char *
pq_load(void)
{
	static bool is_loaded;
	void *library, *function;
	if (is_loaded)
		return NULL;
	/* the name that all versions since PostgreSQL 8.2 have */
	library = dlopen("libpq.so.5", RTLD_LAZY | RTLD_LOCAL);
	if (!library)
		return dlerror();
#define PQ_LOAD(name)                                                                    \
	function = dlsym(library, #name);                                                \
	if (!function)                                                                   \
		return dlerror();                                                        \
	pq.name = (__typeof__(name) *)function;
	PQ_FUNCTIONS(PQ_LOAD)
#undef PQ_LOAD
	is_loaded = true;
	return NULL;
}
