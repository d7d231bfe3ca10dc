#!/bin/bash
# Downloads a Debian package and unpacks it into a directory, without installing it. OUTDIR appears
# only when it is complete; when it is there already, nothing is done. Needs no root, except to
# fetch package lists on a machine that has none or stale ones.
# Usage: tools/fetch-deb.sh PACKAGE OUTDIR
set -euo pipefail

package=${1:?usage: tools/fetch-deb.sh PACKAGE OUTDIR}
out=${2:?usage: tools/fetch-deb.sh PACKAGE OUTDIR}
if [ -f "$out/.package" ]; then
    exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
fi
update_lists() {
    echo "fetch: fetching the package lists first"
    "${as_root[@]}" apt-get -q update </dev/null
}

mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

# root's downloads would go through the user _apt, which may not write here: keep them root's.
download() {
    apt-get -q -o APT::Sandbox::User=root download "$package" </dev/null
}
if ! apt-cache show --no-all-versions "$package" >/dev/null 2>&1; then
    update_lists
    download
elif ! download; then
    update_lists
    download
fi
deb=$(echo ./*.deb)
mkdir unpacked
dpkg-deb -x "$deb" unpacked
basename "$deb" .deb >unpacked/.package
cd - >/dev/null
rm -rf "$out"
mv "$work/unpacked" "$out"
chmod 755 "$out"
