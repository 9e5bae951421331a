/**
 * The head of the portable executable: a POSIX shell script in front of a gzipped tar of `deno` and `brmr.js`.
 *
 * On first use it unpacks itself into a cache directory named after the payload's hash, and from then on only starts
 * what lies there. It needs sh, tail, gzip, tar, mktemp and mv: the essential packages of any Debian.
 *
 * Promises: two first runs at once are safe (each unpacks into a directory of its own; one rename wins, the other
 * uses the winner's); an unpacking that was cut short is never used (the rename comes last, after a sync); a cache directory
 * that another user owns, that cannot be written or that is mounted noexec is passed over for the next candidate.
 *
 * @module
 */

import { COMMANDS_WITH_OWN_PERMISSIONS, permissionFlags } from "./permissions.ts";

/** Flags for `deno run` that make it leave the network and the user's configuration alone. */
const SEALED = "--quiet --no-config --no-lock --no-remote --no-npm";

function permissionCases(): string {
  return COMMANDS_WITH_OWN_PERMISSIONS
    .map((command) => `    ${command}) flags="${permissionFlags(command).join(" ")}"; break ;;`)
    .join("\n");
}

/**
 * The script for a payload with this hash. It ends with a newline, and the payload follows at once.
 *
 * @param hash hexadecimal digits that name the payload
 * @param version as `brmr --version` says it
 */
export function portableStub(hash: string, version: string): string {
  // The script tells tail at which byte the payload begins, so its own length is part of its text: fixed width.
  const text = (offset: string) =>
    `#!/bin/sh
# brmr ${version}: replicated block storage. A shell script, then a gzipped tar of deno and brmr.js.
# Unpacked into $BRMR_CACHE_DIR, $XDG_CACHE_HOME/brmr, ~/.cache/brmr, /var/cache/brmr or $TMPDIR/brmr-UID: the first that works.
set -u
hash=${hash}
offset=${offset}

usable() { # DIR: unpacked there, ours, and may be executed
  [ -O "$1" ] && [ -x "$1/deno" ] && "$1/deno" --version >/dev/null 2>&1
}

unpack() { # PARENT
  mkdir -p -m 0700 "$1" 2>/dev/null && [ -O "$1" ] && [ -w "$1" ] || return 1
  usable "$1/$hash" && return 0
  new=$(mktemp -d "$1/.new.XXXXXX" 2>/dev/null) || return 1
  if tail -c "+$offset" "$self" | gzip -dc 2>/dev/null | tar -xf - -C "$new" 2>/dev/null &&
    [ "$(cat "$new/complete" 2>/dev/null)" = "$hash" ] && sync "$new/deno" "$new/brmr.js" && usable "$new"; then
    # Without -T a lost race would move the directory into the winner's.
    mv -T "$new" "$1/$hash" 2>/dev/null || rm -rf "$new"
    usable "$1/$hash"
  else
    rm -rf "$new"
    return 1
  fi
}

self=$0
case $self in */*) ;; *) [ -f "$self" ] || self=$(command -v "$self") ;; esac
home=
tmp=\${TMPDIR:-/tmp}/brmr-$(id -u)
for parent in "\${BRMR_CACHE_DIR:-}" "\${XDG_CACHE_HOME:+$XDG_CACHE_HOME/brmr}" "\${HOME:+$HOME/.cache/brmr}" /var/cache/brmr "$tmp"; do
  [ -n "$parent" ] || continue
  if [ -f "$parent/$hash/complete" ] && [ -O "$parent/$hash" ] && [ -x "$parent/$hash/deno" ] || unpack "$parent"; then
    home=$parent/$hash
    break
  fi
done
if [ -z "$home" ]; then
  echo "brmr: found no place to unpack itself: it needs 150 MB in a directory that is yours and not mounted noexec. Set BRMR_CACHE_DIR to one." >&2
  exit 1
fi

flags="${permissionFlags("").join(" ")}"
for word in "$@"; do
  case $word in
${permissionCases()}
    -*) ;;
    *) break ;;
  esac
done
DENO_DIR=$home/deno_dir DENO_NO_UPDATE_CHECK=1
export DENO_DIR DENO_NO_UPDATE_CHECK
# shellcheck disable=SC2086 -- flags are words on purpose
exec "$home/deno" run ${SEALED} $flags "$home/brmr.js" "$@"
exit 1
`;
  const offset = new TextEncoder().encode(text("00000000")).length + 1;
  return text(`${offset}`.padStart(8, "0"));
}
