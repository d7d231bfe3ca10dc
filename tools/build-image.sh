#!/bin/bash
# Builds the default guest, Debian bookworm, as a tar of its root filesystem. As root; or as a user
# whose subordinate ids allow a user namespace (uidmap); or else through sudo. The packages of one
# day give the same bytes each time, whoever builds: times, logs, keys and what mmdebstrap copies
# from the host are fixed or removed.
# The mirror is the host's, if the host is a bookworm with a mirror of its own, else Debian's.
# Usage: tools/build-image.sh OUT.tar [PACKAGE,...]     (BANGER_MIRROR=URI overrides the mirror)
# With a list it has those packages, beside the essential ones, instead of the guest's.
# shellcheck disable=SC2016 # the hooks' $1 is not this shell's
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

if [ $# -lt 1 ] || [ $# -gt 2 ] || [ -z "$1" ]; then
    echo "usage: tools/build-image.sh OUT.tar [PACKAGE,...]" >&2
    exit 2
fi
out=$1
suite=bookworm
epoch=1767225600 # 2026-01-01: the newest time in the image
packages=${2:-systemd-sysv,openssh-server,iproute2,iputils-ping,git,curl,ca-certificates,procps,less,vim-tiny}

say() {
    printf 'image: %s\n' "$*" >&2
}
for program in mmdebstrap apt-get; do
    if ! command -v "$program" >/dev/null; then
        say "$program is not installed: apt-get install mmdebstrap"
        exit 1
    fi
done

# The host's lines for the suite, from either form of its sources, fetched lists or not. None when
# Debian's own servers are among them: then mmdebstrap's default is meant, and every such host gets
# the same image. A mirror of Debian itself is one that has the updates too; others (Docker, say)
# use the suite's name as well.
host_mirrors() {
    apt-get --print-uris update 2>/dev/null | awk -v suite="$suite" -F "'" '
        match($2, "^https?://.*/dists/" suite "(-updates|-security)?/InRelease$") {
            split($2, part, "/+dists/")
            sub("/.*", "", part[2])
            if (part[1] ~ /^https?:\/\/(deb|ftp|ftp\...|security)\.debian\.org\//) {
                own = 1
            }
            has[part[1] " " part[2]] = 1
            base[part[1]] = 1
        }
        END {
            for (uri in base) {
                if (!own && (uri " " suite) in has && (uri " " suite "-updates") in has) {
                    print "deb " uri " " suite " main"
                    print "deb " uri " " suite "-updates main"
                    found = 1
                }
            }
            for (uri in base) {
                if (found && (uri " " suite "-security") in has) {
                    print "deb " uri " " suite "-security main"
                }
            }
        }' || true
}
if [ -n "${BANGER_MIRROR:-}" ]; then
    mirrors=("$BANGER_MIRROR")
else
    mapfile -t mirrors < <(host_mirrors)
fi

# A proxy of the host's apt; it stays out of the image.
options=()
for scheme in http https; do
    proxy=
    eval "$(apt-config shell proxy "Acquire::$scheme::Proxy" 2>/dev/null || true)"
    if [ -n "$proxy" ]; then
        options+=("--aptopt=Acquire::$scheme::Proxy \"$proxy\"")
    fi
done

# Run with the root directory as $1.
hooks=(
    # Secrets that every VM would share; the agent makes new ones.
    'rm -f "$1"/etc/ssh/ssh_host_*'
    ': >"$1/etc/machine-id"'
    'rm -f "$1/var/lib/dbus/machine-id" "$1/var/lib/systemd/random-seed"'
    # Traces of this build and of this host.
    'find "$1/var/log" -type f -size +0 -delete'
    'rm -f "$1/var/cache/ldconfig/aux-cache" "$1/etc/apt/apt.conf.d/99mmdebstrap"'
    'rm -f "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old'
    'rm -f "$1/etc/hostname" "$1/etc/hosts" "$1/etc/resolv.conf"'
    'echo localhost >"$1/etc/hostname"; : >"$1/etc/resolv.conf"'
    'printf "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n" >"$1/etc/hosts"'
    'chmod 644 "$1/etc/hostname" "$1/etc/hosts" "$1/etc/resolv.conf" "$1/etc/machine-id"'
)
for hook in "${hooks[@]}"; do
    options+=("--customize-hook=$hook")
done

as_root=()
mode=root
if [ "$(id -u)" -ne 0 ]; then
    if unshare --map-auto --map-root-user --mount --pid --fork --mount-proc true 2>/dev/null; then
        mode=unshare
    else
        as_root=(sudo)
    fi
fi

mkdir -p "$(dirname "$out")"
partial=$(mktemp "$out.XXXXXX")
trap 'rm -f "$partial"' EXIT
say "Debian $suite with mmdebstrap (mode $mode), mirror: ${mirrors[*]:-default}"
"${as_root[@]}" env -i PATH="$PATH" LC_ALL=C HOME=/nonexistent TMPDIR="${TMPDIR:-/tmp}" \
    SOURCE_DATE_EPOCH="$epoch" ${http_proxy:+http_proxy="$http_proxy"} \
    ${https_proxy:+https_proxy="$https_proxy"} \
    mmdebstrap --mode="$mode" --format=tar --variant=minbase --include="$packages" \
    "${options[@]}" "$suite" - "${mirrors[@]}" </dev/null >"$partial"
chmod 644 "$partial"
sync -d "$partial"
mv -f "$partial" "$out"
trap - EXIT
say "$(stat -c %s "$out") bytes in $out"
