#!/bin/sh
# What a program needs beside itself, for an image made of another: libraries.sh PROGRAM HAVE LEAVE INTO
# Copies the shared libraries that PROGRAM is linked with into INTO/lib, but for those named in the file HAVE (what the
# other image holds) and LEAVE (a name, of one that comes from elsewhere). Of the Debian packages they are from, the
# licences go to INTO/share/doc, and what dpkg knows, which scanners of images ask for, to INTO/status.
# Debian's package of OpenCV asks for X11, Mesa and LLVM as well, 190 MB that nothing of this loads.
set -eu
program=$1 have=$2 leave=$3 into=$4

mkdir -p "$into/lib" "$into/share/doc" "$into/status"
linked=$(ldd "$program")
if echo "$linked" | grep 'not found' >&2; then exit 1; fi
echo "$linked" | awk '$2 == "=>" { print $1, $3 }' | while read -r name path; do
  if [ "$name" = "$leave" ] || grep -qxF "$name" "$have"; then continue; fi
  cp -L "$path" "$into/lib/$name"
  owner=$(dpkg-query -S "*/$(basename "$(readlink -f "$path")")")
  package=${owner%%:*}
  mkdir -p "$into/share/doc/$package"
  cp -L "/usr/share/doc/$package/copyright" "$into/share/doc/$package/"
  dpkg-query -s "$package" > "$into/status/$package"
done
