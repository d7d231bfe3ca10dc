#!/usr/bin/python3
"""Prints the manual page banger.toml(5), as scdoc source, from the document of the configuration.

Usage: config-man.py docs/CONFIG.md
"""

import re
import sys

SPECIAL = re.compile(r"([\\*_#\[\]|<>.+;-])")


def marked(text):
    """Markdown's code and emphasis as scdoc's; the rest is plain text."""
    parts = re.split(r"(`[^`]*`|\*\([^)]*\)\*)", text)
    return "".join("*" + SPECIAL.sub(r"\\\1", p[1:-1]) + "*" if p.startswith("`")
                   else SPECIAL.sub(r"\\\1", p.strip("*")) for p in parts)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    # Up to the table, behind the title: what kind of file it is.
    about = re.split(r"^\|", text, maxsplit=1, flags=re.M)[0].split("\n", 1)[1].strip()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")]
            for line in text.splitlines() if re.match(r"\| `\w+`", line)]
    example = re.search(r"^Example:\n\n((?:    .*\n)+)", text, re.M)
    if not rows or any(len(row) != 5 for row in rows) or not example:
        raise SystemExit(f"{sys.argv[1]}: no table of keys with five columns, or no example")
    print("banger.toml(5)\n\n# NAME\n\nbanger.toml - configuration of banger\n\n# DESCRIPTION\n")
    print("\n\n".join(marked(" ".join(p.split())) for p in about.split("\n\n")))
    print("\n# KEYS\n")
    for key, kind, default, allowed, what in rows:
        print(f"{marked(key.strip('| '))} ({marked(kind)})\n\t{marked(what.strip('| '))} "
              f"Allowed: {marked(allowed)}. Default: {marked(default)}.\n")
    print("# EXAMPLE\n\n```\n" + re.sub("^    ", "", example[1], flags=re.M) + "```")
    print("\n# SEE ALSO\n\n*banger*(1), *bangerd*(8)")


main()
