#!/bin/sh
# What a bundle answers on another CPU architecture: an arm64 user space under qemu-user, with the robot's lock.
#   scripts/parity_arm64.sh BUNDLE ANSWERS.npz    (called by `python -m bench.parity_arm64 BUNDLE`)
#   scripts/parity_arm64.sh BUNDLE ANSWERS.npz -c PROGRAM    (other arguments for Python, which sees /bundle, /answers)
# The root (Debian bookworm, Python 3.11, 75 MB) and the aarch64 wheels are made once, in out/cache/arm64.
# Exit code 3: this machine cannot make or run it, the last line says why. 1: the lock has no aarch64 wheels.
set -eu
[ $# -ge 2 ] || { echo "usage: scripts/parity_arm64.sh BUNDLE ANSWERS.npz [ARGUMENTS FOR PYTHON]" >&2; exit 2; }
bundle=$(realpath "$1")
answers=$(realpath -m "$2")
shift 2
[ $# -gt 0 ] || set -- -m edgevla.bundle.answers /bundle "/answers/$(basename "$answers")"
cd "$(dirname "$0")/.."
repo=$PWD
cache=$repo/out/cache/arm64
python=${PYTHON:-.venv/bin/python}
qemu_cpu=${QEMU_CPU:-cortex-a76}  # as Orin's A78AE: dot products, no i8mm, no SVE; qemu 7.2 has no A78AE

fail() { printf 'parity-arm64 failed: %s\n' "$1" >&2; exit "${2:-3}"; }

apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null 2>&1; }

need() {  # $1: program, $2: its package
    command -v "$1" >/dev/null && return
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "$1 is missing: sudo apt-get install -y $2"
    fi
    apt_install "$2" || { apt-get update -qq >/dev/null 2>&1 && apt_install "$2"; } ||  # a fresh machine has no lists
        fail "apt-get could not install $2; call 'apt-get update && apt-get install $2' to see why"
}

need qemu-aarch64-static qemu-user-static
need mmdebstrap mmdebstrap
need unshare util-linux
mkdir -p "$cache"

if [ ! -d "$cache/root" ]; then
    rm -rf "$cache/root.part"
    mmdebstrap --quiet --arch=arm64 --variant=extract \
        --include=python3-minimal,libpython3.11-stdlib,libstdc++6,libgcc-s1 bookworm "$cache/root.part" >&2 ||
        fail "mmdebstrap could not make an arm64 root"
    mkdir -p "$cache/root.part/site" "$cache/root.part/code" "$cache/root.part/bundle" "$cache/root.part/answers" \
        "$cache/root.part/proc" "$cache/root.part/sys/devices/system/cpu"
    # Without these two lists ONNX Runtime finds no CPU features and aborts at import; with the host's it crashes.
    for list in possible present; do echo 0 >"$cache/root.part/sys/devices/system/cpu/$list"; done
    mv "$cache/root.part" "$cache/root"
fi

# qemu-user shows the host's /proc/cpuinfo; the features below are those of an Orin.
cat >"$cache/cpuinfo" <<'CPUINFO'
processor	: 0
BogoMIPS	: 62.50
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x4
CPU part	: 0xd0b
CPU revision	: 1

CPUINFO

lock=$(sha256sum requirements/robot.txt | cut -c1-12)
site=$cache/site-$lock
if [ ! -d "$site" ]; then
    rm -rf "$site.part" "$cache/wheels"
    "$python" -m pip download --quiet --disable-pip-version-check --dest "$cache/wheels" --only-binary=:all: \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
        --platform manylinux2014_aarch64 --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
        -r requirements/robot.txt >"$cache/pip.log" 2>&1 || {
            tail -n 5 "$cache/pip.log" >&2
            grep -qi 'connection\|timed out\|temporary failure' "$cache/pip.log" && fail "no network for the aarch64 wheels"
            fail "no aarch64 wheels for requirements/robot.txt" 1
        }
    mkdir "$site.part"
    for wheel in "$cache"/wheels/*.whl; do "$python" -m zipfile -e "$wheel" "$site.part"; done
    mv "$site.part" "$site"
fi

cp "$(command -v qemu-aarch64-static)" "$cache/root/usr/bin/"
mkdir -p "$(dirname "$answers")"
rm -f "$answers"
users=$([ "$(id -u)" -eq 0 ] || echo --map-root-user)
# shellcheck disable=SC2086 - $users may be empty
unshare $users --mount --pid --fork --propagation private mount -t tmpfs tmpfs "$cache/root/code" 2>"$cache/unshare.log" ||
    fail "no mount namespace of its own: $(tail -n 1 "$cache/unshare.log")"
export cache site bundle answers repo qemu_cpu
# shellcheck disable=SC2016,SC2086 - expanded inside; $users may be empty
exec unshare $users --mount --pid --fork --propagation private sh -eu -c '
root=$cache/root
mount --bind "$site" "$root/site"
mount --bind "$bundle" "$root/bundle"
mount --bind "$(dirname "$answers")" "$root/answers"
mount -t tmpfs tmpfs "$root/code"
for package in edgevla firmware_bridge profiles; do  # what a robot installs, and nothing else
    mkdir "$root/code/$package"
    mount --bind "$repo/$package" "$root/code/$package"
done
mount -t proc proc "$root/proc"
mount --bind "$cache/cpuinfo" "$root/proc/cpuinfo"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin QEMU_CPU="$qemu_cpu" PYTHONPATH=/code:/site PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 \
    chroot "$root" /usr/bin/qemu-aarch64-static /usr/bin/python3.11 "$@"
' sh "$@"
