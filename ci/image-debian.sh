#!/usr/bin/env bash
# Makes a small Docker image of a Debian suite from Debian's packages, where no registry can be reached.
#
# usage: ci/image-debian.sh SUITE TAG        e.g. ci/image-debian.sh bookworm vmailspec/debian:bookworm
#
# An image of that name that is already here is left alone (`docker rmi TAG` first, to make it anew). The mirror is the
# one that this system's own apt uses, or DEBIAN_MIRROR where that is set. Packages are verified by Debian's keys as
# always. It needs root (debootstrap makes device nodes), 300 MB under TMPDIR, and about half a minute.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

[ $# = 2 ] || die "usage: ci/image-debian.sh SUITE TAG"
suite=$1 tag=$2

if docker image inspect "$tag" >/dev/null 2>&1; then
  note "$tag is here"
  exit 0
fi
docker version >/dev/null 2>&1 || die "no Docker engine answers: run ci/docker-up first"
apt_install debootstrap debian-archive-keyring tar

# apt knows an archive's origin and label once its lists are here; debian-security has another label.
debian_mirror() {
  # shellcheck disable=SC2016 # apt's own fields, not the shell's
  apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 2>/dev/null |
    sed -n 's/^Debian|Debian|\(http[^|]*\)$/\1/p' | sort -u | head -n 1
}

mirror=${DEBIAN_MIRROR:-$(debian_mirror)}
if [ -z "$mirror" ]; then
  as_root apt-get update -qq || note "apt-get update failed"
  mirror=$(debian_mirror)
fi
[ -n "$mirror" ] || die "this system's apt sources name no Debian archive: set DEBIAN_MIRROR to the URL of one"

work=$(mktemp -d)
trap 'as_root rm -rf --one-file-system "$work"' EXIT
root=$work/root

note "$tag: debootstrap of $suite from $mirror"
as_root debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$work/log" 2>&1 </dev/null ||
  die "debootstrap of $suite from $mirror failed. Its last words:
$(tail -n 5 "$work/log")"

# What the image's own apt needs: the same archive, no questions, nothing superfluous, and the host's word on whether a
# Release file that is past its date may be used (a mirror that is a snapshot says so there).
{
  printf 'APT::Install-Recommends "false";\nAPT::Install-Suggests "false";\n'
  printf 'Acquire::Languages "none";\nDpkg::Use-Pty "false";\n'
  apt-config dump Acquire::Check-Valid-Until
  apt-config dump Acquire::Check-Date
} >"$work/apt.conf"
printf 'deb %s %s main\n' "$mirror" "$suite" >"$work/sources.list"
printf 'path-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\n' >"$work/dpkg.cfg"
printf '#!/bin/sh\n# No service starts while an image is built.\nexit 101\n' >"$work/policy-rc.d"
as_root install -m 644 "$work/apt.conf" "$root/etc/apt/apt.conf.d/90image"
as_root install -m 644 "$work/sources.list" "$root/etc/apt/sources.list"
as_root install -m 644 "$work/dpkg.cfg" "$root/etc/dpkg/dpkg.cfg.d/90image"
as_root install -m 755 "$work/policy-rc.d" "$root/usr/sbin/policy-rc.d"

# Slimmed by leaving out of the archive what a container never reads. Device nodes are Docker's to make.
as_root tar -C "$root" --numeric-owner \
  --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' --exclude='./tmp/*' --exclude='./run/*' \
  --exclude='./var/cache/apt/*.bin' --exclude='./var/cache/apt/archives/*.deb' --exclude='./var/lib/apt/lists/*' \
  --exclude='./var/cache/debconf/*-old' --exclude='./var/lib/dpkg/*-old' --exclude='./var/log/*' \
  --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/info/*' \
  --exclude='./usr/share/locale/*' --exclude='./etc/hostname' --exclude='./etc/resolv.conf' \
  -c . | docker import --change 'CMD ["/bin/sh"]' --message "debootstrap of $suite" - "$tag" >/dev/null || {
  docker rmi -f "$tag" >/dev/null 2>&1 || true # half an image is none
  die "the file tree of $suite could not be imported: is there room on the disk?"
}
note "$tag made"
