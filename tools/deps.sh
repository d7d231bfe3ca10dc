#!/bin/bash
# Installs the Debian packages of the named groups of packaging/packages.txt, as far as they are
# missing; does nothing, fast, when none is.
# Usage: tools/deps.sh GROUP...
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=()
for group in "$@"; do
    mapfile -t -O "${#wanted[@]}" wanted < <(awk -v g="$group" '$1 == g { print $2 }' \
        packaging/packages.txt)
done
if [ "${#wanted[@]}" -eq 0 ]; then
    echo "deps: no package in groups '$*' of packaging/packages.txt" >&2
    exit 1
fi
if ! command -v dpkg-query >/dev/null; then
    echo "deps: this is not Debian; install by hand what packaging/packages.txt lists" >&2
    exit 1
fi

find_missing() {
    local installed
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null |
        awk '$1 == "installed" { print $2 }') || true
    missing=()
    for package in "${wanted[@]}"; do
        if ! grep -qxF "$package" <<<"$installed"; then
            missing+=("$package")
        fi
    done
}

find_missing
if [ "${#missing[@]}" -eq 0 ]; then
    exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "deps: these packages are missing, and without root or sudo they cannot be" \
            "installed: ${missing[*]}" >&2
        echo "hint: as root, run: apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

apt_get() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 \
        -o Dpkg::Use-Pty=0 "$@" </dev/null
}
install_missing() {
    apt_get install -y --no-install-recommends "${missing[@]}"
}

echo "deps: installing ${missing[*]}"
# Lists that are absent or stale (a package has moved on) are the only reason to fetch them.
if ! apt-cache show --no-all-versions "${missing[@]}" >/dev/null 2>&1 || ! install_missing; then
    echo "deps: fetching the package lists first"
    apt_get update
    install_missing
fi

find_missing
if [ "${#missing[@]}" -ne 0 ]; then
    echo "deps: still missing: ${missing[*]}" >&2
    exit 1
fi
