#!/bin/sh
# Prints the version to build in: VERSION, and the commit when this is a git checkout.
# Usage: tools/version.sh VERSION
cd "$(dirname "$0")/.." || exit 1
commit=$(git -c safe.directory="$PWD" describe --always --dirty --abbrev=10 --exclude='*' \
    2>/dev/null) && [ -n "$commit" ] || commit=
printf '%s%s\n' "$1" "${commit:++g$commit}"
