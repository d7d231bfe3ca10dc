#!/bin/bash
# Fetches Debian's cloud kernel and unpacks it into a directory (boot/vmlinuz-*, lib/modules/*), which
# `banger kernel import NAME DIR` takes. Nothing is installed; an unpacked kernel is kept.
# Usage: tools/fetch-kernel.sh OUTDIR
set -euo pipefail

out=${1:?usage: tools/fetch-kernel.sh OUTDIR}
tools=$(cd "$(dirname "$0")" && pwd)
if [ -f "$out/.package" ]; then
    exit 0
fi

# The package with the short name is empty and depends on the one with the version in its name.
real_name() {
    apt-cache depends --no-recommends --no-suggests linux-image-cloud-amd64 2>/dev/null |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }'
}
package=$(real_name)
if [ -z "$package" ]; then
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        as_root=(sudo)
    fi
    echo "fetch: fetching the package lists first"
    "${as_root[@]}" apt-get -q update </dev/null
    package=$(real_name)
fi
if [ -z "$package" ]; then
    echo "fetch: apt knows no linux-image-cloud-amd64 (is this Debian, amd64?)" >&2
    exit 1
fi
exec "$tools/fetch-deb.sh" "$package" "$out"
