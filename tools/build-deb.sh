#!/bin/bash
# Makes the Debian package of what is in build/, as build/deb/banger_VERSION_ARCH.deb.
set -euo pipefail
cd "$(dirname "$0")/.."

out=$PWD/build/deb
log=build/deb.log
rm -rf "$out"
mkdir -p "$out"
export BANGER_DEB_DIR=$out DEB_RULES_REQUIRES_ROOT=no DEB_BUILD_OPTIONS=noautodbgsym
if ! { dpkg-checkbuilddeps && debian/rules clean && debian/rules binary; } >"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    echo "deb: the package could not be made" >&2
    exit 1
fi
debian/rules clean >>"$log" 2>&1 </dev/null
ls "$out"/*.deb
