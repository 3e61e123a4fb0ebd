#!/bin/sh
# Prints the C source of `migrations` from the numbered files that are named.
set -eu
echo '/* Made by sql/embed.sh; do not edit. */'
echo '#include "migrations.h"'
echo '#include <stddef.h>'
echo 'const struct migration migrations[] = {'
for file in "$@"; do
	name=$(basename "$file" .sql)
	number=$(echo "$name" | sed 's/_.*//; s/^0*//')
	echo "{\"$name\", $number,"
	sed 's/\\/\\\\/g; s/"/\\"/g; s/	/\\t/g; s/^/"/; s/$/\\n"/' "$file"
	echo '},'
done
echo '{NULL, 0, NULL}};'
