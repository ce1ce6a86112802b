# edgevla. `make demo` and `make test` each do their own set-up; nothing else is needed first.
.DEFAULT_GOAL := help
.PHONY: $(shell grep -oE '^[a-z0-9-]+:' Makefile | tr -d :)

VENV := .venv/bin
READY := .venv/.ready

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 24

setup: $(READY)  ## .venv from the locks, libraries for headless rendering; done again only when a lock changes

$(READY): requirements/torch.txt requirements/workstation.txt pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh

demo: $(READY)  ## the whole line: distil, quantize, check, run, report in out/demo/report.html
	@$(VENV)/python -m examples.metaworld.demo

bench: $(READY)  ## pytest-benchmark suites of the hot paths: percentiles, counts; out/bench.json (3 minutes on a quiet machine)
	@mkdir -p out
	$(VENV)/pytest bench/suites --benchmark-only --benchmark-quiet --benchmark-json out/bench.json

BASE ?= HEAD
bench-compare: $(READY)  ## is this tree slower than BASE (HEAD)? The same hot paths in turns in one run; exit 1: yes, 3: not sound (5 minutes)
	@mkdir -p out
	$(VENV)/edgevla bench pairs $(BASE) -o out/bench-compare.json

bench-counts: $(READY)  ## instructions of the pure hot paths against bench/budgets/counts.toml (30 s; needs valgrind, gcc)
	$(VENV)/edgevla bench counts

guard: $(READY)  ## the real loop with the demo's policy against bench/budgets/guard-host.toml: 4,700 inferences, 8 minutes, root; out/guard.json
	$(VENV)/edgevla bench guard --bundle examples/metaworld/student.bundle --samples 4700 \
	  --budget bench/budgets/guard-host.toml --out out/guard.json

# Timing of the control loop: root, and a machine that does nothing else.
loop: $(READY)  ## jitter of the servo loop beside cyclictest, per rate and load, in one interleaved run (12 minutes; rt-tests)
	$(VENV)/edgevla bench loop -o bench/results/loop-windows.json

steady: $(READY)  ## memory of the servo process while it drives: growth, page faults, collections over 100,000 steps (6 minutes)
	$(VENV)/edgevla bench steady -o bench/results/steady.json

soak: $(READY)  ## 460,515 servo steps at 640 Hz with the demo's bundle: late commands, misses (12 minutes; goes on)
	$(VENV)/edgevla bench soak --bundle out/demo/student.bundle --servo-hz 640 -o bench/results/soak.json

# Seams and delay of the demo's bundle: in lockstep, nothing has to be quiet.
seams: $(READY)  ## jumps where chunks meet, five ways to join them, 0 to 8 ticks of delay (5 minutes)
	$(VENV)/python -m bench.seams --bundle out/demo/student.bundle --out bench/results/seams.json

delay: $(READY)  ## success with 0 to 8 ticks of delay, every way to join (35 minutes on one core; goes on)
	$(VENV)/python -m bench.delay --bundle out/demo/student.bundle --out bench/results/delay.json

# The reference policy and its evidence: long, resumable, results are committed.
TRAIN := $(VENV)/torchrun --standalone --nproc_per_node 2 -m examples.metaworld.train_teacher --data out/data
COMPRESS := $(VENV)/edgevla compress examples/metaworld/teacher --data out/demo/data --budget 7.5m --work out/demo/work

teacher: $(READY)  ## record demonstrations and train the reference teacher (2.5 hours; goes on where it was stopped)
	$(VENV)/python -m examples.metaworld.demos -o out/data
	$(TRAIN) --budget 73m --learning-rate 1.2e-3 --work out/stretch-1 -o out/stretch-1/teacher
	$(TRAIN) --budget 15m --repeats 2 --match out/stretch-1/teacher --work out/stretch-2 -o out/stretch-2/teacher
	$(TRAIN) --budget 60m --repeats 2 --initial out/stretch-2/teacher --seed 1 --learning-rate 9e-4 \
	  --work out/stretch-3 -o out/stretch-3/teacher
	$(VENV)/python -m examples.metaworld.choose_noise out/stretch-3/teacher
	cp out/stretch-3/teacher/config.json out/stretch-3/teacher/model.safetensors examples/metaworld/teacher/

blank: $(READY)  ## the control without words: the teacher trained on with blank instructions, after make teacher
	$(TRAIN) --initial examples/metaworld/teacher --blank-words --budget 8m --repeats 2 --learning-rate 3e-4 --work out/blank -o out/blank/teacher

controls: $(READY)  ## the students of the two controls, after make demo: demonstrations alone, without noise input
	$(COMPRESS) --mode demos-only -o out/demos-only.bundle
	$(COMPRESS) --mode without-z -o out/without-z.bundle

evidence: $(READY)  ## paired episodes behind bench/results/metaworld, after make demo and make controls
	$(VENV)/python -m examples.metaworld.evidence --bundle out/demo/student.bundle --teacher examples/metaworld/teacher \
	  --demos-only out/demos-only.bundle --without-z out/without-z.bundle $(if $(wildcard out/blank/teacher),--blank out/blank/teacher)

study: $(READY)  ## five structures at equal cost, one seed, after make demo (an hour on two cores; goes on)
	$(VENV)/python -m export.study --out bench/results/structures-run.json

study-full: $(READY)  ## the same with three seeds and 300 episodes a cell (some 4.5 hours on two cores; goes on, from make study too)
	$(VENV)/python -m export.study --full --out bench/results/structures-run.json

# The policy of ten tasks (docs/policy.md): each step is kept; the same command goes on where it was stopped.
MT := examples.metaworld.mt
out/mt10/data/dataset.json: | $(READY)
	$(VENV)/python -m $(MT).demos -o out/mt10/data

out/mt10/stills/dataset.json: | $(READY)
	$(VENV)/python -m $(MT).play -o out/mt10/stills --scenes 300

out/mt10/teacher/config.json: examples/metaworld/mt/mt10.toml | out/mt10/data/dataset.json out/mt10/stills/dataset.json
	OMP_NUM_THREADS=1 $(VENV)/torchrun --standalone --nproc_per_node 2 -m export.structures.train $< --half -o out/mt10/teacher

# From the committed teacher: make policy-mt10 TEACHER=examples/metaworld/mt/teacher
TEACHER ?= out/mt10/teacher
RESULTS := out/mt10/results
out/mt10/student.bundle: | $(TEACHER)/config.json out/mt10/data/dataset.json out/mt10/stills/dataset.json
	grep -q chosen_from $(TEACHER)/config.json || OMP_NUM_THREADS=1 $(VENV)/python -m $(MT).starts --teacher $(TEACHER)
	$(VENV)/edgevla compress $(TEACHER) --data examples/metaworld/mt/lessons.py:ten --depth 1 --budget 15m --work out/mt10/work -o $@

policy-mt10: out/mt10/student.bundle  ## the policy of ten tasks from nothing: data, teacher, student, evidence (some 5 hours on two cores; goes on)
	OMP_NUM_THREADS=1 $(VENV)/python -m $(MT).evaluate --bundle $< --teacher $(TEACHER) -o $(RESULTS)
	OMP_NUM_THREADS=1 $(VENV)/python -m $(MT).robustness --bundle $< --teacher $(TEACHER) -o $(RESULTS)
	$(VENV)/python -m $(MT).realtime --bundle $< -o $(RESULTS)
	OMP_NUM_THREADS=1 $(VENV)/python -m $(MT).gallery --bundle $< -o out/mt10/gallery

out/demo/data/dataset.json:
	@echo "no demonstrations in out/demo/data: run make demo first" >&2; exit 4

out/so101: | $(READY)
	$(VENV)/python -m examples.so101.demos -o $@

recipes: out/demo/data/dataset.json out/so101  ## another robot's data before, beside or not at all, three seeds, after make demo (some four hours on two cores; goes on)
	$(VENV)/python -m export.study.recipes --out bench/results/recipes.json

bench-bus: $(READY)  ## every protocol at the wire's pace and beside the maker's library, alone on the machine (6 minutes)
	$(VENV)/python -m bench.bus -o bench/results/bus.json

bench-deploy: $(READY)  ## bytes that a redeploy of 100 MB moves, seconds of one without a change, over a real sshd on loopback (1 minute)
	PYTHONPATH=. $(VENV)/python -m tests.deploy_figures --out bench/results/deploy-loopback.json

test-powercut: $(READY)  ## power cut at every mutating call of the installer, and SIGKILL for real; bench/results/powercut.json (needs strace)
	$(VENV)/python -m tests.powercut -o bench/results/powercut.json

test-mutation: $(READY)  ## single faults in limiter, send paths and watchdog: each must fail a test (half an hour on two cores)
	$(VENV)/python -m tests.mutation -o out/mutation.json

figures: $(READY)  ## the tables in README and docs from bench/results
	$(VENV)/python -m bench.summaries
	$(VENV)/python -m bench.readme

# The microcontroller's side of edgelink (docs/firmware.md). ARM=name chooses another arm profile.
ARM ?= metaworld-sawyer

firmware: $(READY)  ## out/firmware: edgelink-host (a pty) and edgelink-m4 (QEMU); gcc, gcc-arm-none-eabi, libnewlib-arm-none-eabi
	$(VENV)/edgevla firmware build $(ARM) -o out/firmware

test-firmware: firmware  ## C units, fuzz, limiter on 10^6 cases, driver against host board and Cortex-M4 in QEMU, figures (2 minutes)
	EDGEVLA_QEMU=1 OMP_NUM_THREADS=1 $(VENV)/pytest tests/firmware_bridge/firmware tests/edgevla/cli/test_firmware.py
	PYTHONPATH=. $(VENV)/python -m tests.firmware_bridge.firmware.limiter_cases --cases 1000000
	$(VENV)/python -m bench.firmware --build out/firmware

FUZZ_S ?= 600
fuzz-firmware:  ## libFuzzer on the whole device in C, FUZZ_S seconds (600); the corpus stays in out/fuzz-firmware
	PYTHONPATH=. $(VENV)/python -m tests.firmware_bridge.firmware.fuzz --seconds $(FUZZ_S) --out out/fuzz-firmware

lint: $(READY)  ## ruff, mypy, and the import arrows between the folders
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/lint-imports --no-cache

# What only computes shares the cores (tests/conftest.py says which); what runs in real time has them for itself, and
# once more where it breaks: a shared machine that stands still breaks one run, broken code breaks both. Both are
# printed. A command beyond limits is never forgiven: no stall makes one.
ONCE_MORE = --reruns 1 --rerun-except "beyond limits" --rerun-show-tracebacks -raR
test: $(READY) lint  ## lint and every test
	$(VENV)/pytest -n 2 --dist loadfile -m parallel
	$(VENV)/pytest -m "not parallel" --ignore tests/export $(ONCE_MORE)

coverage: $(READY)  ## every branch of codecs and limiter is taken by a test, or this fails (4 minutes)
	$(VENV)/coverage run -m pytest tests/firmware_bridge tests/edgevla/control/test_limiter.py tests/edgevla/control/test_kinematics.py
	$(VENV)/coverage report

test-faults: $(READY)  ## every fault of docs/reliability.md against the real loop, alone on the machine (6 minutes); bench/results/faults-run.json
	$(VENV)/python -m tests.faults --out bench/results/faults-run.json

test-lerobot:  ## against the real LeRobot, in an environment of its own (.venv-lerobot, made on the first call)
	@sh scripts/setup_lerobot.sh
	PYTHONPATH=. OMP_NUM_THREADS=1 .venv-lerobot/bin/pytest tests_lerobot

test-vivid: $(READY)  ## V4L2 cameras against the kernel's test driver in QEMU (needs qemu-system-x86 busybox-static kmod)
	$(VENV)/python -m tests.vivid

test-can: $(READY)  ## real SocketCAN in QEMU (vcan, slcan): transport, drivers, vendor libraries; bench/results/can.json (needs qemu-system-x86 busybox-static kmod iproute2)
	$(VENV)/python -m tests.qemu_can --out bench/results/can.json

# Stand-ins for a Jetson at three depths. Each says why where it cannot run; roots are kept in out/cache/stand_in.
smoke-aarch64: $(READY)  ## the robot's wheels and golden vectors on an emulated arm64 (20 s; the first time a minute)
	OMP_NUM_THREADS=1 $(VENV)/python -m tests.stand_in.smoke

test-nspawn: $(READY)  ## a robot in a container: arm64 systemd and sshd under qemu-user; root; bench/results/nspawn.json
	$(VENV)/python -m tests.stand_in.nspawn --out bench/results/nspawn.json

test-twin: $(READY)  ## a robot as a virtual machine: arm64, PREEMPT_RT, vcan, slcand, reset; root; bench/results/twin.json
	$(VENV)/python -m tests.stand_in.twin --out bench/results/twin.json

test-fleet: $(READY)  ## the Ansible role of examples/fleet against five robots behind a real sshd (minutes); bench/results/fleet.json
	OMP_NUM_THREADS=1 $(VENV)/python -m tests.fleet --out bench/results/fleet.json

fuzz-trust: $(READY)  ## every reader of keys, envelopes and archives, a minute each (atheris); out/fuzz-trust
	$(VENV)/pip install --quiet "atheris>=2.3,<4"
	$(VENV)/python -m tests.edgevla.trust.fuzz --seconds 60

fuzz-bridge: $(READY)  ## every decoder of the bridge for 10 minutes, two at a time (atheris); bench/results/fuzz.json
	$(VENV)/pip install --quiet "atheris>=2.3,<4"
	$(VENV)/python -m tests.firmware_bridge.fuzz --jobs 2 --out bench/results/fuzz.json

model-check: $(READY)  ## every state of the servo's machine for every accepted schedule up to H = 16 (make test: 12; 6 minutes)
	EDGEVLA_MODEL_CHECK=16 $(VENV)/pytest tests/edgevla/control/test_machine.py

model-check-all: $(READY)  ## the same with words, rest and oversleeping over every schedule, not only the shortest H of each (hours)
	EDGEVLA_MODEL_CHECK=all $(VENV)/pytest tests/edgevla/control/test_machine.py

search: $(READY)  ## which layers of the demo's bundle become int8, by action error and latency; in out/search
	$(VENV)/python -m export.search out/demo/student.bundle --data out/demo/data -o out/search

compare: $(READY)  ## the demo's bundle beside ONNX Runtime FP32, OpenVINO and its teacher, in one interleaved run
	$(VENV)/python -m bench.compare out/demo/student.bundle --data out/demo/data --out bench/results/compare.json

bench-peers: $(READY)  ## other engines, LeRobot's loop, vendor libraries and cyclictest beside ours, one table (35 minutes; goes on)
	@sh scripts/setup_lerobot.sh
	$(VENV)/edgevla bench peers -o bench/results/peers.json

bench-scaling: $(READY)  ## cost against pictures, cameras, chunk, history, joints, size, rate and arms (15 minutes; goes on)
	$(VENV)/edgevla bench scaling -o bench/results/scaling.json --svg docs/images/scaling.svg

parity-arm64: $(READY)  ## golden vectors of the demo's bundle on an emulated arm64 (qemu-user), against this CPU
	$(VENV)/python -m bench.parity_arm64 out/demo/student.bundle

smolvla: $(READY)  ## SmolVLA 450 M, one int8 pass beside LeRobot's own ten steps (half an hour, 9 GB of disk; goes on)
	@sh scripts/setup_lerobot.sh
	PYTHONPATH=. $(VENV)/python -m bench.smolvla --work out/smolvla --lerobot-python .venv-lerobot/bin/python \
	  --out bench/results/smolvla.json

teacher-memory: $(READY)  ## a teacher of 400 M in fp32, bf16, int8 and nf4: bytes and resident memory
	$(VENV)/python -m bench.teacher_memory --out bench/results/teacher-memory.json

export-figures: $(READY)  ## bench/results/export.json from the raw results of compare, smolvla, teacher-memory and demo
	$(VENV)/python -m bench.export

verify-results: $(READY)  ## every committed summary computed again, and a random 5 % of the paired episodes played again (2 minutes on a quiet machine)
	OMP_NUM_THREADS=1 $(VENV)/python -m bench.verify

clean:  ## remove everything that was made, .venv too
	rm -rf .venv .venv-lerobot out build dist *.egg-info .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
