#!/bin/sh
# Within a booted Debian that tests/matrix.sh has made: installs as README.md says,
# then runs tests/system/test_booted.py on it.  TAP; for no other machine.
set -eux
[ "$(cat /run/systemd/container)" = systemd-nspawn ] || exit 99
exec 3>&1 1>&2

make -C /source/build install
useradd --system --user-group --home-dir /var/lib/smshook --shell /usr/sbin/nologin smshook
cd /
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"; }
as_postgres createdb -E UTF8 -T template0 sms
as_postgres smshook -d dbname=sms migrate
as_postgres psql -d sms -1 -f /usr/share/smshook/sql/roles.sql
as_postgres psql -d sms -c 'create role smshook login in role smshook_writer'
as_postgres psql -c 'create role root superuser login' # for the test

mkdir /etc/smshook
cat >/etc/smshook/smshook.conf <<-END
	[database]
	conninfo = dbname=sms

	[source shop]
	token = $(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
END
chown root:smshook /etc/smshook/smshook.conf
chmod 0640 /etc/smshook/smshook.conf

cp /usr/share/smshook/nginx/smshook-http.conf /etc/nginx/conf.d/
cp /usr/share/smshook/nginx/smshook.conf /etc/nginx/snippets/
sed -i 's:^\tserver_name _;:&\n\tinclude snippets/smshook.conf;:' /etc/nginx/sites-enabled/default
systemctl daemon-reload
systemctl enable --now smshook
systemctl reload nginx

export SMSHOOK_SRC=/source/smshook SMSHOOK_BUILD=/source/build LC_ALL=C.UTF-8
SMSHOOK_BOOTED=1 "$SMSHOOK_SRC/tests/system.sh" -k booted 1>&3 || status=$?
journalctl --no-pager -u smshook.service -u smshook.socket -n 100
exit "${status:-0}"
