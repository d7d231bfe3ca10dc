#!/bin/bash
# Configures a build directory when needed and builds it. The directory's name says how:
#   build        the programs, gcc, hardened
#   build-asan   gcc, ASan and UBSan, with unit tests and fuzz replays
#   build-tsan   clang, TSan and -Wthread-safety, with unit tests
#   build-fuzz   clang, libFuzzer targets
# Usage: tools/build.sh DIR [NINJA-ARGUMENT...]
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${1:?usage: tools/build.sh DIR [NINJA-ARGUMENT...]}
shift
for program in meson ninja gcc pkg-config python3 scdoc; do
    if ! command -v "$program" >/dev/null; then
        echo "banger: '$program' is missing: run 'make deps' first" >&2
        exit 1
    fi
done

cc=gcc
options=()
case $(basename "$dir") in
*asan*) options=(-Dsan=asan -Dtests=true -Doptimization=1) ;;
*tsan*) cc=clang-19 options=(-Dsan=tsan -Dtests=true -Doptimization=1) ;;
*fuzz*) cc=clang-19 options=(-Dsan=fuzz -Dtests=true -Doptimization=1) ;;
*clang*) cc=clang-19 options=(-Dtests=true) ;;
esac

mkdir -p "$dir"
# Two callers (an editor and a test run) must not configure at the same time.
exec 9>"$dir/.lock"
flock 9

tools/list-sources.py >"$dir/.sources.new"
quietly() {
    # meson's report is long and only of interest when it fails.
    if ! "$@" >"$dir/.setup.log" 2>&1; then
        cat "$dir/.setup.log" >&2
        exit 1
    fi
}
if [ ! -f "$dir/build.ninja" ]; then
    CC=$cc quietly meson setup "$dir" "${options[@]}"
elif ! cmp -s "$dir/.sources" "$dir/.sources.new"; then
    quietly meson setup "$dir" --reconfigure
fi
mv "$dir/.sources.new" "$dir/.sources"
ninja -C "$dir" "$@" 9>&-
