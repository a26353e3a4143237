#!/usr/bin/env bash
# run.sh IMAGE ARGUMENT…: the image's program with these arguments, as `make … RUN=docker` runs it: Python of train and deploy,
# ort_infer of runtime. The image is built from the checkout first, which takes seconds where nothing changed. IMAGE "all" builds
# each and runs none. The container sees the folders that the verb's variables name, under their own
# paths, and nothing else: WORK= and OUT= to write to, all others to read. Files belong to whoever calls.
#   DOCKER_BUILD, DOCKER_RUN: further options of `docker build` and `docker run`. GPUS=all or a number: the GPUs it gets.
set -euo pipefail
room=$1
shift
here=$PWD
cd "$(dirname "$0")/.."

fail() { # CODE TEXT
  echo "error: $2" >&2
  exit "$1"
}

engine() {
  local version
  command -v docker > /dev/null || fail 4 "there is no docker here; install Docker Engine 20.10 or later, or leave RUN=docker out"
  version=$(docker version --format '{{.Server.APIVersion}}' 2>&1) \
    || fail 4 "no Docker engine answers ($(tail -n 1 <<< "$version")); start it, or let your user talk to it (group docker)"
  [ "$(printf '%s\n' 1.41 "$version" | sort -V | head -n 1)" = 1.41 ] \
    || fail 4 "this Docker engine is too old (API $version): expected 1.41 or later, which came with Docker 20.10"
}

build() { # NAME FILE OPTION…
  local name=$1 file=$2 log=.build/docker-$1.log
  shift 2
  mkdir -p .build
  docker image inspect "slipway-$name" > /dev/null 2>&1 \
    || echo "building slipway-$name: minutes, the first time (log: $log)" >&2
  # shellcheck disable=SC2086
  docker build --quiet ${DOCKER_BUILD:-} "$@" --file "docker/$file.Dockerfile" --tag "slipway-$name" . > "$log" 2>&1 \
    || { tail -n 5 "$log" >&2; fail 4 "slipway-$name was not built; the whole log: $log"; }
}

declare -A seen=()
mounts=()
mount() { # VARIABLE PATH ro|rw
  local path=$2
  case $path in /*) ;; *) path=$here/$path ;; esac
  if [ "$3" = rw ]; then
    mkdir -p "$path" 2> /dev/null && [ -w "$path" ] \
      || fail 4 "$1=$2 cannot be written to by user $(id -u); give it away with chown, or name another folder"
  fi
  [ -e "$path" ] || fail 3 "$1=$2: no such file or folder, so the container could not see it"
  case $path in *:*) fail 2 "$1=$2: Docker takes no path with a colon" ;; esac
  if [ -n "${seen[$path]:-}" ]; then return; fi
  # What lies below WORK is seen already.
  if [ "$3" = ro ] && [[ $(realpath "$path")/ == "$folder"/* ]]; then return; fi
  seen[$path]=1
  mounts+=(--volume "$(realpath "$path"):$path$([ "$3" = rw ] || echo :ro)")
}

room_image() { # NAME
  [ "$1" != deploy ] || build environment train --target environment
  build "$1" "$1"
}

engine
if [ "$room" = all ]; then
  for name in train deploy runtime; do room_image "$name"; done
  docker image ls --format '{{.Repository}}  {{.Size}}' | grep '^slipway-'
  exit
fi
folder=none
mount WORK "${WORK:-work}" "$([ "$room" = runtime ] && echo ro || echo rw)"
folder=$(cd "$here" && realpath "${WORK:-work}")
[ -z "${OUT:-}" ] || mount OUT "$OUT" rw
# A config is read with those beside it.
[ -z "${CONFIG:-}" ] || mount CONFIG "$(dirname "$CONFIG")" ro
for variable in CONFIG DATA LOAD_FROM CHECKPOINT CALIBRATION BENCH GATES BUNDLE IMAGES VIDEO A B; do
  for path in ${!variable:-}; do
    case $path in *://*) continue ;; esac
    mount "$variable" "$path" ro
  done
done
# Prepared data sets hold links to the images that they were made of.
while read -r origin; do
  if [ -e "$origin" ]; then mounts+=(--volume "$origin:$origin:ro"); fi
done < <(sed -n 's/^ *"origin": "\(\/[^":]*\)",\{0,1\}$/\1/p' "$folder"/data/*/*.json 2> /dev/null | sort -u)

room_image "$room"
image=slipway-$room
gpus=()
if [ -n "${GPUS:-}" ]; then
  gpus=(--gpus "$GPUS")
  said=$(docker run --rm "${gpus[@]}" --network none --entrypoint /bin/true "$image" 2>&1) \
    || fail 4 "this Docker gives containers no GPU ($(head -n 1 <<< "$said")); install NVIDIA's container toolkit, or leave GPUS= out"
fi
# Only what downloads needs a network.
network=none
[ "$room" != train ] || network=${DOCKER_NETWORK:-bridge}
tty=()
if [ -t 0 ] && [ -t 1 ]; then tty=(--interactive --tty); fi
# shellcheck disable=SC2086
exec docker run --rm --init "${tty[@]}" --user "$(id -u):$(id -g)" --read-only --tmpfs /tmp:rw,exec,nosuid --cap-drop ALL \
  --security-opt no-new-privileges --shm-size 2g --network "$network" "${gpus[@]}" "${mounts[@]}" --workdir "$here" \
  ${DOCKER_RUN:-} "$image" "$@"
