#!/bin/sh
# Fetch the source of Mbed TLS 3.6 into a folder (default: build/mbedtls-3.6 of the checkout), unless it is there.
#
# It comes as a source package of Debian 13 through apt, which checks the signature; Debian 12 itself has 2.28 only. The
# system's own package lists are neither used nor changed, and nothing is installed. Needs apt-get and tar, no root.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=${1:-$here/../../build/mbedtls-3.6}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=${MBEDTLS_MIRROR:-http://deb.debian.org/debian}

if [ -f "$target/include/mbedtls/build_info.h" ]; then
    exit 0
fi

say() {
    echo "fetch-mbedtls-3.6: $*" >&2
}

command -v apt-get >/dev/null || { say "no apt-get here: unpack mbedtls 3.6 into $target yourself"; exit 1; }
[ -f "$keyring" ] || { say "$keyring is missing: apt-get install debian-archive-keyring"; exit 1; }

mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$(dirname "$target")/.mbedtls-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/unpacked"
echo "deb-src [signed-by=$keyring] $mirror trixie main" >"$work/sources.list"

apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" \
        -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=2 -o APT::Update::Error-Mode=any \
        "$@" >"$work/log" 2>&1 || {
        say "apt-get $1: $(grep -m 1 '^[EW]:' "$work/log" || tail -n 1 "$work/log")"
        exit 1
    }
}

cd "$work"
apt update
# No version: Debian's point releases replace it, and take the one before out of the archive.
apt source --download-only mbedtls
tar -xf mbedtls_*.orig.tar.* -C unpacked --strip-components 1
rm -rf "$target"
mv unpacked "$target"
