#include "token.h"

#include "sha256.h"

#include <sys/random.h>

const char token_help[] =
    "Makes a token of 192 bits and prints two lines: the URL to paste into the gateway,\n"
    "which nobody can print again, and the line for the configuration, which holds its\n"
    "digest alone.  URL is the address of smshook without a token, such as\n"
    "https://example.org/smshook.";

/* Not as long as its digest, which then is not taken for it. */
enum { RANDOM_LEN = 24 };

bool
token_takes(char *const *arguments)
{
	const char *url = arguments[0] ? arguments[1] : NULL;
	if (!arguments[0] || strcmp(arguments[0], "new") != 0 || (url && arguments[2]))
		return false;
	if (url && strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
		return admin_misuse("%s: a URL begins with https://", url);
	if (url && url[strcspn(url, "?# ")])
		return admin_misuse("%s: the address without ?, # and blanks", url);
	return true;
}

static void
print_hex(const char *before, const unsigned char *bytes, size_t len)
{
	fputs(before, stdout);
	for (size_t i = 0; i < len; i++)
		printf("%02x", bytes[i]);
}

void
token_new(struct admin *a)
{
	const char *base =
	    a->arguments[1] ? a->arguments[1] : "https://YOUR-SERVER/smshook";
	unsigned char bytes[RANDOM_LEN], digest[SHA256_LEN];
	char token[2 * RANDOM_LEN + 1];
	if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) {
		admin_bad(a, "getrandom: %m");
		return;
	}
	for (int i = 0; i < RANDOM_LEN; i++)
		snprintf(token + 2 * i, 3, "%02x", bytes[i]);
	sha256(text_of(token), digest);
	fputs("The URL for the gateway; it cannot be shown again:\n", stderr);
	printf("%s%s%s\n", base, base[strlen(base) - 1] == '/' ? "" : "/", token);
	fflush(stdout);
	fputs("The line for its [source NAME] in smshook.conf:\n", stderr);
	print_hex("token_sha256 = ", digest, sizeof digest);
	putchar('\n');
	fflush(stdout);
	fputs(
	    "Then reload: systemctl reload smshook, or send SIGHUP to smshook.fcgi (CGI "
	    "needs nothing).\n"
	    "To change a token: add the new line beside the old one, reload, change the "
	    "URL in the\n"
	    "gateway, and when webhooks come by it take the old line away and reload.\n",
	    stderr);
}
