#!/bin/sh
# Makes .venv-lerobot, the environment with the real LeRobot. Called by `make test-lerobot`; safe to call again.
set -eu
cd "$(dirname "$0")/.."
venv=.venv-lerobot
ready=$venv/.ready
log=$venv/setup.log

fail() { printf 'setup of %s failed: %s\n' "$venv" "$1" >&2; exit 1; }
current() { cat requirements/torch.txt requirements/lerobot.txt | cksum; }

pip_install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >>"$log" 2>&1 || {
        tail -n 15 "$log" >&2
        fail "pip could not install $* (whole log: $log)"
    }
}

[ "$(cat "$ready" 2>/dev/null || true)" = "$(current)" ] && exit 0
python=python3.11
command -v "$python" >/dev/null || fail "needs Python 3.11. Install it: apt-get install python3.11 python3.11-venv"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || fail "no venv module: apt-get install python3.11-venv"
: >"$log"
printf 'setup 1/2 torch, first and alone (some 200 MB)\n'
pip_install -r requirements/torch.txt
printf 'setup 2/2 LeRobot and what it imports, %s packages\n' "$(grep -c '==' requirements/lerobot.txt)"
pip_install --no-deps -r requirements/lerobot.txt
current >"$ready"
printf 'setup done\n'
