#!/bin/bash
# `make try`: from a fresh checkout to a command in a first VM. Each step is skipped when it has been
# done before. As root, or as a user with sudo (packages and the image's build need it; the daemon
# runs as the user).
set -euo pipefail
cd "$(dirname "$0")/.."

kernel=debian-cloud
image=debian
banger=build/banger
steps=6
step=0

say() {
    printf '%s\n' "$*"
}
begin() {
    step=$((step + 1))
    say "[$step/$steps] $*"
    started=$EPOCHREALTIME
}
finish() {
    local us=$((${EPOCHREALTIME/[.,]/} - ${started/[.,]/}))
    printf '      %s in %d.%02d s\n' "${1:-done}" $((us / 1000000)) $((us % 1000000 / 10000))
}
# Whether a listing has something of that name: has NOUN NAME. A listing that fails ends it all.
has() {
    local listing
    listing=$("$banger" "$1" list --format json </dev/null) || exit 1
    python3 -c '
import json, sys
names = [n for o in json.loads(sys.argv[1]) for n in [o.get("name"), *(o.get("names") or [])]]
sys.exit(0 if sys.argv[2] in names else 1)' "$listing" "$2"
}

begin "packages: what packaging/packages.txt lists and this machine lacks"
tools/deps.sh build run image
finish "all there"

begin "build: the programs, into build/"
tools/build.sh build --quiet
finish "built"

begin "kernel: Debian's linux-image-cloud-amd64, downloaded and unpacked into .cache/"
tools/fetch-kernel.sh .cache/kernel
finish "$(cat .cache/kernel/.package)"

begin "kernel: imported as '$kernel'"
if has kernel "$kernel"; then
    finish "already there, seen"
else
    "$banger" kernel import "$kernel" .cache/kernel
    finish "imported"
fi

begin "image: Debian bookworm, registered as '$image'"
if has image "$image"; then
    finish "already there, seen"
else
    # The recipe's digest stands beside what it made: a changed recipe builds again.
    recipe=$(sha256sum <tools/build-image.sh)
    if [ ! -f ".cache/$image.tar" ] || [ "$(cat ".cache/$image.recipe" 2>/dev/null)" != "$recipe" ]
    then
        rm -f ".cache/$image.recipe"
        tools/build-image.sh ".cache/$image.tar"
        printf '%s\n' "$recipe" >".cache/$image.recipe"
    fi
    "$banger" image register "$image" ".cache/$image.tar"
    finish "built and registered"
fi

begin "run: a VM boots, runs one command, and is gone"
script='uname -a; . /etc/os-release; echo $PRETTY_NAME'
say "      \$ $banger run --rm -- sh -c '$script'"
status=0
"$banger" run --rm -- sh -c "$script" || status=$?
finish "exit status $status"
exit "$status"
