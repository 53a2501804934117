# shellcheck shell=bash
# What the scripts of ci/ share. Sourced, never run; it changes nothing by being read.
#
# It promises: every message goes to standard error, says whose step it is about and, where something failed, what
# to do; standard output stays for what a script was asked for.

# The top of the source tree, wherever a script was started from.
# shellcheck disable=SC2034 # read by the scripts that source this file
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# A line that a person finds again in a long log.
heading() { printf '\n=== %s ===\n' "$*" >&2; }

note() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
  note "$*"
  exit 1
}

# Runs a command as root: directly, or by sudo where that asks for no password.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo -n -- "$@" || die "'$1' has to run as root, and it failed or sudo refused it: run this script as root"
  else
    die "'$1' has to run as root: run this script as root, or install sudo"
  fi
}

# Installs packages of Debian; those that are there already cost nothing.
apt_install() {
  local missing=() package
  for package; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "${missing[*]} missing, and this system has no apt-get: install them by hand"
  note "installing ${missing[*]}"
  as_root apt-get update -qq || note "apt-get update failed: going on with the package lists that are here"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    </dev/null >/dev/null || die "apt-get could not install ${missing[*]}: its own message stands above"
}
