#!/bin/sh
# Fetch the source of Mbed TLS 3.6 into a folder (default: build/mbedtls-3.6 of the checkout), unless it is there.
#
# It comes as a source package of a newer release, through apt, which checks the signature, and from the mirror that this
# system uses: Debian 12 and Ubuntu 24.04 themselves have 2.28 only. The system's own package lists are neither used nor
# changed, and nothing is installed. Needs apt-get and tar, no root.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=${1:-$here/../../build/mbedtls-3.6}

if [ -f "$target/include/mbedtls/build_info.h" ]; then
    exit 0
fi

say() {
    echo "fetch-mbedtls-3.6: $*" >&2
}

command -v apt-get >/dev/null || { say "no apt-get here: unpack mbedtls 3.6 into $target yourself"; exit 1; }
# shellcheck source=/dev/null
. /etc/os-release
case "$ID" in
    debian) origin=Debian suite=trixie section=main ;;
    ubuntu) origin=Ubuntu suite=devel section=universe ;;
    *) say "$ID is neither Debian nor Ubuntu: unpack mbedtls 3.6 into $target yourself"; exit 1 ;;
esac
keyring=/usr/share/keyrings/$ID-archive-keyring.gpg
[ -f "$keyring" ] || { say "$keyring is missing: apt-get install $ID-keyring, or $ID-archive-keyring"; exit 1; }
mirror=${MBEDTLS_MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(CODENAME)' 'Created-By: Packages' |
    awk -v origin="$origin" -v release="$VERSION_CODENAME" '$2 == origin && $3 == release { print $1; exit }')}
[ -n "$mirror" ] || { say "apt knows no mirror of $origin $VERSION_CODENAME: apt-get update"; exit 1; }

mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$(dirname "$target")/.mbedtls-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/unpacked"
echo "deb-src [signed-by=$keyring] $mirror $suite $section" >"$work/sources.list"

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
