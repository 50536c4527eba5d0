#!/bin/sh
# Makes a Debian package of a binary: deploy/debian/build.sh BINARY FOLDER [ARCHITECTURE]
#
# Man pages and completions come from the binary itself, so they are those of its version; the unit is deploy/systemd's. Needs
# dpkg-deb and binutils. COMPRESSION=none is for tests.
set -eu
command -v objdump strip > /dev/null || { echo "build.sh: install binutils" >&2; exit 1; }

binary=$(realpath "$1")
target=$(realpath "$2")
architecture=${3:-$(dpkg --print-architecture)}
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
version=$("$binary" --version | awk '{ print $2 }')

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
umask 022
chmod 755 "$tree"

mkdir -p "$tree/usr/bin"
strip --strip-debug -o "$tree/usr/bin/outspoke" "$binary"
chmod 755 "$tree/usr/bin/outspoke"
install -D -m 644 "$repository/deploy/systemd/outspoke.service" "$tree/lib/systemd/system/outspoke.service"
mkdir -p "$tree/etc/outspoke" "$tree/usr/share/man/man1" "$tree/usr/share/doc/outspoke"
"$binary" config default > "$tree/etc/outspoke/config.yaml"
"$binary" man --dir "$tree/usr/share/man/man1" > /dev/null
gzip -9n "$tree"/usr/share/man/man1/*
completions() {
    mkdir -p "$tree/$(dirname "$2")"
    "$binary" completions "$1" > "$tree/$2"
}
completions bash usr/share/bash-completion/completions/outspoke
completions zsh usr/share/zsh/vendor-completions/_outspoke
completions fish usr/share/fish/vendor_completions.d/outspoke.fish
install -m 644 "$here/copyright" "$tree/usr/share/doc/outspoke/copyright"
gzip -9nc "$repository/CHANGELOG.md" > "$tree/usr/share/doc/outspoke/changelog.gz"

mkdir "$tree/DEBIAN"
install -m 755 "$here/postinst" "$here/prerm" "$here/postrm" "$tree/DEBIAN/"
echo /etc/outspoke/config.yaml > "$tree/DEBIAN/conffiles"
size=$(du -sk --exclude=DEBIAN "$tree" | cut -f1)
# The oldest C library that has what the binary asks for; none for a static one.
depends=$(objdump -T "$binary" 2> /dev/null | grep -o 'GLIBC_2\.[0-9]*' | sort -Vu | tail -1 | sed 's/GLIBC_/libc6 (>= /; s/$/)/')
{
    printf 'Package: outspoke\nVersion: %s\nArchitecture: %s\n' "$version" "$architecture"
    printf 'Maintainer: The Outspoke authors <outspoke@users.noreply.github.com>\n'
    printf 'Installed-Size: %s\n' "$size"
    if [ -n "$depends" ]; then printf 'Depends: %s\n' "$depends"; fi
    printf 'Section: net\nPriority: optional\nHomepage: https://github.com/outspoke/outspoke\n'
    printf 'Description: self-hosted real-time messaging hub over WebSocket\n'
    printf ' One binary: rooms, history, presence, receipts, files, an HTTP API and a web\n chat; alone with an embedded store, or as a cluster.\n'
} > "$tree/DEBIAN/control"
(cd "$tree" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum) > "$tree/DEBIAN/md5sums"

package="$target/outspoke_${version}_${architecture}.deb"
dpkg-deb --root-owner-group -Z"${COMPRESSION:-xz}" --build "$tree" "$package" > /dev/null
echo "$package"
