#!/bin/sh
# Starts PostgreSQL, and makes a database first where there is none.
#
# PGDATA                                       the database's folder; its parent must be writable. Not a volume's own root:
#                                              PostgreSQL demands a folder that belongs to it, which that seldom does
# POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE  the password, required while there is no database yet
# POSTGRES_USER                                the superuser, by default postgres
# POSTGRES_DB                                  a database to create, by default named as the user
#
# Runs as the user postgres (999). A database is made beside and renamed into place, so that a kill in the middle leaves
# nothing half made that looks whole.
set -eu

# Anything but a server (a shell, pg_dump) is run as it is.
case "${1:-postgres}" in
    postgres) [ $# -eq 0 ] || shift ;;
    -*) ;;
    *) exec "$@" ;;
esac

: "${POSTGRES_USER:=postgres}"
: "${POSTGRES_DB:=$POSTGRES_USER}"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
        password=$(cat "$POSTGRES_PASSWORD_FILE")
    else
        password=${POSTGRES_PASSWORD:-}
    fi
    if [ -z "$password" ]; then
        echo "entrypoint: no database in $PGDATA, and neither POSTGRES_PASSWORD nor POSTGRES_PASSWORD_FILE is set" >&2
        exit 1
    fi
    umask 077
    new=$PGDATA.new
    rm -rf "$new"
    mkdir -p "$new"
    # The password goes by a pipe: arguments are world-readable, and a file could stay behind.
    printf '%s\n' "$password" | initdb --pgdata="$new" --username="$POSTGRES_USER" --pwfile=/dev/stdin \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --data-checksums
    echo "host all all all scram-sha-256" >>"$new/pg_hba.conf"
    if [ "$POSTGRES_DB" != postgres ]; then
        # In single-user mode, so that nobody connects before the database is there.
        printf 'CREATE DATABASE "%s"\n' "$POSTGRES_DB" | postgres --single -D "$new" postgres >/dev/null
    fi
    sync
    # Fails, and loses nothing, where the folder is there and not empty.
    [ ! -d "$PGDATA" ] || rmdir "$PGDATA"
    mv "$new" "$PGDATA"
fi
unset POSTGRES_PASSWORD password

# A volume's owner settings may have been spread over its files; PostgreSQL refuses a folder that others can read.
chmod 0700 "$PGDATA"

# SIGTERM would wait for the clients to leave; SIGINT, the image's stop signal, sends them away and shuts down cleanly.
# By exec, so that the server is process 1 and gets it.
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
