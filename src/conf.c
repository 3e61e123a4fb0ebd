#include "conf.h"

#include "conf_value.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOURCE "source"

/* This table is the configuration. */
/* clang-format off */
#define IN_CONF(member)   offsetof(struct conf, member)
#define IN_SOURCE(member) offsetof(struct conf_source, member)
static const struct conf_key keys[] = {
    {"server", "threads", conf_read_number, conf_plain, IN_CONF(threads), "64", 1, 1024,
	"requests in flight; also the largest batch"},
    {"server", "socket_mode", conf_read_number, conf_octal, IN_CONF(socket_mode), "0660", 0, 0777,
	"permissions of the Unix socket that -s makes"},
    {"server", "max_body", conf_read_number, conf_sizes, IN_CONF(max_body), "64KiB", 1024, 512 << 10,
	"largest body, up to 512KiB"},
    {"server", "request_timeout", conf_read_number, conf_times, IN_CONF(request_timeout_ms), "4s",
	2000, 60000, "an answer leaves within it"},
    {"database", "conninfo", conf_read_string, NULL, IN_CONF(conninfo), "", 0, 0,
	"libpq conninfo; empty: libpq's own environment"},
    {"database", "timeout", conf_read_number, conf_times, IN_CONF(timeout_ms), "2s", 100, 60000,
	"longest that a commit may take"},
    {"database", "notify", conf_read_word, conf_switches, IN_CONF(notify), "on", 0, 0,
	"on or off: NOTIFY sms_event for each event"},
    {"spool", "directory", conf_read_string, NULL, IN_CONF(spool_directory), SPOOLDIR, 0, 0,
	"where events wait while the database is away"},
    {"spool", "max_size", conf_read_number, conf_sizes, IN_CONF(spool_max_size), "1GiB",
	64 << 10, LONG_MAX, "most that may wait there, on the disk"},
    {"log", "level", conf_read_word, conf_levels, IN_CONF(log_level), "info", 0, 0,
	"debug, info, warn or error"},
    {"log", "target", conf_read_word, conf_targets, IN_CONF(log_target), "stderr", 0, 0,
	"stderr or syslog"},
    {SOURCE, "token_sha256", conf_read_token_sha256, NULL, 0, NULL, 0, 0,
	"digest of the secret in the URL, as smshook token new prints it; may be repeated, "
	"all tokens are valid"},
    {SOURCE, "token", conf_read_token, NULL, 0, NULL, 0, 0,
	"the secret itself; may be repeated"},
    {SOURCE, "token_file", conf_read_token_file, NULL, 0, NULL, 0, 0,
	"a file with a token a line"},
    {SOURCE, "timezone", conf_read_zone, NULL, IN_SOURCE(timezone), NULL, 0, 0,
	"IANA name, for times that tell none; default UTC"},
    {SOURCE, "device_id", conf_read_string, NULL, IN_SOURCE(device_id), NULL, 0, 0,
	"for bodies that tell none"},
    {SOURCE, "signature", conf_read_word, conf_signatures, IN_SOURCE(signature), NULL, 0, 0,
	"standard-webhooks or hmac-sha256, by which the sender must sign"},
    {SOURCE, "signature_key", conf_read_signature_key, NULL, 0, NULL, 0, 0,
	"whsec_ and base64, or for hmac-sha256 any text; may be repeated, all are valid"},
    {SOURCE, "signature_key_file", conf_read_signature_key_file, NULL, 0, NULL, 0, 0,
	"a file with a key a line"},
    {SOURCE, "signature_header", conf_read_signature_header, NULL, 0, NULL, 0, 0,
	"of hmac-sha256; default X-Signature"},
    {SOURCE, "signature_tolerance", conf_read_number, conf_times,
	IN_SOURCE(signature_tolerance_ms), NULL, 1000, 86400000,
	"of standard-webhooks: how far its time may be away; default 5m"},
};
/* clang-format on */
static const size_t n_keys = sizeof keys / sizeof *keys;

/* The array with room for one more than n; NULL, and the old one stays. */
static void *
one_more(struct conf_reader *r, void *array, size_t n, size_t size)
{
	void *grown = realloc(array, (n + 1) * size);
	if (!grown)
		conf_no_memory(r);
	return grown;
}

static bool
others_may_read(FILE *f)
{
	struct stat st;
	return fstat(fileno(f), &st) == 0 && (st.st_mode & S_IROTH);
}

/* ---------------------------------------------------------------- file */

/* The source of a section "source NAME", made when it is new. */
static struct conf_source *
source(struct conf_reader *r, const char *section)
{
	struct conf *c = r->conf;
	const char *name = section + strlen(SOURCE);
	name += strspn(name, " \t");
	if (!*name || strlen(name) > 64 || !conf_is_printable(name)) {
		conf_fail(r,
		    "[%s]: a source needs a name in plain ASCII, as in [source shop]",
		    section);
		return NULL;
	}
	for (size_t i = 0; i < c->n_sources; i++)
		if (strcmp(c->sources[i].name, name) == 0)
			return &c->sources[i];
	struct conf_source *sources =
	    one_more(r, c->sources, c->n_sources, sizeof *sources);
	if (!sources)
		return NULL;
	c->sources = sources;
	struct conf_source *s = &sources[c->n_sources++];
	return conf_source_begin(r, s, strdup(name)) ? s : NULL;
}

static bool
is_source(const char *section)
{
	return strcmp(section, SOURCE) == 0 || strncmp(section, SOURCE " ", 7) == 0;
}

/* A section or key as a message quotes it: it may be a secret on a line of its own. */
static const char *
quotable(const char *word)
{
	bool is_word = strlen(word) <= 24 &&
		       strspn(word, "abcdefghijklmnopqrstuvwxyz_ ") == strlen(word);
	return is_word ? word : "(not shown, for it may be a secret)";
}

static int
handle_pair(void *user, const char *section, const char *name, const char *value)
{
	struct conf_reader *r = user;
	bool in_source = is_source(section), section_known = in_source;
	void *base = r->conf;
	if (r->has_failed)
		return 0;
	if (in_source && !(base = source(r, section)))
		return 0;
	for (size_t i = 0; i < n_keys; i++) {
		const struct conf_key *k = &keys[i];
		bool is_here = strcmp(in_source ? SOURCE : section, k->section) == 0;
		section_known = section_known || is_here;
		if (!is_here || strcmp(name, k->name) != 0)
			continue;
		if (r->is_continued && strcmp(name, "conninfo") != 0)
			return conf_fail(
			    r, "%s must stand on one line, not indented", name);
		return k->read(r, k, (char *)base + k->offset, value);
	}
	if (!section_known)
		return conf_fail(r, "unknown section [%s]", quotable(section));
	return conf_fail(
	    r, "unknown key %s in [%s]", quotable(name), in_source ? SOURCE : section);
}

/* fgets for inih, which counts no lines and cuts long ones without a word.  The
 * line before, which may hold a secret, is wiped. */
static char *
next_line(char *line, int size, void *user)
{
	struct conf_reader *r = user;
	explicit_bzero(line, (size_t)size);
	if (r->has_failed || !fgets(line, size, r->file))
		return NULL;
	r->line++;
	r->is_continued = isspace((unsigned char)*line);
	if (!strchr(line, '\n') && !feof(r->file))
		conf_fail(
		    r, "longer than %d characters; go on in an indented line", size - 2);
	return line;
}

static bool
set_defaults(struct conf_reader *r)
{
	for (size_t i = 0; i < n_keys; i++)
		if (keys[i].initial &&
		    !keys[i].read(
			r, &keys[i], (char *)r->conf + keys[i].offset, keys[i].initial))
			return false;
	return true;
}

/* Of two sources with the same token one would be deaf, with what it asks for. */
static bool
check_tokens(struct conf_reader *r)
{
	const struct conf *c = r->conf;
	for (size_t i = 0; i < c->n_sources; i++)
		for (size_t k = 0; k < i; k++)
			if (conf_source_shares(&c->sources[i], &c->sources[k]))
				return conf_fail(r,
				    "[source %s] has a token that [source %s] has, too",
				    c->sources[i].name, c->sources[k].name);
	return true;
}

static bool
check_whole(struct conf_reader *r)
{
	struct conf *c = r->conf;
	r->line = 0;
	if (r->has_secret && others_may_read(r->file))
		return conf_fail(
		    r, "it holds a secret and everybody may read it; chmod o= it");
	if (c->n_sources == 0)
		return conf_fail(r, "there is no [source NAME] with a token");
	for (size_t i = 0; i < c->n_sources; i++)
		if (!conf_source_end(r, &c->sources[i]))
			return false;
	r->line = 0;
	if (!check_tokens(r))
		return false;
	/* a symbolic link with a slash behind it is followed */
	for (size_t n = strlen(c->spool_directory);
	     n > 1 && c->spool_directory[n - 1] == '/'; n--)
		c->spool_directory[n - 1] = '\0';
	if (*c->spool_directory != '/')
		return conf_fail(r, "[spool] directory must begin with a slash");
	if (c->timeout_ms >= c->request_timeout_ms)
		return conf_fail(r, "[database] timeout must be less than [server] "
				    "request_timeout");
	return true;
}

/* ------------------------------------------------------------- opening */

static const char *
home_path(char *path, size_t size)
{
	struct passwd *pw = getpwuid(getuid());
	if (!pw || !pw->pw_dir)
		return NULL;
	snprintf(path, size, "%s/.config/smshook/smshook.conf", pw->pw_dir);
	return access(path, F_OK) == 0 ? path : NULL;
}

enum err
conf_load(struct conf *c, const char *path)
{
	char home[PATH_MAX], buffer[4096];
	const char *env = getenv("SMSHOOK_CONFIG");
	*c = (struct conf){0};
	if (!path)
		path = env && *env ? env : home_path(home, sizeof home);
	if (!path)
		path = SYSCONFDIR "/smshook/smshook.conf";

	struct conf_reader r = {.conf = c, .path = path};
	c->path = strdup(path);
	if (!c->path)
		return ERR_MEMORY;
	r.file = fopen(path, "re");
	if (!r.file) {
		conf_fail(&r, "%s", strerror(errno));
		return ERR_CONFIG;
	}
	setvbuf(r.file, buffer, _IOFBF, sizeof buffer);
	if (set_defaults(&r)) {
		int bad_line = ini_parse_stream(next_line, &r, handle_pair, &r);
		if (bad_line > 0 && !r.has_failed) {
			r.line = bad_line;
			conf_fail(&r, "neither [section] nor key = value");
		}
	}
	if (!r.has_failed)
		check_whole(&r);
	fclose(r.file);
	explicit_bzero(buffer, sizeof buffer);
	return r.err;
}

void
conf_free(struct conf *c)
{
	for (size_t i = 0; i < c->n_sources; i++)
		conf_source_free(&c->sources[i]);
	free(c->sources);
	free(c->conninfo);
	free(c->spool_directory);
	free(c->path);
	*c = (struct conf){0};
}

const struct conf_source *
conf_source_named(const struct conf *c, struct text name)
{
	for (size_t i = 0; i < c->n_sources; i++)
		if (text_is(name, c->sources[i].name))
			return &c->sources[i];
	return NULL;
}

void
conf_help(FILE *to)
{
	const char *section = "";
	for (size_t i = 0; i < n_keys; i++) {
		if (strcmp(section, keys[i].section) != 0)
			fprintf(to, "[%s%s]\n", keys[i].section,
			    strcmp(keys[i].section, SOURCE) == 0 ? " NAME" : "");
		section = keys[i].section;
		fprintf(to, "  %-19s %s", keys[i].name, keys[i].help);
		if (keys[i].initial && *keys[i].initial)
			fprintf(to, " (default %s)", keys[i].initial);
		fputc('\n', to);
	}
}
