#!/bin/sh
# Makes .venv ready for every command of the Makefile. Called by `make setup`; safe to call again.
set -eu
cd "$(dirname "$0")/.."
start=$(date +%s)
log=.venv/setup.log

step() { printf 'setup %s  (%s s)\n' "$1" "$(($(date +%s) - start))"; }
fail() { printf 'setup failed: %s\n' "$1" >&2; exit 1; }

# The lock is for Python 3.11 and later; the robot's is another (requirements/robot.txt).
find_python() {
    for name in python3.11 python3 python3.12 python3.13; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    fail "no Python 3.11, 3.12 or 3.13 found. Install one: apt-get install python3.11 python3.11-venv"
}

# Headless rendering needs one of the two; MuJoCo opens them by name.
has_renderer() {
    "$1" -c 'import ctypes.util, sys; sys.exit(not ctypes.util.find_library("OSMesa"))' 2>/dev/null
}

apt_install() {  # $1: what for, then packages. As root it installs, otherwise it names them in one line.
    purpose=$1
    shift
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "$purpose needs: sudo apt-get install -y $*"
    fi
    step "apt-get install $* ($purpose)"
    apt-get update -qq >/dev/null 2>&1 || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null 2>&1 ||
        fail "$purpose: apt-get could not install $*; call 'apt-get install $*' to see why"
}

optional() {  # $1: what for, $2: a program of it, then packages. Only as root, and never a reason to fail.
    purpose=$1 program=$2
    shift 2
    if [ "$(id -u)" -eq 0 ] && ! PATH=$PATH:/usr/sbin command -v "$program" >/dev/null; then
        (apt_install "$purpose" "$@") || step "going on without $program"
    fi
}

pip_install() {
    if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@" >>"$log" 2>&1; then
        tail -n 15 "$log" >&2
        fail "pip could not install $* (whole log: $log)"
    fi
}

if [ -x .venv/bin/python ]; then
    python=.venv/bin/python
else
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        apt_install "a virtual environment" "$("$python" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')"
    step "1/5 new .venv with $("$python" --version)"
    "$python" -m venv .venv
fi
step "2/5 library for headless rendering"
has_renderer "$python" || apt_install "headless rendering" libosmesa6
: >"$log"
step "3/5 torch, first and alone (some 200 MB)"
pip_install -r requirements/torch.txt
step "4/5 the lock, $(grep -c '==' requirements/workstation.txt) packages (some 1 GB)"
pip_install -r requirements/workstation.txt
# Tests and commands that say why they skip without it.
optional "tests of GStreamer cameras" gst-launch-1.0 gstreamer1.0-tools gstreamer1.0-plugins-base
optional "tests of deploy over SSH" sshd openssh-server
optional "tests of system calls" strace strace
optional "counting instructions" valgrind valgrind gcc libc6-dev
step "5/5 edgevla itself"
rm -rf edgevla.egg-info  # of an older checkout: it would hide commands that are new
pip_install --no-deps --no-build-isolation --editable .
.venv/bin/python -m pip check --disable-pip-version-check >>"$log" 2>&1 || fail "$(tail -n 1 "$log")"
touch .venv/.ready
step "done"
